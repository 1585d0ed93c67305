"""What a model's files say, by a reading of our own, and ways to damage them."""

import io
import json
import math
import os
import pickle
import struct
import zipfile
from pathlib import Path
from random import Random
from typing import Any, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

from art_idguard.models.loading import MODELS

TYPES = {
    **{"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "BOOL": torch.bool},
    **{"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "C64": torch.complex64},
    **{"U64": torch.uint64, "U32": torch.uint32, "U16": torch.uint16, "U8": torch.uint8},
    **{"F8_E5M2": torch.float8_e5m2, "F8_E4M3": torch.float8_e4m3fn},
}
NAMES = {dtype: name for name, dtype in TYPES.items()}
WRONG = (None, True, -1, 0, 3, 0.5, 10**30, math.nan, math.inf, "", "text", "8", [], [1], ["a"], {}, {"a": 1}, [[[]]])
"""Values that stand where others belong."""


def _no_constant(name):
    raise ValueError(name)


def read_safetensors(content: bytes) -> dict[str, Tensor] | None:
    """By the published format; None where the file breaks one of its rules."""
    length = int.from_bytes(content[:8], "little")
    data = content[8 + length :] if len(content) >= 8 + length and len(content) >= 8 else None
    try:
        header = json.loads(content[8 : 8 + length], parse_constant=_no_constant)
        metadata = header.pop("__metadata__", None)
        metadata = {} if metadata is None else metadata
        if data is None or content[8:9] != b"{" or not all(isinstance(value, str) for value in metadata.values()):
            return None
        entries = sorted(header.items(), key=lambda entry: entry[1]["data_offsets"])
        found, end = {}, 0
        for name, entry in entries:
            dtype, shape, (first, last) = TYPES[entry["dtype"]], entry["shape"], entry["data_offsets"]
            if (
                {type(n) for n in (*shape, first, last)} != {int}
                or min(shape, default=0) < 0
                or first != end
                or last > len(data)
            ):
                return None
            if last - first != math.prod(shape) * dtype.itemsize:
                return None
            part, end = bytearray(data[first:last]), last
            found[name] = (
                torch.frombuffer(part, dtype=dtype).reshape(shape) if part else torch.empty(shape, dtype=dtype)
            )
        return found if end == len(data) else None
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None


def write_safetensors(header: dict[str, Any] | bytes, data: bytes) -> bytes:
    if isinstance(header, dict):
        header = json.dumps(header).encode()
    return struct.pack("<Q", len(header)) + header + data


def split_safetensors(content: bytes) -> tuple[dict[str, Any], bytes]:
    end = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:end]), content[end:]


def packed(state: dict[str, Tensor]) -> bytes:
    header, data = {}, b""
    for name, tensor in state.items():
        raw = tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
        shape, offsets = list(tensor.shape), [len(data), len(data) + len(raw)]
        header[name] = {"dtype": NAMES[tensor.dtype], "shape": shape, "data_offsets": offsets}
        data += raw
    return write_safetensors(header, data)


def fitting(state: dict[str, Tensor] | None, own: dict[str, Tensor]) -> dict[str, Tensor] | None:
    """What a model with the tensors `own` has to take from the file: everything as float32, or nothing."""
    if state is None:
        return None
    plain = {".".join(p for p in name.split(".") if p not in ("module", "_orig_mod")): t for name, t in state.items()}
    needed = {name for name in own if not name.endswith("num_batches_tracked")}
    if len(plain) < len(state) or not needed <= plain.keys() <= own.keys():
        return None
    for name, tensor in plain.items():
        if tensor.shape != own[name].shape or own[name].is_floating_point() > tensor.is_floating_point():
            return None
        if own[name].is_floating_point() and not tensor.float().isfinite().all():
            return None
    return {name: plain[name].to(own[name].dtype) if name in plain else own[name] for name in own}


def read_settings(content: bytes, kind: str) -> dict[str, Any] | None:
    """What a config.json says of a model of this kind: its settings, each of its type; None where it does not."""
    try:
        config = json.loads(content.decode())
    except (ValueError, RecursionError):
        return None
    if len(content) > 64 * 1024 or not isinstance(config, dict) or config.get("model_type") != kind:
        return None
    hints = get_type_hints(MODELS[kind].__init__)
    settings = {k: v for k, v in config.items() if k not in ("model_type", "sha256", "license", "license_name")}
    sound = all(name in hints and _is_of(value, hints[name]) for name, value in settings.items())
    return settings | {"sha256": config.get("sha256")} if sound else None


def _is_of(value: Any, hint: Any) -> bool:
    parts = get_args(hint)
    if hint is float:
        return type(value) in (int, float) and abs(value) <= 2**16
    if hint is int:
        return type(value) is int
    if get_origin(hint) is dict:
        return isinstance(value, dict)
    if parts and get_origin(hint) is not None and str(get_origin(hint)).endswith("Sequence'>"):
        return isinstance(value, list) and all(_is_of(item, parts[0]) for item in value)
    if parts and all(isinstance(part, type) for part in parts):
        return any(_is_of(value, part) for part in parts)
    if parts and any(isinstance(part, type) or get_origin(part) for part in parts):
        return any(value is None if part is type(None) else _is_of(value, part) for part in parts)
    if parts:
        return any(type(value) is type(part) and value == part for part in parts)
    return isinstance(value, hint)


# --- damage ---


def flipped(random: Random, content: bytes) -> bytes:
    """One bit, in the first bytes or anywhere."""
    end = random.choice((8, 200, len(content)))
    place = random.randrange(min(end, len(content)))
    return content[:place] + bytes([content[place] ^ 1 << random.randrange(8)]) + content[place + 1 :]


def cut(random: Random, content: bytes) -> bytes:
    return content[: random.choice((0, 1, 7, 8, 9, len(content) - 1, random.randrange(len(content))))]


def grown(random: Random, content: bytes) -> bytes:
    return content + random.randbytes(random.choice((1, 8, 1000)))


def zeroed(random: Random, content: bytes) -> bytes:
    first = random.randrange(len(content))
    last = min(len(content), first + random.choice((1, 16, 4096)))
    return content[:first] + bytes(last - first) + content[last:]


def as_text(random: Random, content: bytes) -> bytes:
    """What editors and transfers do."""
    kind = random.choice(("bom", "utf-16", "crlf", "latin"))
    if kind == "crlf":
        return content.replace(b"\n", b"\r\n")
    if kind == "utf-16":
        return content.decode("latin-1").encode("utf-16")
    return (b"\xef\xbb\xbf" if kind == "bom" else b"\xe4") + content


BYTES = (flipped, cut, grown, zeroed)


def header_damage(random: Random, content: bytes) -> bytes:
    """The header rewritten: some of it changes no value."""
    header, data = split_safetensors(content)
    name = random.choice([name for name in header if name != "__metadata__"])
    entry = header[name]
    kind = random.randrange(12)
    if kind == 0:
        entry["dtype"] = random.choice((*TYPES, "F4", "X9", *WRONG))
    elif kind == 1:
        entry["shape"] = random.choice((*WRONG, [0], [-1, 2], [2**62, 4], [1, *entry["shape"]], entry["shape"][::-1]))
    elif kind == 2:
        first, last = entry["data_offsets"]
        offsets = ([last, first], [first, last + 4], [first + 4, last], [0, len(data)], [-4, last], [first, 2**64 - 1])
        entry["data_offsets"] = random.choice((*offsets, *WRONG))
    elif kind == 3:
        prefixes = ("x", "module.", "_orig_mod.", "module.module.", "\x00", "é")
        header[random.choice(prefixes) + name] = header.pop(name)
    elif kind == 4:
        del header[name]
    elif kind == 5:
        other = random.choice([n for n in header if n not in (name, "__metadata__")])
        entry["data_offsets"], header[other]["data_offsets"] = header[other]["data_offsets"], entry["data_offsets"]
    elif kind == 6:
        metadata = {"a": random.choice(("text", "x" * 100_000, *WRONG))}
        header["__metadata__"] = random.choice((metadata, *WRONG))
    elif kind == 7:
        header[name] = random.choice(WRONG)
    elif kind == 8:
        entry[random.choice(("dtype", "shape", "data_offsets"))] = random.choice(WRONG)
        header["more"] = {"dtype": "F32", "shape": [0], "data_offsets": [len(data), len(data)]}
    elif kind == 9:  # sound: as any writer may have it
        items = list(header.items())
        random.shuffle(items)
        return write_safetensors(json.dumps(dict(items), indent=random.choice((None, 1))).encode() + b" " * 7, data)
    elif kind == 10:
        deep = random.choice((100, 5000, 100_000))
        return write_safetensors(b'{"a":' + b"[" * deep + b"]" * deep + b"}", data)
    else:  # a name twice, the last counts
        text = json.dumps(header)[:-1] + f", {json.dumps(name)}: {json.dumps(entry)}}}"
        return write_safetensors(text.encode(), data)
    return write_safetensors(header, data)


def value_damage(random: Random, content: bytes) -> bytes:
    """Other numbers, other precisions, other names, in a sound file."""
    state = read_safetensors(content)
    name = random.choice([name for name, tensor in state.items() if tensor.is_floating_point() and tensor.numel()])
    kind = random.randrange(6)
    if kind == 0:
        dtype = random.choice(list(TYPES.values()))
        state = {n: t.to(dtype) if t.is_floating_point() else t for n, t in state.items()}
    elif kind == 1:
        state[name] = state[name].to(random.choice(list(TYPES.values())))
    elif kind == 2:
        state[name] = state[name].double()
        state[name].view(-1)[random.randrange(state[name].numel())] = random.choice(
            (math.nan, math.inf, -math.inf, 1e300, 1e-300, 3e38)
        )
    elif kind == 3:
        state = {random.choice(("module.", "_orig_mod.", "")) + n: t for n, t in state.items()}
    elif kind == 4:
        state = {n: t for n, t in state.items() if not n.endswith("num_batches_tracked")}
    else:
        state["more"] = torch.zeros(random.choice(((), (0,), (2, 3))))
    return packed(state)


def torch_bytes(content: Any, *, legacy: bool = False) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


class Payload:
    """A pickle that would leave a file behind if it were read."""

    def __init__(self, target: Path):
        self.target = str(target)

    def __reduce__(self):
        return open, (self.target, "w")


def compressed(content: bytes) -> bytes:
    """The same archive with everything in it deflated."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as plain, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target:
        for name in plain.namelist():
            target.writestr(name, plain.read(name))
    return buffer.getvalue()


def foreign(random: Random, state: dict[str, Tensor], target: Path) -> bytes:
    """A file of another kind: pickles, archives, text, noise."""
    payload = Payload(target)
    return random.choice(
        (
            lambda: torch_bytes(state),
            lambda: torch_bytes(state, legacy=True),
            lambda: torch_bytes({"x": payload}),
            lambda: torch_bytes({"x": payload}, legacy=True),
            lambda: pickle.dumps(payload, random.randrange(6)),
            lambda: compressed(torch_bytes({"w": torch.zeros(20_000_000)})),
            lambda: compressed(torch_bytes({"x": payload})),
            lambda: b"\x1f\x8b\x08" + random.randbytes(100),
            lambda: b"<html>not found</html>\n",
            lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n",
            lambda: random.randbytes(random.randrange(1, 5000)),
        )
    )()


def unlike_a_file(random: Random, path: Path) -> None:
    """Something else of that name."""
    content = path.read_bytes()
    path.unlink()
    kind = random.choice(("missing", "folder", "pipe", "link outside", "link in", "dangling", "endless", "loop"))
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "link outside":
        outside = path.parents[1] / "outside"
        outside.write_bytes(content)
        path.symlink_to(outside)
    elif kind == "link in":
        (path.parent / "v2.data").write_bytes(content)
        path.symlink_to("v2.data")
    elif kind == "dangling":
        path.symlink_to("nowhere")
    elif kind == "endless":
        path.symlink_to("/dev/zero")
    elif kind == "loop":
        path.symlink_to(path.name)

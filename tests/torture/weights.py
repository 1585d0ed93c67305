"""Model folders, weights files, settings, cards, checkpoints, logs, caches and recipes, whole and damaged.

What a damaged file still says is known by a reading of our own (`weight_files`), never by what was done to it: exactly
that is loaded, bit for bit, or the file is refused by its name.
"""

import io
import json
import resource
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from torch import Tensor

from art_idguard.cli import main
from art_idguard.files.digests import sha256
from art_idguard.forensics import Watermarker
from art_idguard.hub.loading import load_member
from art_idguard.manipulators import MANIPULATORS
from art_idguard.manipulators.base import Manipulator
from art_idguard.models.loading import MODELS, load
from art_idguard.perturbation import Protector
from art_idguard.recognizers import RECOGNIZERS
from art_idguard.restorers import FaceInpainter
from tests.hub.server import Repository, serving
from tests.torture import run_files, weight_files
from tests.torture.run_files import refused, tried
from tests.torture.weight_files import BYTES, WRONG
from tests.toys import PORTRAIT, tiny

NAME = "weights"
IN_SUITE = 20

KINDS = tuple(kind for kind in MODELS if kind != "arcface")  # whose smallest has 13 MB
ID = "someone/model"
SECONDS, BYTES_MORE = 8, 300_000_000
"""What reading a file may take of this process, on a busy machine, and of memory."""


def attempt(random: Random, folder: Path) -> str:
    doors = {_folder: 6, _official: 3, _push: 3, _readme: 1} | dict.fromkeys(run_files.DOORS, 1)
    (door,) = random.choices(list(doors), list(doors.values()))
    peak, began = _peak(), time.process_time()
    with warnings.catch_warnings(action="ignore"):
        outcome = door(random, folder)
    took, grown = time.process_time() - began, _peak() - peak
    assert took < SECONDS, f"{took:.1f} s"
    assert grown < BYTES_MORE, f"{grown:,} bytes"
    assert not (folder / "ran").exists(), "a pickle ran"
    return f"{door.__name__.strip('_')}: {outcome}"


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@cache
def _whole(kind: str) -> Path:
    """A sound folder of this kind."""
    folder = Path(tempfile.mkdtemp(prefix="torture-")) / kind
    tiny(kind).save_pretrained(folder)
    return folder


@contextmanager
def command(*words: Any) -> Iterator[dict[str, Any]]:
    """A command's exit code and output; whatever ends badly says so in one line, without a traceback."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main([str(word) for word in words])
    found = {"code": code, "out": out.getvalue(), "err": err.getvalue()}
    assert code in (0, 1), found
    assert (code == 1) == ("art-idguard: error: " in found["err"]), found
    assert "Traceback" not in found["err"], found
    yield found


@torch.no_grad()
def _answer(model: torch.nn.Module) -> Tensor:
    faces = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    if isinstance(model, Protector):
        return model(faces).specific
    if isinstance(model, Manipulator):
        return model(faces, model.edits(torch.zeros(1, 5))[-1]).output
    if isinstance(model, Watermarker):
        return model.read(model(faces, torch.ones(1, model.bits)))
    if isinstance(model, FaceInpainter):
        return model(faces, (faces[:, :1] > 0).float())
    return model(faces)


def _reference(kind: str, settings: dict[str, Any] | None, state: dict[str, Tensor] | None) -> torch.nn.Module | None:
    """The model that the files describe, made without the package's reading; None where they describe none."""
    own = json.loads((_whole(kind) / "config.json").read_text())
    if settings is None or state is None:
        return None
    free = ("seed", "fade", "lowpass", "sha256")  # they make no tensor larger
    sizes = {name: value for name, value in settings.items() if name not in free}
    if any(size > 300 for size in _numbers(sizes)) and sizes != {name: own[name] for name in sizes}:
        return None
    try:
        model = MODELS[kind](**{name: value for name, value in settings.items() if name != "sha256"}).eval()
    except Exception:  # whatever the constructor makes of it
        return None
    state = weight_files.fitting(state, model.state_dict())
    if state is not None:
        model.load_state_dict(state)
    return model if state is not None else None


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for part in value:
            yield from _numbers(part)
    elif isinstance(value, (int, float)):
        yield abs(value)


# --- a model's folder ---


def _damaged_folder(random: Random, folder: Path) -> tuple[str, Path]:
    kind = random.choice(KINDS)
    model = folder / "model"
    shutil.copytree(_whole(kind), model)
    weights, config = model / "model.safetensors", model / "config.json"
    settings = json.loads(config.read_text())
    damaged = random.sample(("weights", "settings", "digest", "file"), random.choice((0, 1, 1, 1, 2)))
    if "weights" in damaged:
        weights.write_bytes(_weights_damage(random, kind, folder / "ran"))
        if random.random() < 0.9:
            settings["sha256"] = sha256(weights)
    if "digest" in damaged:
        settings["sha256"] = random.choice((None, "0" * 64, settings["sha256"].upper(), 5, [], ""))
    elif random.random() < 0.3:
        del settings["sha256"]
    config.write_bytes(_settings_damage(random, settings) if "settings" in damaged else json.dumps(settings).encode())
    if "file" in damaged:
        weight_files.unlike_a_file(random, random.choice((weights, config)))
    return kind, model


def _weights_damage(random: Random, kind: str, target: Path) -> bytes:
    content = (_whole(kind) / "model.safetensors").read_bytes()
    match random.randrange(10):
        case 0:
            return weight_files.foreign(random, tiny(kind).state_dict(), target)
        case 1:
            return (_whole(random.choice(KINDS)) / "model.safetensors").read_bytes()
        case 2 | 3:
            return random.choice(BYTES)(random, content)
        case 4 | 5 | 6:
            return weight_files.header_damage(random, content)
        case _:
            return weight_files.value_damage(random, content)


def _settings_damage(random: Random, settings: dict[str, Any]) -> bytes:
    text = json.dumps(settings, indent=random.choice((None, 2)))
    name = random.choice(list(settings))
    match random.randrange(9):
        case 0:
            text = json.dumps(settings | {name: random.choice(WRONG)})
        case 1:
            text = json.dumps(settings | {random.choice(("chanels", "__class__", "self", "epsilon", "")): 1})
        case 2:
            del settings[name]
            text = json.dumps(settings)
        case 3:
            text = json.dumps(settings | {"model_type": random.choice((*MODELS, *WRONG))})
        case 4:
            return random.choice((*BYTES, weight_files.as_text))(random, text.encode())
        case 5:
            text = text.rstrip("}") + f", {json.dumps(name)}: {json.dumps(random.choice((settings[name], *WRONG)))}}}"
        case 6:
            deep = random.choice((random.randrange(1200), 20_000))
            text = json.dumps(settings | {name: "@"}).replace('"@"', "[" * deep + "]" * deep)
        case 7:
            value = settings[name]
            if isinstance(value, int):
                value = random.choice((value + 1, value * 2, -value, value * 1000, float(value), str(value)))
            elif isinstance(value, list):
                value = random.choice((value[:-1], [*value, *value], value * 300, [value], value[::-1], [str(value)]))
            text = json.dumps(settings | {name: value})
        case 8:
            text = json.dumps(settings | {"license": random.choice(("mit", *WRONG))})
    return text.encode()


def _expected(kind: str, model: Path) -> torch.nn.Module | None:
    content = {}
    for name in ("model.safetensors", "config.json"):
        path = model / name
        if not path.is_file() or not path.resolve().is_relative_to(model.resolve()):
            return None
        content[name] = path.read_bytes()
    settings = weight_files.read_settings(content["config.json"], kind)
    if settings is not None and settings["sha256"] not in (None, sha256(model / "model.safetensors")):
        return None
    return _reference(kind, settings, weight_files.read_safetensors(content["model.safetensors"]))


def _folder(random: Random, folder: Path) -> str:
    """Loaded as what its files say, by every door, or refused by name."""
    kind, model = _damaged_folder(random, folder)
    before = _listing(model)
    expected = _expected(kind, model)
    outcome = _loads(lambda: random.choice((load, MODELS[kind].from_pretrained))(model), expected, model)
    with command("info", model) as found:
        assert (found["code"] == 0) == (expected is not None), found
        digest = json.loads((model / "config.json").read_bytes()).get("sha256") if expected is not None else None
        assert ("(verified)" in found["out"]) == (digest is not None), found
    if random.random() < 0.05 and not any(path.is_symlink() for path in model.iterdir()):
        assert _loads(lambda: _pulled(model, folder / "cache"), expected, "model") == outcome
    assert _listing(model) == before
    return outcome


def _listing(folder: Path) -> list[tuple[Path, int]]:
    return sorted((path, path.lstat().st_size) for path in folder.rglob("*"))


def _loads(
    door: Callable[[], torch.nn.Module], expected: torch.nn.Module | None, named: Path | str, *, sound: bool = True
) -> str:
    """The very model that is expected; one that is not `sound` may also be refused."""
    model, error = tried(door)
    if error:
        return refused(error, named, sound=sound and expected is not None)
    assert expected is not None, "taken though it is damaged"
    found, wanted = model.state_dict(), expected.state_dict()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted if wanted[name].is_floating_point())
    assert torch.equal(_answer(model), _answer(expected))
    return "loaded"


def _pulled(model: Path, cache_dir: Path) -> torch.nn.Module:
    """The same files by way of the Hub."""
    files = {path.name: path.read_bytes() for path in model.iterdir() if path.is_file()}
    with serving() as hub, pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.ENDPOINT", hub.endpoint)
        template = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        patch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache_dir))
        patch.setattr("time.sleep", lambda seconds: None)
        hub.repositories[ID] = Repository()
        hub.repositories[ID].commit("main", files)
        return load(ID)


# --- an official file ---


def _official(random: Random, folder: Path) -> str:
    """A torch file, which has no settings: the state_dict in it, alone or under the names of official repositories."""
    kind = random.choice(("stargan", "relgan", "hisd", "mobilefacenet", "vggface"))
    own = tiny(kind)
    state = dict(own.state_dict())
    content, holds = _torch_file(random, state, folder / "ran")
    path = folder / f"weights.{random.choice(('pth', 'ckpt', 'pt', 'bin'))}"
    path.write_bytes(content)
    settings = json.loads((_whole(kind) / "config.json").read_text())
    options = {key: value for key, value in settings.items() if key not in ("model_type", "sha256")}
    family: Any = MANIPULATORS if kind in MANIPULATORS else RECOGNIZERS

    def door() -> torch.nn.Module:
        return load_member(family, f"{kind}={path}", **options)

    expected = _reference(kind, options, state if holds == "all" else None)
    if holds == "damaged":  # a zip archive has checksums, but what is damaged may be of no matter
        return _loads(door, _reference(kind, options, state), path, sound=False)
    if holds == "as torch says":  # the old format has none
        try:
            state = torch.load(path, weights_only=True)
            expected = _reference(kind, options, weight_files.fitting(state, own.state_dict()))
        except Exception:  # of any kind
            expected = None
    return _loads(door, expected, path)


def _torch_file(random: Random, state: dict[str, Tensor], target: Path) -> tuple[bytes, str]:
    """And what is in it: all of the state, nothing of use, or something damaged."""
    name = random.choice([name for name, tensor in state.items() if tensor.is_floating_point()])
    legacy = random.random() < 0.3
    odd = {
        "sparse": lambda: state[name].to_sparse(),
        "quantised": lambda: torch.quantize_per_tensor(state[name], 0.1, 0, torch.qint8),
        "meta": lambda: state[name].to("meta"),
        "nested": lambda: torch.nested.nested_tensor([torch.zeros(3), torch.zeros(2)]),
        "empty": lambda: torch.empty(0),
        "list": lambda: [1.0],
        "number": lambda: 1.0,
        "none": lambda: None,
        "nan": lambda: state[name] * float("nan"),
        "whole": lambda: state[name].int(),
        "complex": lambda: state[name].to(torch.complex64),
        "expanded": lambda: torch.zeros(1).expand(10**10),
    }
    match random.randrange(6):
        case 0:
            nested = random.choice(({"G": state}, {"gen_test": state}, {"G": {"gen_test": state}}, state))
            return weight_files.torch_bytes(nested, legacy=legacy), "all"
        case 1:
            wrong = random.choice(({"state_dict": state}, [state], state[name], 5, None, {}, {1: state[name]}, "x"))
            return weight_files.torch_bytes(wrong, legacy=legacy), "nothing"
        case 2:
            content = state | {name: odd[random.choice(list(odd))]()}
            with warnings.catch_warnings(action="ignore"):
                return weight_files.torch_bytes(content), "nothing"
        case 3:
            return weight_files.foreign(random, {"more": state[name]}, target), "nothing"
        case 4:
            whole = weight_files.torch_bytes(state, legacy=legacy)
            damaged = random.choice(BYTES)(random, whole)
            return damaged, "all" if damaged == whole else "as torch says" if legacy else "damaged"
        case _:
            return weight_files.torch_bytes(state, legacy=legacy), "all"


# --- a card that someone wrote ---


def _readme(random: Random, folder: Path) -> str:
    """What it says is told, or it is refused by name; the model beside it loads in any case."""
    kind = random.choice(KINDS)
    model = folder / "model"
    shutil.copytree(_whole(kind), model)
    content, told = _card(random)
    (model / "README.md").write_bytes(content)
    with command("info", model) as found:
        assert (found["code"] == 0) == (told is not None), found
        assert (told or "README.md") in found["out" if told else "err"], found
    with command("push", model, ID, "--dry-run") as found:
        assert (found["code"] == 0) == (told is not None), found
        assert "README.md" in found["out" if told else "err"], found
    assert torch.equal(_answer(load(model)), _answer(tiny(kind)))
    return "told" if told else "refused"


def _card(random: Random) -> tuple[bytes, str | None]:
    """A README.md, and a line of what it tells; None where it is to be refused."""
    deep, wide = random.randrange(20, 200), random.randrange(2, 9)
    bomb = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * wide)}]\n" for i in range(1, deep))
    brackets = random.choice("[{") * random.randrange(1100, 60_000)
    damaged = random.choice((bomb, f"license: {brackets}", "license: [", "- a", "a: b: c", "\tlicense: mit", "5"))
    named = random.choice(("mit", "'Ä ö'", "non-commercial"))
    result = "{task: {type: a}, dataset: {type: b, name: b}, metrics: [{type: c, value: 0.5}]}"
    results = f"model-index: [{{name: x, results: [{random.choice((result, '{}', '5', '{a: [1]}'))}]}}]\n"
    value = random.choice(("5", "[a, b]", "{a: 1}", ".nan", "2026-01-01", "true", "!!binary aGk="))
    return random.choice(
        (
            (f"---\n{damaged}\n---\n# A model\n".encode(), None),
            (f"---\nlicense: {'x' * random.randrange(70_000, 2_000_000)}\n---\n".encode(), None),
            (b"---\nlicense: mit\n---\n\xff\xfe", None),
            (f"---\nlicense: {named}\n{results}---\n# A model\n".encode(), "license: " + named.strip("'")),
            (f"---\r\nlicense: {named}\r\n---\r\n".encode(), "license: " + named.strip("'")),
            (b"\xef\xbb\xbf---\nlicense: mit\n---\n", "license: mit"),
            (f"---\nlicense: {value}\n---\n".encode(), "license: "),
            (random.choice((b"", b"# A model\n", b"---\n---\n", b"---\nlicense: mit\n")), "license: not stated"),
        )
    )


# --- push ---


def _push(random: Random, folder: Path) -> str:
    """A folder with something more in it is pushed whole, or not at all because of that."""
    model = folder / "model"
    shutil.copytree(_whole(random.choice(KINDS)), model)
    for number in range(random.randrange(1, 4)):
        content, suffixes, sound = _extra(random, folder / "ran")
        path = model / random.choice(("", "more/")) / f"extra{number}{random.choice(suffixes)}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        if not sound:
            break
    with command("push", model, ID, "--dry-run") as found:
        assert (found["code"] == 0) == sound, found
        assert path.name in found["out" if sound else "err"], found
    return "would push" if sound else "refused"


ANY_NAME = (".bin", ".pkl", ".pt", ".safetensors", ".txt", ".json", ".md", ".png", ".csv", ".toml", ".onnx", "", ".py")


def _extra(random: Random, target: Path) -> tuple[bytes, tuple[str, ...], bool]:
    """Content, names for it, and whether it may go to the Hub under these."""
    tensors = {"a": torch.zeros(2)}
    harmless = (
        (json.dumps({"a": [1.5, None]}).encode(), (".json",), True),
        (b'{"step": 1}\n{"step": 2}\n', (".jsonl", ".txt"), True),
        ("# Ein Modell\n\nmit Umlauten: äöü\n".encode(), (".md", ".txt", ""), True),
        (b"cat,dog\n1,2\nRed,Nr. 3\n", (".csv", ".txt"), True),
        (b'title = "x"\n[a]\nb = 1\n', (".toml",), True),
        (PORTRAIT.read_bytes(), (".png", ".PNG"), True),
        (weight_files.packed(tensors), (".safetensors",), True),
        (b"", (".txt", ""), True),
    )
    damaged = (
        (b"{", (".json",), False),
        (PORTRAIT.read_bytes()[:50], (".png",), False),
        (weight_files.cut(random, weight_files.packed(tensors)), (".safetensors",), False),
        (random.randbytes(300), ANY_NAME, False),
        (b"cposix\nsystem\n(S'true'\ntR.", ANY_NAME, False),
        (b"cposix\nsystem\n(S'true'\ntR and some prose", ANY_NAME, False),
        (b"\x7fELF" + bytes(60), ANY_NAME, False),
        (PORTRAIT.read_bytes() + weight_files.torch_bytes(tensors), (".png",), False),
        (weight_files.foreign(random, tensors, target), (".bin", ".pkl", ".safetensors", ".json", ".png"), False),
        (weight_files.torch_bytes(weight_files.Payload(target), legacy=random.random() < 0.5), ANY_NAME, False),
        (weight_files.pickle.dumps(weight_files.Payload(target), random.randrange(6)), ANY_NAME, False),
        (weight_files.pickle.dumps({"a": [1, "b"]}, random.randrange(6)), ANY_NAME, False),
    )
    return random.choice(random.choice((harmless, damaged)))

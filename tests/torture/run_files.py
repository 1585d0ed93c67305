"""Checkpoints, logs, caches, recipes and reports, whole and damaged: read as what they say, or refused by name."""

import json
import math
from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path
from random import Random
from typing import Any

import torch

from art_idguard.adversary.config import AdversaryConfig
from art_idguard.errors import IDGuardError
from art_idguard.evaluation.config import EvaluationConfig, ForensicsConfig, QualityConfig, RobustnessConfig
from art_idguard.files.recipe import Settings
from art_idguard.files.tensors import cached_rows
from art_idguard.hub import cards
from art_idguard.models.config import ExportConfig, InfoConfig, PushConfig
from art_idguard.photos.config import EmbedConfig, ExtractConfig, ProtectConfig
from art_idguard.reproduction.config import ReproductionConfig
from art_idguard.serve.config import ServeConfig
from art_idguard.training.base import make_accelerator
from art_idguard.training.checkpoint import CHECKPOINT, load_checkpoint, save_checkpoint
from art_idguard.training.log import LogFile
from art_idguard.training.manipulator.config import HardeningConfig, ManipulatorConfig
from art_idguard.training.protector.config import DistillationConfig, ProtectorConfig
from art_idguard.training.watermark.config import WatermarkConfig
from tests.torture import weight_files
from tests.torture.weight_files import BYTES, WRONG


def tried(call: Callable[[], Any]) -> tuple[Any, IDGuardError | None]:
    """What a call returns, or how it refuses."""
    try:
        return call(), None
    except IDGuardError as error:
        return None, error


def refused(error: IDGuardError, name: Path | str, *, sound: bool) -> str:
    assert not sound, f"refused though it is sound: {error}"
    assert str(name) in str(error), f"without a name: {error}"
    assert len(str(error)) < 2000
    return "refused"


# --- checkpoints ---


def _value(random: Random, depth: int = 0) -> Any:
    """What a run's state may hold."""
    generator = torch.Generator().manual_seed(random.randrange(2**31))
    dtype = random.choice((torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.bool, torch.uint8))
    shape = [random.randrange(5) for _ in range(random.randrange(4))]
    leaves = [
        lambda: (torch.randn(shape, generator=generator) * 9).to(dtype),
        lambda: random.choice((None, True, 5, -(2**70), 0.1, math.inf, "text", "")),
        lambda: [random.random() for _ in range(3)],
    ]
    if depth < 3:
        leaves += [
            lambda: {f"{random.randrange(99)}": _value(random, depth + 1) for _ in range(3)},
            lambda: {i: _value(random, depth + 1) for i in range(2)},
            lambda: tuple(_value(random, depth + 1) for _ in range(2)),
        ]
    return random.choice(leaves)()


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and a.shape == b.shape and _bytes(a) == _bytes(b)
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(_same, a, b))
    return type(a) is type(b) and a == b


def _bytes(tensor: torch.Tensor) -> list[int]:
    return tensor.contiguous().flatten().view(torch.uint8).tolist() if tensor.numel() else []


def checkpoint(random: Random, folder: Path) -> str:
    state = {"step": random.randrange(1000)} | {f"part{i}": _value(random) for i in range(4)}
    save_checkpoint(folder, state)
    path = folder / CHECKPOINT
    whole = path.read_bytes()
    content = random.choice((lambda _, b: b, *BYTES, *[weight_files.flipped] * 3))(random, whole)
    if random.random() < 0.2:
        state_dict = {"a": torch.zeros(2)}
        content = weight_files.foreign(random, state_dict, folder / "ran")
    if random.random() < 0.1:
        swapped = torch.load(path, weights_only=True)
        names = list(swapped)
        swapped[names[0]], swapped[names[1]] = swapped[names[1]], swapped[names[0]]
        swapped[random.choice(names)] = random.choice((5, torch.zeros(2)))
        content = weight_files.torch_bytes(swapped)
    path.write_bytes(content)
    found, error = tried(lambda: load_checkpoint(folder))
    if error:
        return refused(error, path, sound=content == whole)
    assert _same(found, state), "restored as another run"
    return "restored"


# --- logs ---


def log(random: Random, folder: Path) -> str:
    """Lines of finished steps stay as they are, byte for byte; the rest goes; a damaged line is refused."""
    path = folder / "log.jsonl"
    lines = [json.dumps({"step": i, "objective": {"stargan": random.random()}}) for i in range(1, 9)]
    whole = ("\n".join(lines) + "\n").encode()
    match random.randrange(5):
        case 0:
            content = random.choice((*BYTES, weight_files.as_text))(random, whole)
        case 1:
            deep = random.choice((50, 100_000))
            wrong = random.choice(("[" * deep, *map(json.dumps, WRONG), json.dumps({"step": random.choice(WRONG)})))
            content = whole + f"{wrong}\n".encode()
        case 2:
            content = whole + lines[0].encode()[:20]
        case _:
            content = whole
    path.write_bytes(content)
    step = random.randrange(10)
    expected = _cut_log(content, step)
    _, error = tried(lambda: LogFile(folder, step=step, accelerator=make_accelerator()).__enter__().__exit__())
    assert not list(folder.rglob(".*.tmp"))
    if error:
        assert path.read_bytes() == content
        return refused(error, path, sound=expected is not None)
    assert expected is not None, "taken though it is damaged"
    assert path.read_bytes() == expected
    return "cut"


def _cut_log(content: bytes, step: int) -> bytes | None:
    kept = b""
    for line in content.split(b"\n")[:-1]:
        try:
            found = json.loads(line.decode())["step"]
        except (ValueError, TypeError, LookupError, RecursionError):
            return None
        if type(found) is not int:
            return None
        kept += line + b"\n" if found <= step else b""
    return kept


# --- caches ---


def cache(random: Random, folder: Path) -> str:
    """Rows that were kept come back, those that are missing are made; a damaged file is refused."""
    path = folder / "regions.safetensors"

    def rows(of: list[int]) -> torch.Tensor:
        return torch.stack([torch.full((3, 3), math.sin(identity)) for identity in of])

    identities = [random.randrange(-(2**63), 2**63) for _ in range(random.randrange(1, 6))]
    for key in ("heat.a", "points")[: random.randrange(1, 3)]:
        cached_rows(path, key, identities, lambda missing: rows([identities[i] for i in missing]))
    whole = path.read_bytes()
    changes = (lambda _, b: b, *BYTES, weight_files.header_damage)
    content = random.choice(changes)(random, whole)
    if random.random() < 0.2:
        content = weight_files.foreign(random, {"a": torch.zeros(2)}, folder / "ran")
    path.write_bytes(content)
    asked = [*random.sample(identities, random.randrange(1, len(identities) + 1)), random.randrange(2**63)]
    random.shuffle(asked)
    found, error = tried(lambda: cached_rows(path, "heat.a", asked, lambda missing: rows([asked[i] for i in missing])))
    assert not list(folder.rglob(".*.tmp"))
    if error:
        assert path.read_bytes() == content
        return refused(error, path, sound=content == whole)
    assert torch.equal(found, rows(asked)), "other rows than were kept"
    return "kept"


# --- recipes ---

COMMANDS: dict[str, type[Settings]] = {
    "protect": ProtectConfig,
    "train": ProtectorConfig,
    "distill": DistillationConfig,
    "train-manipulator": ManipulatorConfig,
    "harden": HardeningConfig,
    "evaluate": EvaluationConfig,
    "adversary": AdversaryConfig,
    "evaluate-manipulator": QualityConfig,
    "attack-manipulator": RobustnessConfig,
    "watermark train": WatermarkConfig,
    "watermark embed": EmbedConfig,
    "watermark extract": ExtractConfig,
    "watermark evaluate": ForensicsConfig,
    "reproduce": ReproductionConfig,
    "serve": ServeConfig,
    "info": InfoConfig,
    "export": ExportConfig,
    "push": PushConfig,
}
NEEDED = {
    **{"faces": "faces", "manipulators": ["a"], "manipulator": "stargan", "data": "a=faces", "output": "run"},
    **{"models": ["a"], "original": "a", "folder": "a", "repo_id": "a/b", "experiment": "table3"},
    **{"watermarkers": ["a"], "model": "a", "payload": "1f2e"},
}
"""What a command cannot do without."""
DRAWN: dict[str, Any] = {
    "lr": lambda random: random.choice((1e-4, 1, 0.5)),
    "steps": lambda random: random.randrange(2000, 10**6),
    "seed": lambda random: random.randrange(2**31),
    "limit": lambda random: random.randrange(1, 999),
    "batch_size": lambda random: random.randrange(1, 99),
    "compile": lambda random: random.random() < 0.5,
    "recognizers": lambda random: random.choice((["a", "b"], "c", [])),
    "split": lambda random: random.choice(("test", "Ä b")),
}


def _toml(value: Any) -> str | None:
    """None where TOML has no such value."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        parts = [_toml(part) for part in value]
        return None if None in parts else f"[{', '.join(map(str, parts))}]"
    return "{ a = 1 }" if value else "{}" if value == {} else None


def recipe(random: Random, folder: Path) -> str:
    """Every setting as it stands in the file, or its name in a refusal."""
    settings = random.choice(list(COMMANDS.values()))
    known = {field.name: field for field in fields(settings)}
    values = {name: NEEDED[name] for name, field in known.items() if field.default is MISSING}
    values |= {n: draw(random) for n, draw in DRAWN.items() if n in known and random.random() < 0.4}
    named, text, damaged = "", "\n".join(f"{name} = {_toml(value)}" for name, value in values.items()) + "\n", None
    match random.randrange(8):
        case 0:
            named, wrong = random.choice(list(DRAWN)), random.choice([v for v in WRONG if _toml(v) is not None])
            if named in known and not _may_be(named, wrong):
                damaged = "\n".join(f"{n} = {_toml(v)}" for n, v in (values | {named: wrong}).items())
        case 1:
            named = random.choice(("lrr", "Steps", "__class__", "speed"))
            damaged = f"{named} = 1\n{text}"
        case 2 if not values.keys().isdisjoint(NEEDED):
            named = random.choice([name for name in values if name in NEEDED])
            damaged = "\n".join(line for line in text.splitlines() if not line.startswith(f"{named} ="))
        case 3:
            named, damaged = "r.toml", f"{text}x = 1\nx = 2\n"
        case 4:
            named, damaged = "r.toml", text + "x = " + "[" * (deep := random.choice((500, 100_000))) + "]" * deep
    path = folder / "r.toml"
    content = (text if damaged is None else damaged).encode()
    if damaged is None and random.random() < 0.2:
        named, damaged = "r.toml", ""
        content = random.choice((b"\xff" + content, content.decode().encode("utf-16"), content + b"\x00", b"= 1"))
    elif random.random() < 0.1:
        content = content.replace(b"\n", b"\r\n")
    path.write_bytes(content)
    config, error = tried(lambda: settings.from_recipe(path))
    if error:
        return refused(error, named, sound=damaged is None)
    assert damaged is None, "taken though it is damaged"
    for name, value in values.items():
        taken = getattr(config, name)
        many = isinstance(taken, tuple)
        assert taken == (tuple([value] if isinstance(value, str) else value) if many else value), name
    return "read"


def _may_be(name: str, value: Any) -> bool:
    if name in ("steps", "limit", "batch_size", "seed"):
        return type(value) is int and value >= (name != "seed")
    if name == "lr":
        return type(value) in (int, float) and 0 <= value < math.inf
    if name == "recognizers":
        return isinstance(value, str) or (isinstance(value, list) and all(isinstance(part, str) for part in value))
    return isinstance(value, bool if name == "compile" else str)


# --- reports and facts, for a card ---

SUMMARY = {"l2_face": {"mean": 0.5, "low": 0.4, "high": 0.6}}
REPORT: dict[str, Any] = {
    "metadata": {"data": {"name": "celeba", "split": "test"}, "weights": {}, "n": 5, "edits": "all", "seed": 0},
    "summary": {"ID-Guard": {"mean over manipulators": SUMMARY, "worst manipulator": SUMMARY, "photo": SUMMARY}},
}
READ: dict[tuple[str, ...], tuple[type, ...]] = {
    ("metadata",): (),
    ("metadata", "data"): (str,),
    ("metadata", "weights"): (str, type(None)),
    ("summary",): (),
    ("summary", "ID-Guard"): (),
    ("summary", "ID-Guard", "photo"): (),
    ("summary", "ID-Guard", "photo", "l2_face", "mean"): (int, float, type(None)),
}
"""What of a report a card is made of, and the types that will do for it."""
FACTS = {
    "kind": "manipulator",
    "title": "Title",
    "license": "mit",
    "tags": ["a"],
    "table": {"data": "faces"},
    "training": [{"note": "a note"}],
    "sections": {"More": "text"},
}


def card(random: Random, folder: Path) -> str:
    """A card is made of sound facts and reports; of damaged ones its file is named."""
    report, facts = json.loads(json.dumps(REPORT)), dict(FACTS)
    wrong, named = random.choice(WRONG), None
    (folder / "evaluation").mkdir()
    paths = [folder / "evaluation" / "celeba.json", folder / cards.FACTS]
    match random.randrange(6):
        case 0:
            where, types = random.choice(list(READ.items()))
            *above, last = where
            place: Any = report
            for name in above:
                place = place[name]
            if type(wrong) not in (*types, dict) or wrong in (math.inf, math.nan):
                place[last], named = wrong, paths[0]
        case 1:
            name = random.choice(list(facts))
            if type(wrong) is not type(facts[name]) and _toml(wrong) is not None:
                facts[name], named = wrong, paths[1]
    lines = [f"{name} = {_inline(value)}" for name, value in facts.items()]
    contents = [json.dumps(report).encode(), "\n".join(lines).encode()]
    if named is None and random.random() < 0.3:
        which = random.randrange(2)
        deep = b"[" * 100_000
        named = paths[which]
        contents[which] = random.choice((b"\xff", b"{", deep, b"x = " + deep, contents[which][:-1], b"[]", b"5"))
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    made, error = tried(lambda: str(cards.generate(folder)))
    if error:
        return refused(error, str(named), sound=named is None)
    assert named is None, f"taken though {named} is damaged"
    assert "photo, l2_face" in made
    assert "a note" in made
    return "made"


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {_inline(part)}" for name, part in value.items()) + " }"
    if isinstance(value, list):
        return f"[{', '.join(map(_inline, value))}]"
    return str(_toml(value))


DOORS = (checkpoint, log, cache, recipe, card)

"""Trainings and evaluations of toy size, killed once or twice and resumed: as if they had not been killed."""

import tempfile
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import torch

from art_idguard.baselines import generator
from art_idguard.hub.repository import CONFIG
from art_idguard.models import load
from art_idguard.perturbation import Protector
from art_idguard.recognizers import SFace
from art_idguard.training.checkpoint import CHECKPOINT, load_checkpoint
from tests.torture.kills import Command, Ended, leftovers, random_kill, run, temporary_folder
from tests.toys import tiny_manipulators, write_labels, write_portraits
from tests.training.trainings import contents

NAME, IN_SUITE = "kills-training", 1
GAN = "stargan --faces {at}/labelled --size 64 --channels 8 --batch-size 4 --steps 5"
WORDS = {
    "train": "--faces {at}/faces --manipulators {at}/stargan {at}/relgan --recognizers {at}/sface --size 32 "
    "--channels 8 --norm instance --batch-size 4 --steps 5 --regions {output}/regions.safetensors",
    "train-manipulator": GAN,
    "harden": GAN + " --start {at}/stargan --protector {at}/protector --warmup 0 --pgd-steps 2",
    "evaluate": "--protector {at}/protector --manipulators {at}/stargan --recognizers {at}/sface --limit 4 "
    "--data toy={at}/faces --batch-size 1 --baseline-faces others={at}/others --baseline-steps 1 --reference-steps 2",
}
KINDS: dict[str, tuple[dict[str, tuple[Any, ...]], ...]] = {
    "train": (
        {"weighting": ("kpi", "hmm"), "ema": (0, 0.9), "prior": ("zeros",), "checkpoint-every": (1, 2)},
        {"weighting": ("mgda",), "prior": ("noise",), "sample-every": (1, 2), "checkpoint-every": (1, 2)},
    ),
    "train-manipulator": (
        {"n-critic": (1, 2), "log-every": (1, 2), "checkpoint-every": (1, 3), "sample-every": (1, 2)},
    ),
    "harden": (
        {"attack": ("idguard", "pgd"), "n-critic": (1, 2), "checkpoint-every": (1, 2), "sample-every": (1, 9)},
        {"attack": ("idguard",), "distill": (True,), "checkpoint-every": (1, 2)},
    ),
    "evaluate": ({"edits": ("cycle",), "baselines": (None, "pg"), "reference-faces": (0, 1)},),
}
"""Settings, of which a run has one value each."""


class Case(NamedTuple):
    """A command, and its settings in words."""

    command: str
    settings: tuple[str, ...]

    def words(self, output: Path, *, resume: bool) -> tuple[str, ...]:
        given = WORDS[self.command].format(at=place(), output=output).split()
        again = ["--resume"] if resume and self.command != "evaluate" else []
        return (self.command, *given, "--output", str(output), "--quiet", *self.settings, *again)


@cache
def place() -> Path:
    """Tiny networks, and faces with and without labels."""
    folder = temporary_folder()
    write_portraits(folder / "faces", 8)
    write_portraits(folder / "others", 12)
    write_labels(write_portraits(folder / "labelled", 12))
    torch.manual_seed(0)
    protector = Protector(generator_config={"channels": 8, "norm": "instance"}, size=64)
    for model in (*tiny_manipulators(("stargan", "relgan")), SFace(width=4)):
        model.save_pretrained(folder / model.name)
    protector.save_pretrained(folder / "protector")
    return folder


def small() -> None:
    """In place of a generator that takes a second a step."""
    generator.GENERATOR = {"channels": 8, "norm": "instance"}


@cache
def unbroken(case: Case) -> tuple[dict[str, Any], Ended]:
    """What is left by a run that is not killed, and how long it takes."""
    with tempfile.TemporaryDirectory() as name:
        output = Path(name, "run")
        (ended,) = run(Command(case.words(output, resume=False), output, prepare=small))
        assert ended.code == 0, ended
        return contents(output), ended


def attempt(random: Random, folder: Path) -> str:
    """What was killed, and how far it had come."""
    command = random.choice(list(KINDS))
    chosen = {name: random.choice(values) for name, values in random.choice(KINDS[command]).items()}
    words = [
        (f"--{name}", *(() if value is True else (str(value),))) for name, value in chosen.items() if value is not None
    ]
    case = Case(command, tuple(word for pair in words for word in pair))
    expected, whole = unbroken(case)
    output = folder / "run"
    fresh = random.random() < 0.05 and command != "evaluate"  # whose generator would be others'
    soft, came = False, "not killed"
    for _ in range(random.choice((1, 1, 2))):
        kill = random_kill(random, whole, fresh=fresh)
        (ended,) = run(Command(case.words(output, resume=True), output, kill, None if fresh else small))
        soft |= ended.code == 130
        if ended.code:
            came = progress(output)
        check_models(output)
    (ended,) = run(Command(case.words(output, resume=True), output, prepare=small))
    assert ended.code == 0, ended
    check_end(output, expected, soft=soft)
    return f"{command}: {came}"


def progress(output: Path) -> str:
    """How far a killed run has come."""
    if not any((output / name).exists() for name in (CHECKPOINT, "toy.jsonl")):
        return "before the first step"
    ends = ("protector/config.json", "manipulator/config.json", "toy.json")
    return "at the end" if any((output / name).exists() for name in ends) else "between steps"


def check_models(output: Path) -> None:
    """What there is of models and checkpoints can be loaded."""
    load_checkpoint(output)
    for config in output.rglob(CONFIG):
        load(config.parent)


def check_end(output: Path, expected: dict[str, Any], *, soft: bool) -> None:
    """All is as in an unbroken run; one that was stopped in good order has a record and a sample more."""
    found = contents(output)
    for name in expected.keys() | found.keys():
        more = soft and name not in expected and name.startswith(("step ", "samples/"))
        assert more or found.get(name) == expected.get(name), f"{name} differs"
    assert not leftovers(output)

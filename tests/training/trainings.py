"""Every training at toy size: its settings, the command line that gives them, and what it leaves behind."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import MISSING, fields
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from art_idguard.files.tensors import checksum
from art_idguard.training.checkpoint import CHECKPOINT, load_checkpoint
from art_idguard.training.config import TrainingConfig
from art_idguard.training.manipulator.config import HardeningConfig, ManipulatorConfig
from art_idguard.training.manipulator.hardening import harden
from art_idguard.training.manipulator.train import train_manipulator
from art_idguard.training.protector.config import DistillationConfig, ProtectorConfig
from art_idguard.training.protector.distillation import distill
from art_idguard.training.protector.train import train_protector
from art_idguard.training.watermark.config import WatermarkConfig
from art_idguard.training.watermark.train import train_watermarker
from tests import ROOT

STEPS = 3


def protector_config(workplace, output, **changes):
    settings = {
        "faces": str(workplace / "faces"),
        "manipulators": (str(workplace / "stargan"), str(workplace / "relgan")),
        "output": str(output),
        "recognizers": (str(workplace / "sface"),),
        "size": 32,
        "channels": 8,
        "norm": "instance",
        "prior": "noise",
        "batch_size": 4,
        "steps": STEPS,
        "checkpoint_every": 1,
        "regions": str(workplace / "regions.safetensors"),
    }
    return ProtectorConfig(**(settings | changes))


def gan_config(faces, output, manipulator="stargan", *, kind=ManipulatorConfig, **changes):
    """Of a manipulator's own training, or of its hardening."""
    tiny = {"size": 64, "channels": 8, "batch_size": 4, "n_critic": 1, "steps": STEPS, "log_every": 1}
    settings = {"faces": str(faces), "output": str(output), "manipulator": manipulator, "checkpoint_every": 1}
    return kind.from_recipe(None, **(settings | tiny | changes))


def of_workplace(kind, workplace, output, **changes):
    settings = {"faces": workplace / "faces"}
    if kind is HardeningConfig:
        settings |= {"start": str(workplace / "stargan"), "protector": str(workplace / "protector"), "warmup": 0}
    return gan_config(output=output, kind=kind, **settings | changes)


def distillation_config(workplace, output, **changes):
    settings = {
        "faces": str(workplace / "faces"),
        "output": str(output),
        "teacher": str(workplace / "protector"),
        "size": 32,
        "channels": 4,
        "steps": STEPS,
        "checkpoint_every": 1,
    }
    return DistillationConfig(**(settings | changes))


def watermark_config(workplace, output, **changes):
    settings = {
        "faces": str(workplace / "faces"),
        "manipulators": (str(workplace / "stargan"), str(workplace / "relgan")),
        "output": str(output),
        "start": str(workplace / "watermarker"),
        "batch_size": 4,
        "steps": STEPS,
        "checkpoint_every": 1,
    }
    return WatermarkConfig(**(settings | changes))


TRAININGS: dict[str, tuple[Callable[..., TrainingConfig], Callable[..., Path]]] = {
    "train": (protector_config, train_protector),
    "distill": (distillation_config, distill),
    "train-manipulator": (partial(of_workplace, ManipulatorConfig), train_manipulator),
    "harden": (partial(of_workplace, HardeningConfig), harden),
    "harden by distillation": (partial(of_workplace, HardeningConfig, distill=True), harden),
    "watermark train": (watermark_config, train_watermarker),
}
"""Settings for a workplace with labels and an output folder, and what trains with them."""


def arguments(config):
    """The command line that gives these settings."""
    words = [sys.executable, "-m", "art_idguard.cli", *config.command.split(), "--quiet"]
    needed = {field.name: getattr(config, field.name) for field in fields(config) if field.default is MISSING}
    usual = vars(type(config).from_recipe(None, **needed))
    for name, value in vars(config).items():
        if name == "manipulator":
            words.append(value)
        elif name in needed or value != usual[name]:
            option = f"--{name.replace('_', '-')}"
            words += [option] if value is True else [option, *map(str, value if isinstance(value, tuple) else (value,))]
    return words


@contextmanager
def in_a_process(config, *, ready, **pipes):
    """The training in a process of its own, from when the file is there on; it does not outlive the block."""
    environment = os.environ | {"ACCELERATE_USE_CPU": "true"}
    process = subprocess.Popen(arguments(config), env=environment, cwd=ROOT, **pipes)
    try:
        while not (ready.is_file() and ready.stat().st_size):
            assert process.poll() is None, "the run ended at once"
            time.sleep(0.01)
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def behind(method, step, act):
    """Call act(run) behind a method of a training or of its run, at that step."""
    owner, name = method
    before = getattr(owner, name)

    def wrapped(self, *args, **options):
        result = before(self, *args, **options)
        run = getattr(self, "run", self)
        if run.step == step:
            act(run)
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, wrapped)
        yield


CHANGING = ("seconds", "images_per_second", "elapsed", "config", "date")
"""What two runs never have in common."""


def without_changing(record: Any) -> Any:
    """A record, or a group of them, without what two runs never have in common."""
    if isinstance(record, dict):
        return {key: without_changing(value) for key, value in record.items() if key not in CHANGING}
    return record


def contents(output: Path) -> dict[str, Any]:
    """All that a run has left and another run with its settings leaves too: files, samples, records by step."""
    found = {}
    for path in sorted(output.rglob("*")):
        name = str(path.relative_to(output))
        if path.name == "log.jsonl":
            records = [json.loads(line) for line in path.read_text().splitlines()]
            assert [r["step"] for r in records] == sorted({r["step"] for r in records})
            found |= {f"step {record['step']}": without_changing(record) for record in records}
        elif path.name == CHECKPOINT:
            found[name] = checksum(without_changing(load_checkpoint(output)))
        elif path.suffix == ".json":
            found[name] = without_changing(json.loads(path.read_text()))
        elif path.suffix == ".safetensors":
            found[name] = checksum(load_file(path))  # its metadata are written in any order
        elif path.suffix in (".md", ".png", ".jsonl"):
            found[name] = path.read_bytes()
    return found

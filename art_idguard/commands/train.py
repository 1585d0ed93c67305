"""`art-idguard train`, `distill`, `train-manipulator` and `harden`."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from art_idguard.commands._settings import add_settings
from art_idguard.training.config import TrainingConfig
from art_idguard.training.manipulator.config import HardeningConfig, ManipulatorConfig
from art_idguard.training.protector.config import DistillationConfig, ProtectorConfig


def add(commands: Any) -> None:
    """Add the command to the parser's commands."""
    for name, config, positional, text, run in (
        ("train", ProtectorConfig, (), "train a protector (Algorithm 1)", _train),
        ("distill", DistillationConfig, (), "train a small, fast protector to do what another does", _distill),
        (
            "train-manipulator",
            ManipulatorConfig,
            ("manipulator",),
            "train a manipulator by its own losses",
            _train_manipulator,
        ),
        ("harden", HardeningConfig, ("manipulator",), "train a manipulator adversarially (Eq. 15)", _harden),
    ):
        add_training(commands, name, config, positional, text, run)


def add_training(
    commands: Any,
    name: str,
    config: type[TrainingConfig],
    positional: tuple[str, ...],
    text: str,
    run: Callable[..., int],
) -> None:
    """Add the command of a training."""
    parser = commands.add_parser(name, help=text)
    add_settings(parser, config, *positional)
    parser.add_argument("--resume", action="store_true", help="go on from the output folder's checkpoint")
    parser.set_defaults(run=run)


def _train(*, recipe: Path | None, resume: bool, quiet: bool, **given: Any) -> int:
    config = ProtectorConfig.from_recipe(recipe, **given)
    from art_idguard.training.protector.train import train_protector

    return trained(train_protector, config, resume=resume, quiet=quiet)


def _distill(*, recipe: Path | None, resume: bool, quiet: bool, **given: Any) -> int:
    config = DistillationConfig.from_recipe(recipe, **given)
    from art_idguard.training.protector.distillation import distill

    return trained(distill, config, resume=resume, quiet=quiet)


def _train_manipulator(*, recipe: Path | None, resume: bool, quiet: bool, **given: Any) -> int:
    config = ManipulatorConfig.from_recipe(recipe, **given)
    from art_idguard.training.manipulator.train import train_manipulator

    return trained(train_manipulator, config, resume=resume, quiet=quiet)


def _harden(*, recipe: Path | None, resume: bool, quiet: bool, **given: Any) -> int:
    config = HardeningConfig.from_recipe(recipe, **given)
    from art_idguard.training.manipulator.hardening import harden

    return trained(harden, config, resume=resume, quiet=quiet)


def trained(train: Callable[..., Path], config: TrainingConfig, *, resume: bool, quiet: bool) -> int:
    """Train and print the model's folder; 130 and no folder where the training was stopped."""
    stops: list[str] = []
    folder = train(config, resume=resume, verbose=not quiet, on_stop=stops.append)
    if stops:
        print(f"art-idguard: {stops[0]}; go on with --resume", file=sys.stderr)
        return 130
    print(folder)
    return 0

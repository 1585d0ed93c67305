"""The settings of a protector's training; imports nothing heavy, so that the command line can list them."""

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, Self, get_args, get_origin, get_type_hints

from art_idguard.errors import IDGuardError

MAY_CHANGE = (
    *("output", "minutes", "checkpoint_every", "sample_every", "log_every", "regions"),
    *("lr", "mapper_lr", "protector_lr", "clip", "precision", "seed"),
)
"""Settings that a resumed run may change; the second line helps where a loss was not finite."""

MAY_BE_ZERO = ("seed", "margin", "warmup", "lowpass", "fade")
"""Whole numbers that may; others are at least 1."""

POSITIVE = ("minutes", "clip", "epsilon")
"""Numbers that are more than 0; others with a fraction may be 0."""


def _as_hinted(value: Any, hint: Any) -> Any:
    """TOML and the command line have lists for tuples, TOML also 1 for 1.0."""
    if isinstance(value, list):
        return tuple(_as_hinted(item, get_args(hint)[0]) for item in value)
    return float(value) if type(value) is int and float in (hint, *get_args(hint)) else value


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """What the settings of every training have in common."""

    command = ""
    """The command that trains with them."""

    faces: str
    """Folder, tar, or data set folder with <split>.csv and <split>*.tar."""
    output: str
    """Folder of the run: checkpoint, log, samples and, at the end, the trained model."""
    split: str = "train"
    """Which part of the data set."""
    steps: int
    """Budget of steps."""
    minutes: float | None = None
    """Budget of time, over all launches of the run; learning rates fall with whichever budget ends first."""
    limit: int | None = None
    """Use this many faces at most."""
    batch_size: int
    """Faces in one step, over all processes."""
    precision: Literal["no", "bf16"] = "no"
    """bf16 runs the networks under autocast; losses and updates stay float32."""
    seed: int = 0
    """Everything random in step t depends on (seed, t) alone; where steps are the budget, resuming changes nothing."""

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for field in fields(self):
            value, hint = getattr(self, field.name), hints[field.name]
            choices = next((get_args(h) for h in (hint, *get_args(hint)) if get_origin(h) is Literal), None)
            if choices and value is not None and value not in choices:
                raise IDGuardError(f"unknown {field.name} {value!r}; choose from: {', '.join(map(str, choices))}")
            least = 0 if float in (hint, *get_args(hint)) or field.name in MAY_BE_ZERO else 1
            if type(value) in (int, float) and not value >= least:  # nan too
                raise IDGuardError(f"{field.name} is {value}; expected at least {least}")
            if value == 0 and field.name in POSITIVE:
                raise IDGuardError(f"{field.name} is {value}; expected more than 0")
        if self.seed >= 2**31:
            raise IDGuardError(f"seed is {self.seed}; expected less than 2**31")

    @classmethod
    def presets(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Settings to use where `values` has none and the general default does not fit."""
        return {}

    @classmethod
    def from_recipe(cls, path: str | Path | None, **overrides: Any) -> Self:
        """Settings from a TOML recipe, with `overrides` on top.

        Raises:
            IDGuardError: the recipe is missing, no TOML, or holds an unknown or incomplete set of settings.
        """
        values: dict[str, Any] = {}
        if path is not None:
            try:
                values = tomllib.loads(Path(path).read_text())
            except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
                raise IDGuardError(f"cannot read the recipe {path}: {error}") from error
        values |= overrides
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise IDGuardError(f"unknown settings {', '.join(unknown)}; known: {', '.join(sorted(known))}")
        if missing := {field.name for field in fields(cls) if field.default is MISSING} - set(values):
            raise IDGuardError(f"missing settings: {', '.join(sorted(missing))}")
        values = cls.presets(values) | values
        hints = get_type_hints(cls)
        return cls(**{name: _as_hinted(value, hints[name]) for name, value in values.items()})

    def differences(self, saved: Mapping[str, Any]) -> list[str]:
        """Settings that were others when a run was saved, but for those that may change on resuming."""
        return [name for name, value in asdict(self).items() if name not in MAY_CHANGE and saved[name] != value]

"""Settings that all trainings have; imports nothing heavy, so that the command line can list them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from art_idguard.errors import IDGuardError
from art_idguard.files.recipe import Settings

MAY_CHANGE = (
    *("output", "minutes", "checkpoint_every", "sample_every", "log_every", "regions"),
    *("lr", "mapper_lr", "protector_lr", "clip", "precision", "seed"),
)
"""Settings that a resumed run may change; the second line helps where a loss was not finite."""

MAY_BE_ZERO = ("seed", "margin", "warmup", "lowpass", "fade")
"""Whole numbers that may; others are at least 1."""

POSITIVE = ("minutes", "clip", "epsilon")
"""Numbers that are more than 0; others with a fraction may be 0."""


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(Settings):
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

    def differences(self, saved: Mapping[str, Any]) -> list[str]:
        """Settings that were others when a run was saved, but for those that may change on resuming."""
        return [name for name, value in asdict(self).items() if name not in MAY_CHANGE and saved[name] != value]

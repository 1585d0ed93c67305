"""Settings that all trainings have; imports nothing heavy, so that the command line can list them."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from art_idguard.errors import IDGuardError
from art_idguard.files.atomic import write_text
from art_idguard.files.recipe import SETTINGS, Settings

MAY_CHANGE = (
    *("output", "steps", "minutes", "checkpoint_every", "sample_every", "log_every", "trackers", "regions"),
    *("micro_batch", "spread"),
    *("lr", "mapper_lr", "protector_lr", "clip", "precision", "seed"),
    *("faces", "manipulators", "recognizers", "teacher", "start", "start_discriminator", "protector"),
    *("clean_cache", "decoded_in"),
)
"""Settings that a resumed run may change: the second line helps where memory ends, the third where a loss was not
finite; the last two say where things lie, whose contents have to be the same (`TrainingRun.inputs`). Of steps see
`TrainingConfig.check_steps`."""

POSITIVE = ("minutes", "clip", "epsilon")
"""Numbers that are more than 0; others with a fraction may be 0."""


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(Settings):
    """What the settings of every training have in common."""

    command = ""
    """The command that trains with them."""
    may_be_zero = ("seed", "margin", "warmup", "lowpass", "fade", "alone")

    faces: str
    """Folder, tar, or data set folder with <split>.csv and <split>*.tar."""
    output: str
    """Folder of the run: checkpoint, log, samples and, at the end, the trained model."""
    split: str = "train"
    """Which part of the data set."""
    steps: int
    """Budget of steps; a run may be given more on resuming, unless its learning rate has begun to fall."""
    minutes: float | None = None
    """Budget of time, over all launches of the run; learning rates fall with whichever budget ends first."""
    limit: int | None = None
    """Use this many faces at most."""
    decoded_in: str | None = None
    """Folder that keeps the faces as bytes, of which each step reads its own: for more faces than memory holds, and
    for a next start that decodes nothing. Default: in memory."""
    batch_size: int
    """Faces in one step, over all processes."""
    precision: Literal["no", "bf16", "auto"] = "no"
    """bf16 runs the networks under autocast, losses and updates stay float32; auto takes what is faster here, by a
    short measurement at the start. Default: what accelerate launch says."""
    checkpoint_every: int
    """Steps between checkpoints."""
    sample_every: int
    """Steps between sample pictures."""
    log_every: int
    """Steps between lines of the log; in between nothing waits for the GPU."""
    trackers: tuple[str, ...] | None = None
    """Where the log is shown, besides log.jsonl: accelerate's names, such as tensorboard, wandb or trackio. Default:
    tensorboard, where it is installed."""
    seed: int = 0
    """Everything random in step t depends on (seed, t) alone; where steps are the budget, resuming changes nothing."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in POSITIVE:
            if getattr(self, name, None) == 0:
                raise IDGuardError(f"{name} is {getattr(self, name)}; expected more than 0")
        if self.seed >= 2**31:
            raise IDGuardError(f"seed is {self.seed}; expected less than 2**31")

    @classmethod
    def presets(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """What `accelerate launch --mixed_precision` asks for."""
        launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
        return {} if launched == "no" else {"precision": launched}

    def save(self, folder: Path, *, places: bool = True) -> None:
        """Write the settings as a recipe, settings.toml; without `places`, which are of a machine, to go with a model.

        Raises:
            OSError: it cannot be written.
        """
        lines = self.to_toml().split("\n")
        beside = "--output OTHER repeats this run"
        if not places:
            own = ("faces ", "output ")
            lines = [line for line in lines if not (line.startswith(own) or {"/", "\\"} & set(line))]
            beside = "--faces FACES --output FOLDER trains another; places of files are left out"
        head = f"# art-idguard {self.command} --recipe {SETTINGS} {beside}."
        write_text(folder / SETTINGS, "\n".join([head, *lines]))

    @property
    def falls_from(self) -> float:
        """Share of the budget after which learning rates fall; 1 where they never do."""
        return 1.0

    @property
    def shares_faces(self) -> bool:
        """Whether processes share out the faces of a batch."""
        return True

    def check_steps(self, saved: Mapping[str, Any], *, step: int, elapsed: float) -> None:
        """Whether a run may go on with this many steps: those so far have to be what they would have been with these.

        Args:
            saved: the run's settings.
            step: how many it has done.
            elapsed: seconds that they took.

        Raises:
            IDGuardError: it may not.
        """
        before = saved["steps"]
        if self.steps < step:
            raise IDGuardError(f"{self.output} has done {step} steps; steps is {self.steps}, expected at least {step}")
        if self.steps != before and (step - 1) / min(self.steps, before) > self.falls_from:
            further = "; go on from what it has learnt in another run (start)" if hasattr(self, "start") else ""
            raise IDGuardError(
                f"cannot resume {self.output} with {self.steps} steps: its learning rate falls over the {before} that "
                f"it began with, and has begun to{further}"
            )
        if self.steps > before and self.minutes is not None and elapsed >= 60 * self.minutes:
            raise IDGuardError(
                f"{self.output} has used up its {self.minutes:g} minutes; give it more of them, too, not steps alone"
            )

    def differences(self, saved: Mapping[str, Any]) -> list[str]:
        """Settings that were others when a run was saved, but for those that may change on resuming."""
        return [name for name, value in asdict(self).items() if name not in MAY_CHANGE and saved[name] != value]


@dataclass(frozen=True, kw_only=True)
class ScheduledConfig(TrainingConfig):
    """Of trainings whose learning rate may rise at first, and fall."""

    lr: float
    """Adam's learning rate."""
    schedule: Literal["constant", "linear"] = "constant"
    """The learning rate stays, or falls linearly to zero at the end of the budget."""
    warmup: int = 0
    """Steps over which the learning rate rises from 0 at first."""

    @property
    def falls_from(self) -> float:
        """Share of the budget after which the learning rate falls: from the first step on, or never."""
        return 0.0 if self.schedule == "linear" else 1.0

    def rate(self, step: int, progress: float) -> float:
        """The learning rate of the step after so many, at this share of the budget."""
        rise = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        return self.lr * rise * (1 - progress if self.schedule == "linear" else 1)


def require_multiple(size: int, of: int) -> None:
    """Raises IDGuardError for a side of faces that the networks cannot halve."""
    if size % of:
        raise IDGuardError(f"size is {size}; expected a multiple of {of}, such as 128 or 256")


def require_one_each(alpha: Sequence[float] | None, manipulators: Sequence[str]) -> None:
    """Raises IDGuardError for prior weights that are not one for each manipulator."""
    if alpha is not None and len(alpha) != len(manipulators):
        raise IDGuardError(f"{len(alpha)} prior weights for {len(manipulators)} manipulators; give one each")


def require_of_start(config: TrainingConfig, names: Sequence[str]) -> None:
    """Raises IDGuardError where settings are given of which what a run starts from has its own."""
    defaults, start = {field.name: field.default for field in fields(config)}, getattr(config, "start", None)
    if start and (given := [name for name in names if getattr(config, name) != defaults[name]]):
        raise IDGuardError(f"{start} has its own {', '.join(given)}; leave out what you give, or start")

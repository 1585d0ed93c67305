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

MAY_BE_ZERO = ("seed", "margin", "warmup")
"""Whole numbers that may; others are at least 1."""

POSITIVE = ("minutes", "clip", "epsilon")
"""Numbers that are more than 0; others with a fraction may be 0."""

OF_A_PROTECTOR = ("generator", "norm", "channels", "epsilon", "bound", "prior", "prior_faces")
"""Settings of a new protector; one to go on from has its own."""


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
            if get_origin(hint) is Literal and value not in get_args(hint):
                raise IDGuardError(
                    f"unknown {field.name} {value!r}; choose from: {', '.join(map(str, get_args(hint)))}"
                )
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


@dataclass(frozen=True, kw_only=True)
class ProtectorConfig(TrainingConfig):
    """Algorithm 1; the defaults are the paper's values. `epsilon` is on the [-1, 1] scale."""

    command = "train"

    manipulators: tuple[str, ...]
    """Folders or Hub ids, or name=file for an official checkpoint."""
    size: int = 256
    """Side of the faces in pixels, a multiple of 4."""
    regions: str | None = None
    """File that keeps face points and heat maps; made when absent. Default: in the user's cache."""
    recognizer: str | None = None
    """Folder or Hub id, or name=file; default: the SFace that ships."""
    heat: Literal["grad-cam", "grad-cam++"] = "grad-cam"
    """How the heat map of Eq. (6) is made."""
    aligned: bool = True
    """Recognise faces aligned to the ArcFace template; the official code resizes the whole picture."""

    weighting: str = "kpi"
    """Task weighting: uniform, prior, hmm, dtp, kpi (S-II) or mgda (S-I)."""
    alpha: tuple[float, ...] | None = None
    """Prior weight of each manipulator; default: found by the small-sample PGD heuristic."""
    mgda_space: Literal["perturbation", "parameters"] = "perturbation"
    """Whose gradients MGDA weighs: the protected images' (free) or the generator's (official code)."""
    mgda_solver: Literal["exact", "frank-wolfe"] = "exact"
    """cvxpy's exact optimum, or the paper's solver."""

    start: str | None = None
    """Folder or Hub id of a protector to go on from, which has its own generator, epsilon, bound and prior."""
    generator: str = "resnet"
    """resnet, unet or transformer."""
    norm: Literal["batch", "instance"] = "batch"
    """Normalisation of the resnet generator; instance for small batches."""
    channels: int = 64
    """Width of the resnet generator."""
    epsilon: float = 0.05
    """L-inf bound of the perturbation on the [-1, 1] scale."""
    bound: Literal["tanh", "clamp", "residual"] = "tanh"
    """epsilon * tanh, the official hard clamp, or the tanh added to the prior's."""
    prior: Literal["gradient", "zeros", "noise"] = "gradient"
    """Start of delta_p: averaged PGD against a surrogate, nothing, or noise."""
    prior_faces: int = 2000
    """Faces over which the gradient prior is averaged."""
    train_prior: bool = True
    """Train delta_p along with the generator; otherwise P-Pert stays as it is, at two thirds of the time of a step."""

    mask_weight: float = 1.0
    """Weight of the mask terms in Eq. (9); the official code has 1."""
    identity_weight: float = 1.0
    """Weight of the identity term in Eq. (9); the official code has 0.1."""
    feature_weight: float = 1.0
    """Weight of the feature term in Eq. (9); the official code has 0.01."""
    masks: Literal["sum", "product"] = "sum"
    """Two mask terms (paper) or their product (official code)."""
    identity: Literal["embedding", "feature_map"] = "embedding"
    """What the identity term compares (official code: feature_map)."""

    compile: bool = False
    """Compile the manipulators: four fifths of a step's time on a CPU, after half a minute for each at first."""

    augment: tuple[str, ...] = ()
    """What faces go through on their way to the manipulators: none, jpeg, resize, crop, blur, noise; one a step."""

    batch_size: int = 32
    steps: int = 10_000
    """Budget of steps."""
    lr: float = 1e-4
    """Adam's learning rate."""
    schedule: Literal["constant", "linear"] = "constant"
    """The learning rate stays, or falls linearly to zero at the end of the budget (for short trainings)."""
    checkpoint_every: int = 100
    """Steps between checkpoints."""
    sample_every: int = 200
    """Steps between sample pictures."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size % 4:
            raise IDGuardError(f"size is {self.size}; expected a multiple of 4, such as 128 or 256")
        if not self.manipulators:
            raise IDGuardError("no manipulators; name at least one to defend against")
        if self.alpha is not None and len(self.alpha) != len(self.manipulators):
            raise IDGuardError(
                f"{len(self.alpha)} prior weights for {len(self.manipulators)} manipulators; give one each"
            )
        defaults = {field.name: field.default for field in fields(self)}
        if self.start and (given := [name for name in OF_A_PROTECTOR if getattr(self, name) != defaults[name]]):
            raise IDGuardError(f"{self.start} has its own {', '.join(given)}; leave out what you give, or start")

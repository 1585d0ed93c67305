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
    recognizers: tuple[str, ...] = ()
    """Folders or Hub ids, or name=file; default: the SFace that ships. The first one's heat map is Eq. (6)'s."""
    recognizer_choice: Literal["all", "random"] = "all"
    """The mean of all recognisers' cosines in every step, or one of them by chance, another each step."""
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
    """Folder or Hub id of a protector to go on from, which has its own generator, epsilon, bound and prior; or folder
    of a finished run, whose Adam moments are gone on from, too."""
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
    prior_every: int = 1
    """x + delta_p itself takes part in every so many-th step; in each, delta_p learns through the generator."""
    prior_lr: float | None = None
    """Learning rate of delta_p; default: that of the generator."""
    lowpass: int | None = None
    """Side in pixels of the box blur that both perturbations lose, odd, so that there is no cast; 0: they keep it (the
    paper). Default of this and the next two: what `start` has, or the paper's."""
    chroma: float | None = None
    """Share of their colour that stays: 1 in the paper; 0 changes brightness alone."""
    fade: int | None = None
    """Width in pixels over which they fall to nothing at the picture's edge."""

    loss: Literal["paper", "official", "log"] = "paper"
    """Form of Eq. (9): as printed, as in the official code, or log L2_face - 2 cos, each capped where it is met. The
    settings down to `kpi` change a part of it."""
    distance: Literal["norm", "square", "log"] | None = None
    """Distance of the mask and feature terms: 2-norm, mean of squares, or log of the mean of squares in the mask."""
    mask_weight: float | None = None
    """Weight of the mask terms."""
    identity_weight: float | None = None
    """Weight of the identity term."""
    feature_weight: float | None = None
    """Weight of the feature term."""
    masks: Literal["sum", "product", "face"] | None = None
    """Two mask terms (paper), one with their product (official code), or one with the face mask of Eq. (16)."""
    identity: Literal["embedding", "feature_map"] | None = None
    """What the identity term compares (official code: feature_map)."""
    kpi: Literal["share", "area", "literal"] | None = None
    """K_k of Eq. (13): mean square under the heat map as a share of what a slight PGD reaches on the model, the same as
    it is, or literally the mask term."""

    clean_cache: str | None = None
    """Folder that keeps what the manipulators make of clean faces, a quarter of a step's time, in half precision
    (0.1 MB for each face, manipulator and edit of 128 px); needs feature_weight 0. Distorted faces are made anew."""
    precision: Literal["no", "bf16", "auto"] = "no"  # type: ignore[assignment]  # one more than all trainings have
    """bf16 runs the networks under autocast, losses and updates stay float32; auto takes what is faster here, by a
    short measurement at the start."""
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
    warmup: int = 0
    """Steps over which the learning rate rises from 0 at first."""
    ema: float = 0.0
    """Share of the average of the weights that stays at each step, such as 0.99; the average is saved. 0: the last."""
    shares_every: int = 100
    """Steps between logs of each term's share of the gradient."""
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
        if self.ema >= 1:
            raise IDGuardError(f"ema is {self.ema}; expected the share of the average that stays, less than 1")
        defaults = {field.name: field.default for field in fields(self)}
        if self.start and (given := [name for name in OF_A_PROTECTOR if getattr(self, name) != defaults[name]]):
            raise IDGuardError(f"{self.start} has its own {', '.join(given)}; leave out what you give, or start")

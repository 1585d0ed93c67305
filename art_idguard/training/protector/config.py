"""The settings of a protector's training, and of its distillation."""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from art_idguard.errors import IDGuardError
from art_idguard.training.config import ScheduledConfig, require_multiple, require_of_start, require_one_each

OF_A_PROTECTOR = ("generator", "norm", "channels", "epsilon", "bound", "prior", "prior_faces")
"""Settings of a new protector; one to go on from has its own."""

MOST_NUDGED = 0.5
"""Beyond it a recogniser would see another part of the picture."""


@dataclass(frozen=True, kw_only=True)
class ProtectorConfig(ScheduledConfig):
    """Algorithm 1; the defaults are the paper's values. `epsilon` is on the [-1, 1] scale."""

    command = "train"
    renamed = MappingProxyType({"recognizer": "recognizers"})

    manipulators: tuple[str, ...] = ()
    """Names of those that ship, folders or Hub ids, or name=file for official checkpoints; default: all that ship."""
    size: int = 256
    """Side of the faces in pixels, a multiple of 4."""
    regions: str | None = None
    """File that keeps face points, heat maps and surrogates for the next run; made when absent. Default: in the user's
    cache."""
    recognizers: tuple[str, ...] = ()
    """Folders or Hub ids, or name=file; default: the SFace that ships. The first one's heat map is Eq. (6)'s."""
    recognizer_choice: Literal["all", "random"] = "all"
    """The mean of all recognisers' cosines in every step, or one of them by chance, another each step."""
    heat: Literal["grad-cam", "grad-cam++"] = "grad-cam"
    """How the heat map of Eq. (6) is made."""
    aligned: bool = True
    """Recognise faces aligned to the ArcFace template; the official code resizes the whole picture."""
    nudge: float = 0.0
    """How far recognisers look beside a face's frame, as a share of its size, another way in each step, since others
    find its points elsewhere; refinement takes 0.05."""

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
    """Width of the generator's first layer; the tokens of a transformer are six times as wide."""
    epsilon: float = 0.05
    """L-inf bound of the perturbation on the [-1, 1] scale."""
    bound: Literal["tanh", "clamp", "residual"] = "tanh"
    """epsilon * tanh, the official hard clamp, or the tanh added to the prior's."""
    prior: Literal["gradient", "zeros", "noise"] = "gradient"
    """Start of delta_p: averaged PGD against a surrogate, which takes minutes the first time; nothing, which does not
    wait (for a short run); or noise."""
    prior_faces: int = 2000
    """Faces over which the gradient prior is averaged."""
    train_generator: bool = True
    """Train the generator; otherwise delta_p learns alone, as a universal perturbation, and no generator runs."""
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
    masks: Literal["sum", "product", "binary", "heat", "face", "whole"] | None = None
    """Two mask terms (paper), one with their product (official code), one with the binary mask, the heat map or the
    face mask of Eq. (16), or one of the whole picture."""
    identity: Literal["embedding", "feature_map"] | None = None
    """What the identity term compares (official code: feature_map)."""
    kpi: Literal["share", "area", "literal"] | None = None
    """K_k of Eq. (13): mean square under the heat map as a share of what a slight PGD reaches on the model, the same as
    it is, or literally the mask term."""

    clean_cache: str | None = None
    """Folder that keeps what the manipulators make of clean faces, a quarter of a step's time, in half precision
    (0.1 MB for each face, manipulator and edit of 128 px, 0.6 with a feature_weight). Distorted faces are made anew."""
    compile: bool = False
    """Compile the manipulators: four fifths of a step's time on a CPU, after half a minute for each at first."""

    augment: tuple[str, ...] = ()
    """What faces go through on their way to the manipulators: none, jpeg, resize, crop, blur, noise; one a step."""

    batch_size: int = 32
    micro_batch: int | None = None
    """Faces that a manipulator sees at a time, over which its gradients are accumulated: what a large batch does, in
    the memory of a small one. Default: all of a process's share of the batch."""
    spread: Literal["faces", "tasks"] = "faces"
    """What processes share out: the faces of a batch, or the manipulators, each of which sees all of them in one
    process: for more processes than faces."""
    steps: int = 10_000
    """Budget of steps."""
    lr: float = 1e-4
    ema: float = 0.0
    """Share of the average of the weights that stays at each step, such as 0.99; the average is saved. 0: the last."""
    shares_every: int = 100
    """Steps between logs of each term's share of the gradient."""
    checkpoint_every: int = 100
    sample_every: int = 200
    log_every: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        require_multiple(self.size, 4)
        require_one_each(self.alpha, self.manipulators)
        _check_ema(self.ema)
        require_of_start(self, OF_A_PROTECTOR)
        if not (self.train_generator or self.train_prior):
            raise IDGuardError("neither train_generator nor train_prior: nothing would learn")
        if self.prior_lr and not self.lr:
            raise IDGuardError("prior_lr is a share of lr, which is 0; for delta_p alone: no-train-generator, and lr")
        if self.nudge > MOST_NUDGED:
            raise IDGuardError(f"nudge is {self.nudge}; expected a share of the frame, at most {MOST_NUDGED}")
        if self.nudge and not self.aligned:
            raise IDGuardError("nudge moves the frame of aligned faces; leave it out where they are not aligned")
        if self.nudge and self.clean_cache:
            raise IDGuardError("clean_cache keeps identities in one frame, and nudge moves it each step; leave out one")

    @property
    def shares_faces(self) -> bool:
        """Whether processes share out the faces of a batch."""
        return self.spread == "faces"


@dataclass(frozen=True, kw_only=True)
class DistillationConfig(ScheduledConfig):
    """A narrow protector learns to do what another does, on faces alone."""

    command = "distill"

    teacher: str | None = None
    """Folder or Hub id of the protector to imitate, whose bound and P-Pert are the student's; default: what ships."""
    channels: int = 32
    """Width of the student, a ResNet with instance normalisation; half of it costs a quarter."""
    size: int = 128
    """Side of the faces in pixels, a multiple of 4."""
    batch_size: int = 4
    steps: int = 10_000
    """Budget of steps."""
    lr: float = 1e-3
    schedule: Literal["constant", "linear"] = "linear"
    warmup: int = 50
    ema: float = 0.995
    """Share of the average of the weights that stays at each step; the average is saved."""
    checkpoint_every: int = 200
    sample_every: int = 1000
    log_every: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        require_multiple(self.size, 4)
        _check_ema(self.ema)


def _check_ema(ema: float) -> None:
    if ema >= 1:
        raise IDGuardError(f"ema is {ema}; expected the share of the average that stays, less than 1")

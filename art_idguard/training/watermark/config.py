"""The settings of a watermarker's training; imports nothing heavy, so that the command line can list them."""

from dataclasses import dataclass
from typing import Literal

from art_idguard.training.config import ScheduledConfig, require_multiple, require_of_start, require_one_each

OF_A_WATERMARKER = ("bits", "channels", "epsilon", "alone")
"""Settings of a new watermarker; one to go on from has its own."""


@dataclass(frozen=True, kw_only=True)
class WatermarkConfig(ScheduledConfig):
    """Section IV-E2: the mean squared error of a message read from each manipulator's forgeries, weighted as in
    Algorithm 1. `epsilon` is on the [-1, 1] scale.

    Deviates: the message is read from the watermarked photo, too, which the paper's sum leaves out; and it is learnt
    from there alone at first, under a bound that falls to epsilon, since nothing is learnt under a small one at once.
    """

    command = "watermark train"

    manipulators: tuple[str, ...] = ()
    """Names of those that ship, folders or Hub ids, or name=file for official checkpoints; default: all that ship."""
    size: int | None = None
    """Side of the faces in pixels, a multiple of 8; default: 128, or that of `start`."""
    start: str | None = None
    """Folder or Hub id of a watermarker to go on from, which has its own bits, channels and epsilon."""
    bits: int = 30
    """Length of a message, 12 to 64."""
    channels: int = 32
    """Width of the networks' first layers, a multiple of 4."""
    epsilon: float = 0.05
    """L-inf bound of the change on the [-1, 1] scale."""
    alone: int = 2000
    """Steps at first, at most, in which the message is read from the watermarked photo alone, until it can be."""

    weighting: str = "kpi"
    """Task weighting: uniform, prior, hmm, dtp, kpi (S-II) or mgda (S-I)."""
    alpha: tuple[float, ...] | None = None
    """Prior weight of each manipulator; default: 1."""
    mgda_solver: Literal["exact", "frank-wolfe"] = "exact"
    """cvxpy's exact optimum, or the paper's solver."""
    image_weight: float = 0.05
    """Weight of the mean square of the change, in units of epsilon squared."""
    adversarial_weight: float = 0.001
    """Weight of the discriminator's score of the watermarked photo (least squares)."""
    augment: tuple[str, ...] = ()
    """What pictures go through before the message is read: none, jpeg, resize, crop, blur, noise; one a step."""

    batch_size: int = 8
    steps: int = 10_000
    """Budget of steps."""
    lr: float = 1e-3
    schedule: Literal["constant", "linear"] = "linear"
    checkpoint_every: int = 100
    sample_every: int = 500
    log_every: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        require_multiple(self.size or 8, 8)
        require_one_each(self.alpha, self.manipulators)
        require_of_start(self, OF_A_WATERMARKER)

    @property
    def falls_from(self) -> float:
        """Share of the budget after which the learning rate falls, or the bound of a new watermarker."""
        return super().falls_from if self.start else 0.0

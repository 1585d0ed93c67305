"""The settings of a manipulator's training; imports nothing heavy, so that the command line can list them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from art_idguard.errors import IDGuardError
from art_idguard.training.config import TrainingConfig

DISCRIMINATOR = "discriminator.safetensors"
"""Beside the folder of a trained manipulator, for trainings that go on from it."""

PUBLISHED: dict[str, dict[str, Any]] = {
    "relgan": {
        "batch_size": 6,
        "steps": 400_000,
        "n_critic": 1,
        "lr": 5e-5,
        "decay_from": 1.0,
        "penalty_weight": 150.0,
    },
    "hisd": {
        "batch_size": 8,
        "steps": 600_000,
        "n_critic": 1,
        "betas": (0.0, 0.99),
        "decay_from": 1.0,
        "ema": 0.99,
        "clip": 100.0,
        "cycle_weight": 1.0,
        "penalty_weight": 1.0,
    },
}
"""Published values that differ from those of StarGAN, AttentionGAN and Fixed-Point GAN, the defaults."""


@dataclass(frozen=True, kw_only=True)
class ManipulatorConfig(TrainingConfig):
    """A manipulator's own training; the defaults are StarGAN's, `from_recipe` starts from each model's.

    Deviates: the average of the generator (`ema`) is HiSD's; the others publish the last weights. At its update t it
    keeps at most (1 + t) / (10 + t); HiSD keeps 0.99 from the first on. Learning rates fall with every step, StarGAN's
    official one every 1,000 steps. RelGAN's official weight decay, lr / steps = 1e-10, is left out.
    """

    command = "train-manipulator"

    manipulator: Literal["stargan", "attentiongan", "fpgan", "relgan", "hisd"]
    """Which manipulator; settings that are not given have its published values."""
    size: int = 128
    """Side of the faces in pixels, a multiple of 64."""
    margin: int = 0
    """Read the faces this many pixels larger and crop them at random."""
    start: str | None = None
    """Folder or Hub id, or name=file, of a manipulator to go on from; channels and norm are then its own."""
    start_discriminator: str | None = None
    """The discriminator.safetensors of an earlier run to go on from."""
    channels: int = 64
    """Width of the networks' first layers."""
    norm: Literal["switchable", "instance"] = "switchable"
    """Normalisation of RelGAN's generator; instance is the gray-box variant."""

    batch_size: int = 16
    steps: int = 200_000
    """Budget of discriminator steps."""
    n_critic: int = 5
    """Discriminator steps for one step of the generator."""
    warmup: int = 0
    """Steps of the discriminator alone at first: a new one has to catch up with a trained generator (`start`)."""
    lr: float = 1e-4
    """Adam's learning rate, of both networks."""
    mapper_lr: float = 1e-6
    """The learning rate of HiSD's mappers."""
    betas: tuple[float, ...] = (0.5, 0.999)
    """Adam's two decay rates."""
    decay_from: float = 0.5
    """Share of the budget after which the learning rate falls linearly to zero; 1 keeps it constant."""
    ema: float = 0.999
    """Decay of the average of the generator's weights, which is what is saved."""
    clip: float = float("inf")
    """Largest norm of a network's gradient."""

    classification_weight: float = 1.0
    """Weight of StarGAN's attribute classification."""
    cycle_weight: float = 10.0
    """Weight of the face after editing there and back; of all reconstructions of HiSD."""
    identity_weight: float = 10.0
    """Weight of the face after an edit that changes nothing (Fixed-Point GAN, RelGAN)."""
    penalty_weight: float = 10.0
    """Weight of the discriminator's gradient penalty."""
    interpolation_weight: float = 1.0
    """Weight of RelGAN's half-way edits."""
    orthogonality_weight: float = 1e-4
    """Weight of RelGAN's orthogonality of kernels."""
    style_weight: float = 1.0
    """Weight of HiSD's style reconstruction."""

    distill: bool = False
    """Learn a teacher's answers to clean faces in place of the published losses: needs no discriminator, no warm-up."""
    teacher: str | None = None
    """With `distill`: folder or Hub id, or name=file, of the teacher; default: the generator as it starts."""
    smoothness: float = 0.0
    """With `distill`: weight of the distance between the answers to attacked and clean faces; see `distill_step`."""

    compile: bool = False
    """Compile the generator; pays on a GPU in trainings of half an hour and more."""
    half: bool = False
    """Save the trained manipulator in fp16."""
    log_every: int = 50
    checkpoint_every: int = 2000
    sample_every: int = 2000

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size % 64:
            raise IDGuardError(f"size is {self.size}; expected a multiple of 64, such as 128 or 256")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise IDGuardError(f"betas is {self.betas}; expected 2 numbers, each from 0 to below 1")
        if self.decay_from > 1:
            raise IDGuardError(f"decay_from is {self.decay_from}; expected a share of the budget, 0 to 1")
        if self.ema > 1:
            raise IDGuardError(f"ema is {self.ema}; expected the share of the average that stays, 0 to 1")
        if self.first_update > self.steps:
            raise IDGuardError(
                f"the generator would never learn: its first turn is step {self.first_update} of {self.steps} "
                f"(warmup {self.warmup}, n_critic {self.n_critic}); lower them, or give it more steps"
            )
        if (self.teacher or self.smoothness) and not self.distill:
            raise IDGuardError("teacher and smoothness belong to distillation; add distill")

    @property
    def falls_from(self) -> float:
        """Share of the budget after which learning rates fall."""
        return self.decay_from

    @property
    def first_update(self) -> int:
        """The step at which the generator learns first: the end of a round of `n_critic` after the warm-up."""
        return 1 if self.distill else (self.warmup // self.n_critic + 1) * self.n_critic

    @classmethod
    def presets(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """The published values of the manipulator that `values` names."""
        return super().presets(values) | PUBLISHED.get(str(values["manipulator"]), {})


WARMUP = 1000
"""Steps in which a new discriminator catches up with a generator that was trained long ago, in hardening."""


@dataclass(frozen=True, kw_only=True)
class HardeningConfig(ManipulatorConfig):
    """Eq. (15): a manipulator's own training on attacked faces; epsilon and step size on the [-1, 1] scale."""

    command = "harden"

    start: str | None = None
    """Folder or Hub id, or name=file, of the manipulator to harden; default: the one of that name that ships."""
    attack: Literal["idguard", "pgd"] = "idguard"
    """What attacks the faces: a protector that is fine-tuned along, or PGD anew at each step (Disrupting)."""
    protector: str | None = None
    """Folder or Hub id of the protector that attacks; default: the one that ships."""
    protector_lr: float = 1e-4
    """Adam's learning rate of the protector."""
    epsilon: float = 0.05
    """Bound of PGD; a protector has its own."""
    pgd_steps: int = 10
    """Steps of PGD, of length 2 epsilon / steps."""

    @classmethod
    def presets(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """The published values, and a warm-up where the trained generator meets a new discriminator."""
        new = not (values.get("start_discriminator") or values.get("distill"))
        return super().presets(values) | ({"warmup": WARMUP} if new else {})

"""The contract of a manipulator's own game: what a step asks for, and what its two networks minimise."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from art_idguard.manipulators.base import Manipulator
from art_idguard.training.manipulator.config import ManipulatorConfig
from art_idguard.training.seeding import batch_index
from art_idguard.types import ATTRIBUTES, Edit, Images

Terms = dict[str, Float[Tensor, ""]]
"""Parts of a loss, each times its weight; their sum is the loss."""


class Draw(NamedTuple):
    """The faces of a step, and what else the step has drawn, equal on every process."""

    faces: Int64[Tensor, " B"]
    task: tuple[int, ...] = ()


class Batch(NamedTuple):
    """What a step works on."""

    real: Images
    """The faces as they are: what the discriminator takes for real, and what reconstructions are compared with."""
    inputs: Images
    """What the generator sees of them: attacked, when the training is adversarial (Eq. 15)."""
    labels: Float[Tensor, "B A"]
    edit: Edit
    task: tuple[int, ...]


Generator = TypeVar("Generator", bound=Manipulator)
Discriminator = TypeVar("Discriminator", bound=nn.Module)


class GANObjective(ABC, Generic[Generator, Discriminator]):
    """The losses of one kind of manipulator; a step forges once, and both networks learn from it.

    Args:
        config: weights of the terms and widths of the networks.
        labels: of all faces, on the CPU.
    """

    name: ClassVar[str]
    attributes: ClassVar[tuple[str, ...]] = ATTRIBUTES
    """What the labels say."""
    least_share: ClassVar[int] = 1
    """Faces that each process needs in a step."""
    precisions: ClassVar[tuple[str, ...]] = ("no", "bf16")
    """Those in which it does not diverge."""

    def __init__(self, config: ManipulatorConfig, labels: Float[Tensor, "N A"]) -> None:
        self.config, self.labels = config, labels

    @classmethod
    @abstractmethod
    def generator(cls, config: ManipulatorConfig) -> Generator:
        """A new generator with its published initial weights."""

    @classmethod
    @abstractmethod
    def discriminator(cls, config: ManipulatorConfig) -> Discriminator:
        """A new discriminator with its published initial weights."""

    def sample_batch(self, step: int) -> Draw:
        """The faces of a step, from (seed, step) alone."""
        config = self.config
        return Draw(batch_index(step, len(self.labels), config.batch_size, config.seed))

    @abstractmethod
    def edit(self, generator: Generator, real: Images, labels: Float[Tensor, "B A"], task: tuple[int, ...]) -> Edit:
        """What the generator is asked to do to these faces."""

    @abstractmethod
    def forge(self, generator: Generator, batch: Batch) -> tuple[Tensor, ...]:
        """What the generator makes of the batch as far as both losses need it."""

    @abstractmethod
    def discriminator_terms(self, discriminator: Discriminator, batch: Batch, forged: tuple[Tensor, ...]) -> Terms:
        """The discriminator's loss; `forged` is detached."""

    @abstractmethod
    def generator_terms(
        self, generator: Generator, discriminator: Discriminator, batch: Batch, forged: tuple[Tensor, ...]
    ) -> Terms:
        """The generator's loss; `forged` has its graph."""

    def parameter_groups(self, generator: Generator) -> list[dict[str, Any]]:
        """The generator's parameters with their learning rates."""
        return [{"params": list(generator.parameters()), "lr": self.config.lr}]


def discriminator_layers(size: int) -> int:
    """Strided convolutions of the discriminator: the published six, or fewer where a face is a map of 2x2 before."""
    return min(6, size.bit_length() - 2)


def random_shares(like: Float[Tensor, "B ..."]) -> Float[Tensor, "B 1 1 1"]:
    """A number in [0, 1) for each row."""
    return torch.rand(len(like), 1, 1, 1, device=like.device, dtype=like.dtype)

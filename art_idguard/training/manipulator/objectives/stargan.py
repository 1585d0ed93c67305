"""The games of StarGAN, AttentionGAN and Fixed-Point GAN: WGAN-GP with attribute classification and cycles."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from art_idguard.losses import to_float32
from art_idguard.manipulators import AttentionGAN, Discriminator, FixedPointGAN, StarGAN
from art_idguard.manipulators.stargan_family import StarGANFamily
from art_idguard.training.manipulator.config import ManipulatorConfig
from art_idguard.training.manipulator.losses import classification, gradient_penalty, wasserstein
from art_idguard.training.manipulator.objectives.base import (
    Batch,
    GANObjective,
    Terms,
    discriminator_layers,
    random_shares,
)
from art_idguard.types import Edit, Images


class StarGANObjective(GANObjective[StarGANFamily, Discriminator]):
    """Faces get the labels of other faces of the batch (Choi et al., CVPR 2018; yunjey/stargan 94dd002e93)."""

    name = StarGAN.name
    network: ClassVar[type[StarGANFamily]] = StarGAN

    @classmethod
    def generator(cls, config: ManipulatorConfig) -> StarGANFamily:
        """PyTorch's initial weights."""
        return cls.network(channels=config.channels)

    @classmethod
    def discriminator(cls, config: ManipulatorConfig) -> Discriminator:
        """PyTorch's initial weights."""
        return Discriminator(size=config.size, channels=config.channels, layers=discriminator_layers(config.size))

    def edit(self, generator: StarGANFamily, real: Images, labels: Float[Tensor, "B A"], task: tuple[int, ...]) -> Edit:
        """The labels of a random permutation of the batch."""
        return Edit("labels", labels[torch.randperm(len(labels), device=labels.device)])

    def forge(self, generator: StarGANFamily, batch: Batch) -> tuple[Tensor, ...]:
        """The edited faces."""
        return (generator(batch.inputs, batch.edit).output,)

    def discriminator_terms(self, discriminator: Discriminator, batch: Batch, forged: tuple[Tensor, ...]) -> Terms:
        """-D(real) + D(fake) + classification of the real faces + gradient penalty."""
        (fake,) = forged
        scores, logits = discriminator(torch.cat((batch.real, fake)))
        real, fake_scores = to_float32(scores).chunk(2)
        penalty = gradient_penalty(lambda x: discriminator(x)[0], batch.real, fake, random_shares(fake))
        return {
            "critic": wasserstein(real, fake_scores),
            "classification": self.config.classification_weight
            * classification(to_float32(logits)[: len(fake)], batch.labels),
            "penalty": self.config.penalty_weight * penalty,
        }

    def generator_terms(
        self, generator: StarGANFamily, discriminator: Discriminator, batch: Batch, forged: tuple[Tensor, ...]
    ) -> Terms:
        """-D(fake) + classification as the target labels + cycle."""
        (fake,) = forged
        return self._translation_terms(generator, discriminator, batch, fake, batch.edit.condition)

    def _translation_terms(
        self,
        generator: StarGANFamily,
        discriminator: Discriminator,
        batch: Batch,
        fake: Images,
        target: Float[Tensor, "B A"],
    ) -> Terms:
        scores, logits = discriminator(fake)
        cycle = generator(fake, Edit("labels", batch.labels)).output
        return {
            "adversarial": -to_float32(scores).mean(),
            "classification": self.config.classification_weight * classification(to_float32(logits), target),
            "cycle": self.config.cycle_weight * F.l1_loss(cycle, batch.real),
        }


class AttentionGANObjective(StarGANObjective):
    """StarGAN's, without a regulariser of the attention (AttentionGAN-v1-multi of Ha0Tang/AttentionGAN)."""

    name = AttentionGAN.name
    network = AttentionGAN


class FixedPointGANObjective(StarGANObjective):
    """StarGAN's, and the same again for the face's own labels, which must change nothing.

    Rahman Siddiquee et al., ICCV 2019; mahfuzmohammad/Fixed-Point-GAN 352d4958fb.
    """

    name = FixedPointGAN.name
    network = FixedPointGAN

    def generator_terms(
        self, generator: StarGANFamily, discriminator: Discriminator, batch: Batch, forged: tuple[Tensor, ...]
    ) -> Terms:
        """StarGAN's terms, and those of the same domain with the identity term."""
        own = generator(batch.inputs, Edit("labels", batch.labels)).output
        same = self._translation_terms(generator, discriminator, batch, own, batch.labels)
        return {
            **super().generator_terms(generator, discriminator, batch, forged),
            **{f"same_{name}": term for name, term in same.items()},
            "identity": self.config.identity_weight * F.l1_loss(own, batch.real),
        }

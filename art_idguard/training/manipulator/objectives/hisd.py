"""HiSD's game: hinge on translated and cycled faces, R1, reconstruction of the face and of the style."""

import random
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from art_idguard.errors import IDGuardError
from art_idguard.manipulators import HiSD, HiSDDiscriminator
from art_idguard.manipulators.hisd import ATTRIBUTES_OF_TAG, EDITS, STYLE_WIDTHS_128
from art_idguard.training.manipulator.config import ManipulatorConfig
from art_idguard.training.manipulator.losses import hinge, squared_gradient
from art_idguard.training.manipulator.objectives.base import Batch, Draw, GANObjective, Terms
from art_idguard.training.seeding import step_seed
from art_idguard.types import Edit, Images

HAIR = ("Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair")
CONDITIONS = ("Male", "Young")


def _style_widths(config: ManipulatorConfig) -> tuple[int, ...]:
    """Those published for 128 pixels, or for 256, in proportion to the first layer's 64.

    Smaller faces have as many of those for 256 as lead to the same map of 4x4.
    """
    of_256 = (32, 64, 128, 256, 512, 512, 512)
    published = STYLE_WIDTHS_128 if config.size == 128 else of_256[: config.size.bit_length() - 2]
    return tuple(config.channels * width // 64 for width in published)


def _initialise(network: nn.Module) -> None:
    """He normal weights, biases of 0.01."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.constant_(module.bias, 0.01)


class HiSDObjective(GANObjective[HiSD, HiSDDiscriminator]):
    """A step restyles one tag of faces that share an attribute of it (Li et al.; imlixinyang/HiSD c800b26bcd).

    Deviates: no colour jitter. The discriminator learns first, the generator then from the same pictures;
    officially the other way round.
    """

    name = HiSD.name
    attributes = ("Bangs", "Eyeglasses", *HAIR, *CONDITIONS)
    precisions = ("no",)

    def __init__(self, config: ManipulatorConfig, labels: Float[Tensor, "N A"]) -> None:
        super().__init__(config, labels)
        self.pools = [self._pool(labels, *which) for which in _attributes()]

    def _pool(self, labels: Float[Tensor, "N A"], tag: int, attribute: int) -> Int64[Tensor, " n"]:
        """The faces that have the attribute of the tag; of hair colours, no other."""
        if tag < 2:
            chosen = labels[:, tag] == 1 - attribute
        else:
            hair = labels[:, 2 : 2 + len(HAIR)]
            chosen = (hair == F.one_hot(torch.tensor(attribute), len(HAIR)).to(hair)).all(1)
        if not chosen.any():
            name = f"without {self.attributes[tag]}" if tag < 2 and attribute else self.attributes[tag + attribute]
            raise IDGuardError(f"none of the {len(labels)} faces is one for {name}; HiSD needs some of every attribute")
        return chosen.nonzero().flatten()

    @classmethod
    def generator(cls, config: ManipulatorConfig) -> HiSD:
        """The published initial weights; widths in the published proportions."""
        c = config.channels
        network = HiSD(
            widths=(c, 2 * c, 4 * c),
            style_widths=_style_widths(config),
            style=4 * c,
            translator_width=c,
            seed=config.seed,
        )
        _initialise(network)
        return network

    @classmethod
    def discriminator(cls, config: ManipulatorConfig) -> HiSDDiscriminator:
        """The published initial weights; widths in the published proportions."""
        network = HiSDDiscriminator(
            style_widths=_style_widths(config), style=4 * config.channels, conditions=len(CONDITIONS)
        )
        _initialise(network)
        return network

    def sample_batch(self, step: int) -> Draw:
        """A random tag, two of its attributes, and faces that have the first, from (seed, step) alone."""
        chance = random.Random(step_seed(self.config.seed, step))
        tag = chance.randrange(len(ATTRIBUTES_OF_TAG))
        source, target = chance.sample(range(ATTRIBUTES_OF_TAG[tag]), 2)
        pool = self.pools[_attributes().index((tag, source))]
        which = torch.tensor(chance.choices(range(len(pool)), k=self.config.batch_size))
        return Draw(pool[which], (tag, source, target))

    def edit(self, generator: HiSD, real: Images, labels: Float[Tensor, "B A"], task: tuple[int, ...]) -> Edit:
        """A style of the target attribute, mapped from noise, for each face."""
        tag, _, target = task
        noise = torch.randn(len(real), generator.noise, device=real.device, dtype=real.dtype)
        return Edit(_name_of(tag), generator.map(noise, tag, target))

    def forge(self, generator: HiSD, batch: Batch) -> tuple[Tensor, ...]:
        """Translated and cycled face; own and target style; reconstructed and self-styled face; style found again."""
        x, target, tag = batch.inputs, batch.edit.condition, batch.task[0]
        e = generator.encode(x)
        own = generator.extract(x, tag)
        translated = generator.decode(generator.translate(e, target, tag))
        cycled = generator.decode(generator.translate(generator.encode(translated), own, tag))
        if not torch.is_grad_enabled():
            return translated, cycled, own, target
        reconstructed = generator.decode(e)
        itself = generator.decode(generator.translate(e, own, tag))
        return translated, cycled, own, target, reconstructed, itself, generator.extract(translated, tag)

    def discriminator_terms(self, discriminator: HiSDDiscriminator, batch: Batch, forged: tuple[Tensor, ...]) -> Terms:
        """Hinge on the real face as either kind, on the translated and the cycled one; R1 of both real scores."""
        translated, cycled, own, target, *_ = forged
        (tag, source, wanted), y = batch.task, self._conditions(batch)
        real = batch.real.detach().requires_grad_()
        scores = discriminator(real, own, y, tag)[:, :, source]
        both = discriminator(torch.cat((translated, cycled)), torch.cat((target, own)), y.repeat(2, 1), tag)
        fake, cycle = both[:, 0, wanted].chunk(2)[0], both[:, 1, source].chunk(2)[1]
        penalty = squared_gradient(scores[:, 0], real) + squared_gradient(scores[:, 1], real)
        return {
            "real": hinge(scores[:, 0], 1) + hinge(scores[:, 1], 1),
            "translated": hinge(fake, -1),
            "cycled": hinge(cycle, -1),
            "penalty": self.config.penalty_weight * penalty,
        }

    def generator_terms(
        self, generator: HiSD, discriminator: HiSDDiscriminator, batch: Batch, forged: tuple[Tensor, ...]
    ) -> Terms:
        """Adversarial, with the real face's scores by its extracted style; style and picture reconstruction."""
        translated, cycled, own, target, reconstructed, itself, style = forged
        (tag, source, wanted), y = batch.task, self._conditions(batch)
        scores = discriminator(
            torch.cat((batch.real, translated, cycled)),
            torch.cat((own, target.detach(), own.detach())),
            y.repeat(3, 1),
            tag,
        )
        real, fake, cycle = scores.chunk(3)
        adversarial = real[:, :, source].mean(0).sum() - fake[:, 0, wanted].mean() - cycle[:, 1, source].mean()
        rebuilt = sum(F.l1_loss(picture, batch.real) for picture in (reconstructed, itself, cycled))
        return {
            "adversarial": adversarial,
            "style": self.config.style_weight * F.l1_loss(style, target),
            "cycle": self.config.cycle_weight * rebuilt,
        }

    def _conditions(self, batch: Batch) -> Float[Tensor, "B Y"]:
        """Tag-irrelevant conditions, as -1 and 1."""
        return 2 * batch.labels[:, -len(CONDITIONS) :] - 1

    def parameter_groups(self, generator: HiSD) -> list[dict[str, Any]]:
        """The mappers have a learning rate of their own."""
        mappers = list(generator.mappers.parameters())
        theirs = set(map(id, mappers))
        others = [p for p in generator.parameters() if id(p) not in theirs]
        return [{"params": others, "lr": self.config.lr}, {"params": mappers, "lr": self.config.mapper_lr}]


def _attributes() -> list[tuple[int, int]]:
    return [(tag, attribute) for tag, count in enumerate(ATTRIBUTES_OF_TAG) for attribute in range(count)]


def _name_of(tag: int) -> str:
    """An edit of the tag; which of them does not matter where the style is given."""
    return next(name for name, which in EDITS.items() if which[0] == tag)

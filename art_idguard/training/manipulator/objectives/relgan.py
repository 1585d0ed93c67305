"""RelGAN's game: least squares for realness and for the match of vector and change, interpolation, orthogonality."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from art_idguard.losses import to_float32
from art_idguard.manipulators import RelGAN, RelGANDiscriminator
from art_idguard.training.manipulator.config import ManipulatorConfig
from art_idguard.training.manipulator.losses import gradient_penalty, interpolation, least_squares, orthogonality
from art_idguard.training.manipulator.objectives.base import (
    Batch,
    GANObjective,
    Terms,
    discriminator_layers,
    random_shares,
)
from art_idguard.types import Edit, Images


def _initialise(network: nn.Module) -> None:
    """Glorot uniform convolutions, He normal transposed ones, zero biases."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.xavier_uniform_(module.weight)
        elif isinstance(module, nn.ConvTranspose2d):
            nn.init.kaiming_normal_(module.weight)
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and module.bias is not None:
            nn.init.zeros_(module.bias)


class RelGANObjective(GANObjective[RelGAN, RelGANDiscriminator]):
    """Wu et al., ICCV 2019; elvisyjlin/RelGAN-PyTorch 8e432d01b5. a is a face, b and c are its neighbours in the batch.

    Deviates: the vector is target - source, as in the paper and its Keras code (the PyTorch code trains on
    source - target). b and c come from the same batch as a, not from batches of their own, so that the trunk of the
    discriminator sees every face once. Generator and discriminator share a step's interpolated face.
    """

    name = RelGAN.name
    least_share = 3

    @classmethod
    def generator(cls, config: ManipulatorConfig) -> RelGAN:
        """The published initial weights; normalised by the batch while it trains."""
        network = RelGAN(channels=config.channels, norm=config.norm)
        _initialise(network)
        return network.use_batch_statistics()

    @classmethod
    def discriminator(cls, config: ManipulatorConfig) -> RelGANDiscriminator:
        """The published initial weights."""
        network = RelGANDiscriminator(channels=config.channels, layers=discriminator_layers(config.size))
        _initialise(network)
        return network

    def edit(self, generator: RelGAN, real: Images, labels: Float[Tensor, "B A"], task: tuple[int, ...]) -> Edit:
        """The way to the next face's labels, b - a."""
        return Edit("vector", labels.roll(1, 0) - labels)

    def forge(self, generator: RelGAN, batch: Batch) -> tuple[Tensor, ...]:
        """The face with all of the edit, with none and with a share alpha of it; alpha."""
        x, vector = batch.inputs, batch.edit.condition
        alpha = random_shares(x).flatten(1)
        shares = (torch.ones_like(alpha), torch.zeros_like(alpha), alpha)
        return *(generator(x, Edit("vector", share * vector)).output for share in shares), alpha

    def discriminator_terms(
        self, discriminator: RelGANDiscriminator, batch: Batch, forged: tuple[Tensor, ...]
    ) -> Terms:
        """Realness; match of right and wrong triples; gradient penalty; interpolation."""
        *pictures, alpha = forged
        a, full, none, between = discriminator.convs(torch.cat((batch.real, *pictures))).chunk(4)
        b, c = a.roll(1, 0), a.roll(2, 0)
        ab, of_c = batch.edit.condition, batch.labels.roll(2, 0)
        ac, cb = of_c - batch.labels, batch.labels.roll(1, 0) - of_c

        def match(*triple: Tensor, target: float) -> Tensor:
            return least_squares(to_float32(discriminator.match(*triple)), target)

        wrong = ((a, full, ab), (c, b, ab), (a, c, ab), (a, b, ac), (a, b, cb))
        realness = [to_float32(discriminator.conv_adv(h)) for h in (a, full)]
        degrees = [to_float32(discriminator.degree(h)) for h in (between, none, full)]

        def critic(x: Images) -> Tensor:
            return discriminator.conv_adv(discriminator.convs(x))

        penalty = gradient_penalty(critic, batch.real, pictures[0], random_shares(alpha))
        return {
            "realness": least_squares(realness[0], 1.0) + least_squares(realness[1], 0.0),
            "match": match(a, b, ab, target=1.0) + sum(match(*triple, target=0.0) for triple in wrong),
            "penalty": self.config.penalty_weight * penalty,
            "interpolation": self.config.interpolation_weight * interpolation(alpha, *degrees),
        }

    def generator_terms(
        self, generator: RelGAN, discriminator: RelGANDiscriminator, batch: Batch, forged: tuple[Tensor, ...]
    ) -> Terms:
        """Realness and match of the forged face, cycle, self-reconstruction, interpolation, orthogonality."""
        full, none, between, _alpha = forged
        a, h_full, h_between = discriminator.convs(torch.cat((batch.real, full, between))).chunk(3)
        vector, config = batch.edit.condition, self.config
        cycle = generator(full, Edit("vector", -vector)).output
        with torch.autocast(full.device.type, enabled=False):
            orthogonal = orthogonality(p for p in generator.parameters() if p.dim() == 4)
        return {
            "realness": least_squares(to_float32(discriminator.conv_adv(h_full)), 1.0),
            "match": least_squares(to_float32(discriminator.match(a, h_full, vector)), 1.0),
            "cycle": config.cycle_weight * F.l1_loss(cycle, batch.real),
            "identity": config.identity_weight * F.l1_loss(none, batch.real),
            "interpolation": config.interpolation_weight
            * least_squares(to_float32(discriminator.degree(h_between)), 0.0),
            "orthogonality": config.orthogonality_weight * orthogonal,
        }

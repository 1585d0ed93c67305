"""The StarGAN family: its generator, discriminator and labels.

Layout of yunjey/stargan 94dd002e93 (MIT); the parameters have their official names, so that the
official files load.
"""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from art_idguard.manipulators.base import Manipulator
from art_idguard.manipulators.layers import InstanceNorm, halving_convolutions
from art_idguard.types import ATTRIBUTES, Attributes, Edit, Images, Manipulation


def _stage(convolution: nn.Conv2d | nn.ConvTranspose2d) -> tuple[nn.Module, ...]:
    return convolution, InstanceNorm(convolution.out_channels), nn.ReLU(inplace=True)


class Residual(nn.Module):
    """x + IN(conv(ReLU(IN(conv(x)))))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            *_stage(nn.Conv2d(channels, channels, 3, padding=1, bias=False)),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            InstanceNorm(channels),
        )

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """The input plus what the block learnt."""
        return x + self.main(x)


class StarGANFamily(Manipulator):
    """StarGAN's generator up to its last convolution, which three of the manipulators share.

    Args:
        channels: width of the first layer.
        blocks: residual blocks; E_k ends after the first half of them.
    """

    multiple = 4
    outputs: ClassVar[int] = 3
    """Channels of the last convolution."""

    def __init__(self, *, channels: int = 64, blocks: int = 6) -> None:
        super().__init__()
        c = channels
        inputs = 3 + len(ATTRIBUTES)
        down = (
            *_stage(nn.Conv2d(inputs, c, 7, padding=3, bias=False)),
            *_stage(nn.Conv2d(c, 2 * c, 4, stride=2, padding=1, bias=False)),
            *_stage(nn.Conv2d(2 * c, 4 * c, 4, stride=2, padding=1, bias=False)),
        )
        up = (
            *_stage(nn.ConvTranspose2d(4 * c, 2 * c, 4, stride=2, padding=1, bias=False)),
            *_stage(nn.ConvTranspose2d(2 * c, c, 4, stride=2, padding=1, bias=False)),
        )
        residuals = [Residual(4 * c) for _ in range(blocks)]
        last = nn.Conv2d(c, self.outputs, 7, padding=3, bias=False)
        self.main = nn.Sequential(*down, *residuals, *up, last)
        self.feature_layers = len(down) + blocks // 2

    def raw(self, x: Images, edit: Edit) -> Manipulation:
        """The last convolution's output in x's dtype, and E_k's features (a quarter the side)."""
        label = edit.condition.to(x)[:, :, None, None].expand(len(x), -1, *x.shape[2:])
        features = self.main[: self.feature_layers](torch.cat((x, label), 1))
        return Manipulation(self.main[self.feature_layers :](features).to(x.dtype), features)

    def edits(self, attributes: Attributes) -> tuple[Edit, ...]:
        """Target labels by StarGAN's rule, see `edited_labels`."""
        return edited_labels(attributes)

    def inverse_edit(self, edit: Edit, x: Images, attributes: Attributes) -> Edit:
        """The face's own labels."""
        return Edit(edit.name, attributes)


def edited_labels(attributes: Attributes) -> tuple[Edit, ...]:
    """StarGAN's rule: a hair colour is set and the other two cleared, other attributes flip."""
    hair = [i for i, name in enumerate(ATTRIBUTES) if name.endswith("_Hair")]
    edits = []
    for i, name in enumerate(ATTRIBUTES):
        target = attributes.clone()
        target[:, i] = 1 - attributes[:, i]
        if i in hair:
            for other in hair:
                target[:, other] = float(other == i)
        edits.append(Edit(name, target))
    return tuple(edits)


class Discriminator(nn.Module):
    """Critic and attribute classifier of StarGAN, AttentionGAN and Fixed-Point GAN.

    Args:
        size: side of the faces in pixels, a multiple of 2**layers.
        channels: width of the first layer, doubled by each further one.
        layers: strided convolutions.
    """

    def __init__(self, *, size: int = 256, channels: int = 64, layers: int = 6) -> None:
        super().__init__()
        self.main = halving_convolutions(channels, layers)
        width = channels * 2 ** (layers - 1)
        self.conv1 = nn.Conv2d(width, 1, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(width, len(ATTRIBUTES), size // 2**layers, bias=False)

    def forward(self, x: Images) -> tuple[Float[Tensor, "B 1 h w"], Float[Tensor, "B 5"]]:
        """Realness scores of patches, and a logit for each of `ATTRIBUTES`."""
        features = self.main(x)
        return self.conv1(features), self.conv2(features).flatten(1)

"""What several manipulators share: StarGAN's generator, discriminator and labels; normalisation.

Layout of yunjey/stargan 94dd002e93 (MIT); the parameters have their official names, so that the
official files load.
"""

from itertools import pairwise
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from art_idguard.manipulators.base import Manipulator
from art_idguard.types import ATTRIBUTES, Attributes, Edit, Images, Manipulation


class InstanceNorm(nn.InstanceNorm2d):
    """Instance statistics in train and eval mode alike; the running buffers stay as loaded.

    The official code tracks statistics but never calls eval(): with the tracked ones the pictures
    change completely.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, affine=True, track_running_stats=True)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Normalise every channel of every image over its pixels."""
        return F.instance_norm(x, weight=self.weight, bias=self.bias, eps=self.eps)


def moments(x: Float[Tensor, "B C H W"]) -> tuple[Float[Tensor, "B C"], Float[Tensor, "B C"]]:
    """Mean and unbiased variance over the pixels, in at least float32.

    From the mean and the 2-norm: on a CPU over ten times faster than torch.var_mean.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    n = x[0, 0].numel()
    mean = x.mean((2, 3), dtype=dtype)
    norm = torch.linalg.vector_norm(x, dim=(2, 3), dtype=dtype)
    return mean, ((norm**2 - n * mean**2) / (n - 1)).clamp_min(1e-12)


def scale_and_shift(
    x: Float[Tensor, "B C H W"], scale: Float[Tensor, "B C"], shift: Float[Tensor, "B C"]
) -> Float[Tensor, "B C H W"]:
    """Scale and shift every channel of every image.

    As a batch norm of identity statistics: one fused pass forward, one backward.
    """
    scale, shift = scale.reshape(-1), shift.reshape(-1)
    mean, var = torch.zeros_like(scale), torch.ones_like(scale)
    flat = x.reshape(1, -1, *x.shape[2:])
    return F.batch_norm(flat, mean, var, scale, shift, training=False, eps=0).view(x.shape)


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

    def back(self, edit: Edit, x: Images, attributes: Attributes) -> Edit:
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
            target[:, hair] = 0
            target[:, i] = 1
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


def halving_convolutions(channels: int, layers: int) -> nn.Sequential:
    """Strided 4x4 convolutions with LeakyReLU 0.01, from RGB to `channels`, then doubling them."""
    widths = [3, *(channels * 2**i for i in range(layers))]
    modules: list[nn.Module] = []
    for before, after in pairwise(widths):
        modules += [
            nn.Conv2d(before, after, 4, stride=2, padding=1),
            nn.LeakyReLU(0.01, inplace=True),
        ]
    return nn.Sequential(*modules)

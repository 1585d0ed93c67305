"""Residual blocks of HiSD: down, up, and with styled instance norms (AdaIN)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from art_idguard.manipulators.layers import moments, scale_and_shift


def normalise(
    x: Float[Tensor, "B C H W"], weight: Float[Tensor, "b C"], bias: Float[Tensor, "b C"]
) -> Float[Tensor, "B C H W"]:
    """HiSD's instance norm: (x - mean) / (std + 1e-5) * weight + bias, with the unbiased std."""
    mean, var = moments(x)
    scale = weight / (var.sqrt() + 1e-5)
    return scale_and_shift(x, scale, bias - mean * scale)


def _activate(x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
    return F.leaky_relu(x, 0.2)


def _merge(a: Float[Tensor, "*s"], b: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """The sum of two branches at the variance of one."""
    return (a + b) * 0.5**0.5


class InstanceNorm(nn.Module):
    """`normalise` with learnt weight and bias."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, channels, 1))
        self.bias = nn.Parameter(torch.zeros(1, channels, 1))

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Normalise every channel of every image over its pixels."""
        return normalise(x, self.weight[..., 0], self.bias[..., 0])


class Down(nn.Module):
    """Residual block that halves the side, with or without instance norm."""

    def __init__(self, before: int, after: int, *, norm: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, before, 3, padding=1)
        self.conv2 = nn.Conv2d(before, after, 3, padding=1)
        self.in1 = InstanceNorm(before) if norm else nn.Identity()
        self.in2 = InstanceNorm(before) if norm else nn.Identity()
        self.sc = nn.Conv2d(before, after, 1, bias=False)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        """Pooled before the 1x1 shortcut, which commutes with it: a quarter of the work."""
        h = F.avg_pool2d(self.conv1(_activate(self.in1(x))), 2)
        return _merge(self.sc(F.avg_pool2d(x, 2)), self.conv2(_activate(self.in2(h))))


class Up(nn.Module):
    """Residual block with instance norm that doubles the side."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, padding=1)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1)
        self.in1 = InstanceNorm(before)
        self.in2 = InstanceNorm(after)
        self.sc = nn.Conv2d(before, after, 1, bias=False)

    def forward(self, x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B D H W"]:
        """Nearest-neighbour upsampling in both branches."""
        h = self.conv1(F.interpolate(_activate(self.in1(x)), scale_factor=2))
        return _merge(F.interpolate(self.sc(x), scale_factor=2), self.conv2(_activate(self.in2(h))))


class Middle(nn.Module):
    """Residual block whose two instance norms are styled (AdaIN)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.sc = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: Float[Tensor, "B C H W"], style: Float[Tensor, "b 2 2 C"]) -> Float[Tensor, "B C H W"]:
        """`style` holds for each norm its bias and its weight - 1, for one row or for all."""
        (bias1, weight1), (bias2, weight2) = (norm.unbind(1) for norm in style.unbind(1))
        h = self.conv1(_activate(normalise(x, weight1 + 1, bias1)))
        return _merge(self.sc(x), self.conv2(_activate(normalise(h, weight2 + 1, bias2))))

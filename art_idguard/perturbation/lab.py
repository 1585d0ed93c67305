"""CIE L*a*b* colours, differentiable (D65, 2 degrees), for attacks that change colour and leave lightness."""

import torch
from jaxtyping import Float
from torch import Tensor

_TO_XYZ = torch.tensor([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
_WHITE = torch.tensor([0.95047, 1.0, 1.08883])
_EDGE = 6 / 29

Pixels = Float[Tensor, "B 3 H W"]


def rgb_to_lab(rgb: Pixels) -> Pixels:
    """SRGB within [0, 1] -> L* within [0, 100], a*, b*."""
    linear = torch.where(rgb > 0.04045, ((rgb.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    xyz = torch.einsum("ij,bjhw->bihw", _TO_XYZ.to(rgb), linear) / _WHITE.to(rgb)[:, None, None]
    f = torch.where(xyz > _EDGE**3, xyz.clamp(min=_EDGE**3) ** (1 / 3), xyz / (3 * _EDGE**2) + 4 / 29)
    x, y, z = f.unbind(dim=1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


def lab_to_rgb(lab: Pixels) -> Pixels:
    """The way back, clamped to [0, 1]: not every Lab colour is one of sRGB."""
    lightness, a, b = lab.unbind(dim=1)
    y = (lightness + 16) / 116
    f = torch.stack([y + a / 500, y, y - b / 200], dim=1)
    xyz = torch.where(f > _EDGE, f**3, 3 * _EDGE**2 * (f - 4 / 29)) * _WHITE.to(lab)[:, None, None]
    linear = torch.einsum("ij,bjhw->bihw", torch.linalg.inv(_TO_XYZ).to(lab), xyz).clamp(0, 1)
    curved = 1.055 * linear.clamp(min=0.0031308) ** (1 / 2.4) - 0.055
    return torch.where(linear > 0.0031308, curved, 12.92 * linear).clamp(0, 1)

"""TinyBeauty, make-up (ECCV 2024): a small network that paints one style."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from art_idguard.images import resize
from art_idguard.manipulators.base import Manipulator, Published
from art_idguard.types import Attributes, Edit, Images, Manipulation

SIZE = 256


class LayerNorm(nn.Module):
    """Over channels and pixels, by the unbiased standard deviation, to which the eps is added."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Normalise every face, then scale and shift its channels."""
        std, mean = torch.std_mean(x, (1, 2, 3), keepdim=True)
        return (x - mean) / (std + 1e-5) * self.gamma[:, None, None] + self.beta[:, None, None]


class Convolution(nn.Module):
    """A convolution with mirrored edges, and a normalisation."""

    def __init__(
        self, before: int, after: int, kernel: int, *, stride: int = 1, norm: type[nn.Module] = nn.InstanceNorm2d
    ) -> None:
        super().__init__()
        padding = (kernel - 1) // 2
        self.conv = nn.Conv2d(before, after, kernel, stride=stride, padding=padding, padding_mode="reflect")
        self.norm = norm(after)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        """Without an activation."""
        return self.norm(self.conv(x))


class Residual(nn.Module):
    """x plus two convolutions of it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.model = nn.ModuleList(Convolution(channels, channels, 3) for _ in range(2))

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Features of the same size."""
        first, second = self.model
        return x + second(first(x).relu())


class Residuals(nn.Module):
    """Two residual blocks."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.model = nn.Sequential(Residual(channels), Residual(channels))

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Features of the same size."""
        return self.model(x)


class ContentEncoder(nn.Module):
    """Features of a face at a half and at a quarter of the side."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_first = Convolution(3, channels, 7)
        self.down1 = Convolution(channels, channels, 4, stride=2)
        self.down2 = Convolution(channels, channels, 4, stride=2)
        self.resblocks = Residuals(channels)

    def forward(self, x: Images) -> tuple[Tensor, Tensor, Tensor]:
        """At a half, at a quarter, and the last, at a quarter as well."""
        half = self.down1(self.conv_first(x).relu()).relu()
        quarter = self.down2(half).relu()
        return half, quarter, self.resblocks(quarter)


class TinyBeauty(Manipulator):
    """Adds what the network draws to the face. E_k's features are the encoder's last, of 64 x 64 pixels.

    Works at 256 pixels: faces are resampled to that, and what it makes of them to their own size.

    Args:
        channels: width of all layers.
    """

    name: ClassVar[str] = "tinybeauty"
    published = Published(
        "https://github.com/TinyBeauty/TinyBeauty",
        {
            "Demo/checkpoints/style1.pt": "fc082376f5104e216372ec8f3a7f341cc27469f755987b21e8d73023a3aae9ce",
        },
        "no licence file",
    )

    def __init__(self, *, channels: int = 24) -> None:
        super().__init__()
        c = channels
        self.content_encoder = ContentEncoder(c)
        self.res = Residuals(c)
        self.upconv1 = Convolution(2 * c, c, 3, norm=LayerNorm)
        self.upconv2 = Convolution(2 * c, c, 3, norm=LayerNorm)
        self.out = Convolution(c, 3, 3, norm=nn.Identity)

    def draw(self, x: Images) -> Manipulation:
        """What is added to faces of the network's size, and E_k's features."""
        half, quarter, features = self.content_encoder(x)
        h = self.upconv1(F.interpolate(torch.cat((quarter, self.res(features)), 1), scale_factor=2)).relu()
        h = self.upconv2(F.interpolate(torch.cat((half, h), 1), scale_factor=2)).relu()
        return Manipulation(self.out(h).tanh(), features)

    def forward(self, x: Images, edit: Edit) -> Manipulation:
        """Eq. (1): the face with make-up, whatever the edit."""
        face = resize(x, (SIZE, SIZE))
        residual, features = self.draw(face)
        made_up = (face + residual.to(x.dtype)).clamp(-1, 1)
        return Manipulation(resize(made_up, (x.shape[-2], x.shape[-1])), features)

    def edits(self, attributes: Attributes) -> tuple[Edit, ...]:
        """One, the style that the weights were trained on, which has no condition; labels only say how many rows."""
        return (Edit("makeup", attributes.new_zeros(len(attributes), 0)),)

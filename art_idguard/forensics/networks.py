"""The message encoder E_m, the decoder D_m and the discriminator of section IV-E2.

Encoder and decoder work at half the size, where their convolutions cost a quarter; a message lies in them as maps of
cells of eight pixels (as in MBRS, Jia et al., ACM MM 2021), so that a decoder need not find it.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from art_idguard.types import Images

CELL = 8
"""Side in pixels of a cell of the message's maps."""

MAPS = 4
"""Of the message, in a cell."""


def _block(before: int, after: int, *, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.GroupNorm(4, after), nn.ReLU(inplace=True))


class Encoder(nn.Module):
    """Residual in (-1, 1) of a face and a message.

    Args:
        bits: length of the message.
        size: side of the faces in pixels.
        channels: width of the first layer.
    """

    def __init__(self, *, bits: int, size: int, channels: int) -> None:
        super().__init__()
        c, self.cells = channels, size // CELL
        self.spread = nn.Linear(bits, MAPS * self.cells**2)
        self.face = nn.Sequential(nn.PixelUnshuffle(2), _block(12, c))
        self.both = nn.Sequential(_block(c + MAPS, 2 * c), _block(2 * c, 2 * c), _block(2 * c, 2 * c), _block(2 * c, c))
        self.residual = nn.Sequential(_block(2 * c, c), nn.Conv2d(c, 12, 3, padding=1), nn.PixelShuffle(2))

    def forward(self, x: Images, message: Float[Tensor, "B L"]) -> Images:
        """Args: x, faces of the size; message, 0 or 1."""
        face = self.face(x)
        maps = self.spread(2 * message - 1).view(-1, MAPS, self.cells, self.cells)
        maps = F.interpolate(maps, size=face.shape[-2:], mode="nearest")
        both = self.both(torch.cat([face, maps], dim=1))
        return self.residual(torch.cat([face, both], dim=1)).tanh()


class Decoder(nn.Module):
    """Scores of a face's bits: above 0.5 for 1, as trained by the mean squared error.

    Args:
        bits: length of the message.
        size: side of the faces in pixels.
        channels: width of the first layer.
    """

    def __init__(self, *, bits: int, size: int, channels: int) -> None:
        super().__init__()
        c = channels
        self.maps = nn.Sequential(
            nn.PixelUnshuffle(2),
            _block(12, c),
            _block(c, 2 * c, stride=2),
            _block(2 * c, 2 * c),
            _block(2 * c, 4 * c, stride=2),
            _block(4 * c, 4 * c),
            nn.Conv2d(4 * c, MAPS, 1),
        )
        self.read = nn.Linear(MAPS * (size // CELL) ** 2, bits)

    def forward(self, x: Images) -> Float[Tensor, "B L"]:
        """Of faces of the size."""
        return 0.5 + self.read(self.maps(x).flatten(1))


class Discriminator(nn.Module):
    """Scores patches: 1 for photos, 0 for watermarked ones (PatchGAN; Isola et al., CVPR 2017).

    Args:
        channels: width of the first layer.
    """

    def __init__(self, *, channels: int) -> None:
        super().__init__()
        c = channels
        self.score = nn.Sequential(
            nn.Conv2d(3, c, 4, 2, padding=1),
            nn.LeakyReLU(0.2),
            _block(c, 2 * c, stride=2),
            _block(2 * c, 2 * c),
            nn.Conv2d(2 * c, 1, 3, padding=1),
        )

    def forward(self, x: Images) -> Float[Tensor, "B 1 h w"]:
        """Of faces of any size."""
        return self.score(x)

"""A face inpainter: a U-Net that has learnt from faces what belongs where something is missing."""

from functools import lru_cache
from itertools import pairwise
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from art_idguard.errors import IDGuardError
from art_idguard.hub.model import HubModel
from art_idguard.hub.shipped import shipped
from art_idguard.images import resize
from art_idguard.types import Images, Maps

SIZE = 128
"""Side in pixels of the faces that it sees; others are resized, and stay what they are where nothing is missing."""

HALVINGS = 3


class FaceInpainter(HubModel):
    """Masked reconstruction, trained by hub/train_inpainter.py; a restorer.

    A U-Net of pixels unshuffled by two, so that it costs a quarter; behind three halvings its convolutions see the
    whole face. LBP and GS-SSA, which the paper uses, are larger and have discriminators.

    Examples:
        >>> inpainter = FaceInpainter(channels=8).eval()
        >>> faces, mask = torch.zeros(1, 3, 64, 64), torch.zeros(1, 1, 64, 64)
        >>> mask[..., 20:40, 20:40] = 1
        >>> inpainter(faces, mask).shape
        torch.Size([1, 3, 64, 64])

    Args:
        channels: width of the first layer, a multiple of 4.
    """

    name: ClassVar[str] = "inpainter"

    def __init__(self, *, channels: int = 32) -> None:
        super().__init__()
        widths = [channels, *(min(2**i, 4) * channels for i in range(1, HALVINGS + 1))]
        self.first = _block(16, channels)
        self.down = nn.ModuleList(_block(a, b, stride=2) for a, b in pairwise(widths))
        self.middle = nn.Sequential(_block(widths[-1], widths[-1]), _block(widths[-1], widths[-1]))
        self.up = nn.ModuleList(_block(a + b, b) for a, b in pairwise(reversed(widths)))
        self.last = nn.Conv2d(channels, 12, 3, padding=1)

    def forward(self, images: Images, mask: Maps) -> Images:
        """The pictures, on the [-1, 1] scale, with something else where their mask is over a half."""
        holes = mask > 0.5
        size = (images.shape[-2], images.shape[-1])
        missing = _largest(holes)
        known = resize(images.masked_fill(holes, 0), (SIZE, SIZE)) * (1 - missing)
        filled = resize(self.fill(known, missing), size)
        return torch.where(holes, filled.clamp(-1, 1).to(images), images)

    def fill(self, known: Images, holes: Float[Tensor, "B 1 H W"]) -> Images:
        """Whole faces of the size, from faces that are 0 where the holes are 1."""
        x = self.first(F.pixel_unshuffle(torch.cat([known, holes], dim=1), 2))
        skipped = []
        for down in self.down:
            skipped.append(x)
            x = down(x)
        x = self.middle(x)
        for up in self.up:
            x = up(torch.cat([F.interpolate(x, scale_factor=2.0, mode="nearest"), skipped.pop()], dim=1))
        return F.pixel_shuffle(self.last(x), 2)


def _largest(holes: Tensor) -> Float[Tensor, "B 1 H W"]:
    """Holes at the network's size, no smaller than they are: what is missing is not to shine in at the edge."""
    return (resize(holes.float(), (SIZE, SIZE)) > 0).float()


def _block(before: int, after: int, *, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.GroupNorm(4, after), nn.ReLU(inplace=True))


@torch.no_grad()
def learned(images: Images, mask: Maps) -> Images:
    """The inpainter that ships, as a restorer.

    Raises:
        IDGuardError: none ships with this installation.
    """
    return _default().to(images.device)(images, mask)


@lru_cache(maxsize=1)
def _default() -> FaceInpainter:
    folder = shipped("restorers/inpainter-celeba128")
    if not folder.is_dir():
        raise IDGuardError(
            f"no inpainter ships with this installation (expected {folder}); a clone of the repository has it, and "
            "hub/train_inpainter.py trains one"
        )
    return FaceInpainter.from_pretrained(folder).requires_grad_(False)

"""Pixel ranges, bounds and sizes: the only module, with `pixels`, that knows that [0, 1] and [0, 255] exist.

Inside the package faces are float on the [-1, 1] scale and every epsilon is on that scale too:
epsilon 0.05 here is 0.025 on [0, 1] and 6.375 of 255 levels.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from art_idguard.errors import IDGuardError
from art_idguard.types import Images


def to_signed(images: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """[0, 1] -> [-1, 1]."""
    return images * 2 - 1


def to_unit(images: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """[-1, 1] -> [0, 1]."""
    return (images + 1) / 2


class PixelRange(NamedTuple):
    """Lowest and highest value of a pixel where images have another scale (ART's `clip_values`)."""

    low: float = 0.0
    high: float = 1.0

    @property
    def span(self) -> float:
        """Highest minus lowest."""
        return self.high - self.low

    def signed(self, images: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
        """Images of this range on the [-1, 1] scale."""
        return 2 * (images - self.low) / self.span - 1

    def unsigned(self, images: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
        """Images of the [-1, 1] scale in this range."""
        return self.low + (images + 1) / 2 * self.span


def require_signed(images: Tensor) -> None:
    """Refuse what is on another scale, or laid out otherwise, than the package's own images.

    Raises:
        IDGuardError: not floating, not (B, 3, H, W), or values that are not finite or beyond [-1, 1] by more than 0.01.
    """
    if torch.compiler.is_compiling() or images.is_meta:
        return
    if images.ndim != 4 or images.shape[1] != 3:
        last = images.ndim == 4 and images.shape[3] == 3
        hint = "; channels come first: x.permute(0, 3, 1, 2)" if last else "; one image needs x[None]"
        raise IDGuardError(f"expected RGB images of shape (B, 3, H, W), found {tuple(images.shape)}{hint}")
    if not images.is_floating_point():
        raise IDGuardError(
            f"expected float images within [-1, 1], found {images.dtype}; x.float() / 127.5 - 1 of bytes"
        )
    if not images.numel():
        return
    with torch.no_grad():
        low, high = (float(value) for value in images.aminmax())
    if not (low >= -1.01 and high <= 1.01):  # NaN too
        raise IDGuardError(
            f"expected pixels within [-1, 1], found [{low:.3g}, {high:.3g}]; of 0..255 take x / 127.5 - 1"
        )


def from_uint8(images: UInt8[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """0..255 -> [-1, 1], float32."""
    return images.float() / 127.5 - 1


def to_uint8(images: Float[Tensor, "*s"]) -> UInt8[Tensor, "*s"]:
    """[-1, 1] -> 0..255, rounded to the nearest level; values outside the range are clipped."""
    return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def epsilon_to_unit(epsilon: float) -> float:
    """A bound on the [-1, 1] scale as one on [0, 1], the scale of files and of ART."""
    return epsilon / 2


def project(perturbed: Float[Tensor, "*s"], clean: Float[Tensor, "*s"], epsilon: float) -> Float[Tensor, "*s"]:
    """Projection of `perturbed` to the L-inf ball of radius `epsilon` around `clean` and to [-1, 1]."""
    return (clean + (perturbed - clean).clamp(-epsilon, epsilon)).clamp(-1, 1)


def resize(images: Float[Tensor, "B C H W"], size: tuple[int, int]) -> Float[Tensor, "B C h w"]:
    """Bilinear resize to (height, width), antialiased when shrinking; pixel values keep their range."""
    if images.shape[-2:] == size:
        return images
    return F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)


def box_blur(images: Float[Tensor, "B C H W"], side: int) -> Float[Tensor, "B C H W"]:
    """The mean over a square of `side` pixels, an odd number; edges are repeated."""
    return F.avg_pool2d(F.pad(images, (side // 2,) * 4, mode="replicate"), side, stride=1)


def to_array(images: Images) -> UInt8[np.ndarray, "B H W 3"]:
    """[-1, 1] NCHW -> 8-bit NHWC, as Pillow and OpenCV take it."""
    return to_uint8(images.detach()).permute(0, 2, 3, 1).cpu().numpy()


def from_array(array: UInt8[np.ndarray, "B H W 3"]) -> Images:
    """8-bit NHWC -> [-1, 1] NCHW."""
    return from_uint8(torch.from_numpy(np.array(array)).permute(0, 3, 1, 2))

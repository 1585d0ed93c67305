"""Lossy operations on photos (section IV-D4): JPEG, resizing, cropping, blur, noise; all differentiable.

Every operation takes pictures on the [-1, 1] scale and returns as many of the same size on that scale, in their
dtype. A `Distortion` is one operation with its parameters drawn, so that clean and protected faces get the same.
"""

import io
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Generator, Tensor
from torch.nn import functional as F

from art_idguard.errors import IDGuardError
from art_idguard.images import from_array, resize, to_array, to_signed, to_unit
from art_idguard.manipulators.base import Manipulator, WrappedManipulator
from art_idguard.types import Edit, Frames, Images, Manipulation


def jpeg(images: Images, *, quality: float | int) -> Images:
    """JPEG with 4:2:0 colour, as most programs write it, by kornia (Reich et al., WACV 2024).

    Rounding is the cubic surrogate of Shin & Song (2017), so the result differs from a decoded file by about
    40 to 45 dB, where the file differs from the picture by 30 to 38 dB.

    Args:
        images: pictures.
        quality: 0 to 100, as libjpeg and Pillow count it.
    """
    from kornia.enhance import jpeg_codec_differentiable  # not on every training machine

    return to_signed(jpeg_codec_differentiable(to_unit(images), images.new_tensor([quality]))).clamp(-1, 1)


def rescale(images: Images, *, factor: float) -> Images:
    """Shrink by a factor and enlarge to the size before, bilinear and antialiased."""
    height, width = images.shape[-2:]
    small = resize(images, (max(1, round(factor * height)), max(1, round(factor * width))))
    return resize(small, (height, width))


def crop(images: Float[Tensor, "B C H W"], *, zoom: float, shift: tuple[float, float]) -> Float[Tensor, "B C H W"]:
    """The picture as somebody else would have framed it, bilinear; beyond the edge the edge is repeated.

    Args:
        images: pictures, or maps of them.
        zoom: side of the new frame in sides of the picture.
        shift: of the frame's centre to the right and down, in half sides.
    """
    theta = images.new_tensor([[zoom, 0, shift[0]], [0, zoom, shift[1]]])[None].expand(len(images), -1, -1)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def crop_frame(frame: Frames, *, zoom: float, shift: tuple[float, float]) -> Frames:
    """Where a template lies in the picture that `crop` gives, from where it lies in the whole one."""
    return torch.cat([frame[..., :2], frame[..., 2:] - frame.new_tensor(shift)[:, None]], dim=2) / zoom


def blur(images: Images, *, sigma: float, radius: int | None = None) -> Images:
    """Gaussian blur.

    Args:
        images: pictures.
        sigma: of the Gaussian in pixels.
        radius: at which it is cut, in pixels; by default at three sigma.
    """
    radius = min(math.ceil(3 * sigma) if radius is None else radius, min(images.shape[-2:]) - 1)
    offset = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    window = F.softmax(-(offset**2) / (2 * sigma**2), dim=0).expand(3, 1, 1, -1)
    padded = F.pad(images, (radius,) * 4, mode="reflect")
    return F.conv2d(F.conv2d(padded, window, groups=3), window.mT, groups=3)


def noise(images: Images, *, sigma: float, seed: int) -> Images:
    """Gaussian noise on the [-1, 1] scale, the same for every picture, clipped."""
    drawn = torch.randn(images.shape[1:], generator=Generator().manual_seed(seed))
    return (images + sigma * drawn.to(images)).clamp(-1, 1)


def salt_and_pepper(images: Images, *, share: float, seed: int) -> Images:
    """That share of the values at 1 or at -1, half of it each, by chance, the same for every picture."""
    drawn = torch.rand(images.shape[1:], generator=Generator().manual_seed(seed)).to(images)
    return images.masked_fill(drawn < share / 2, 1).masked_fill(drawn > 1 - share / 2, -1)


def jpeg_file(images: Images, *, quality: int) -> Images:
    """What is read back from JPEG files as Pillow writes them (4:2:0 colour); gradients pass as if it were x.

    `jpeg` is the one to train with: it has a gradient of its own, and only comes near a file.

    Args:
        images: on the [-1, 1] scale, and so is the result.
        quality: 1 to 95, as Pillow counts it.
    """
    decoded = []
    for picture in to_array(images.detach()):
        with io.BytesIO() as file:
            Image.fromarray(picture).save(file, format="JPEG", quality=quality)
            decoded.append(np.asarray(Image.open(file).convert("RGB")))
    return images + (from_array(np.stack(decoded)).to(images) - images).detach()


Operation = Callable[[Images], Images]


class Distortion(NamedTuple):
    """One operation with its parameters; `frame` and `maps` follow where it moves the face."""

    images: Callable[[Images], Images] = lambda images: images
    maps: Callable[[Float[Tensor, "B C H W"]], Float[Tensor, "B C H W"]] = lambda maps: maps
    frame: Callable[[Frames], Frames] = lambda frame: frame


NOTHING = Distortion()


def _uniform(generator: Generator, low: float, high: float) -> float:
    return low + (high - low) * torch.rand((), generator=generator).item()


def _crop(generator: Generator) -> Distortion:
    zoom = _uniform(generator, 0.9, 1.1)
    shift = _uniform(generator, -0.06, 0.06), _uniform(generator, -0.06, 0.06)
    cropped = partial(crop, zoom=zoom, shift=shift)
    return Distortion(cropped, cropped, partial(crop_frame, zoom=zoom, shift=shift))


def _noise(generator: Generator) -> Distortion:
    sigma = _uniform(generator, 0.005, 0.03)
    return Distortion(partial(noise, sigma=sigma, seed=int(torch.randint(2**31, (), generator=generator))))


class Lossy(NamedTuple):
    """One kind of operation."""

    draw: Callable[[Generator], Distortion]
    """With parameters within what photos meet on their way, to train with."""
    at: Callable[[float], Operation] | None = None
    """With a given strength, in the units of its function, to measure with; None where one number does not say it."""
    strengths: tuple[float, float] = (0, 0)
    """Within which it may be given."""


OPERATIONS = {
    "none": Lossy(lambda generator: NOTHING),
    "jpeg": Lossy(
        lambda generator: Distortion(partial(jpeg, quality=_uniform(generator, 70.0, 98.0))),
        lambda quality: partial(jpeg_file, quality=round(quality)),
        (1, 95),
    ),
    "resize": Lossy(
        lambda generator: Distortion(partial(rescale, factor=_uniform(generator, 0.5, 1.0))),
        lambda factor: partial(rescale, factor=factor),
        (0.01, 1),
    ),
    "crop": Lossy(_crop),
    "blur": Lossy(
        lambda generator: Distortion(partial(blur, sigma=_uniform(generator, 0.3, 1.2))),
        lambda sigma: partial(blur, sigma=sigma),
        (0.01, 16),
    ),
    "noise": Lossy(_noise, lambda sigma: partial(noise, sigma=sigma, seed=0), (0, 1)),
}
"""By name."""


def require_known(names: Sequence[str]) -> None:
    """Refuse names that are none of `OPERATIONS`.

    Raises:
        IDGuardError: there is one.
    """
    if unknown := [name for name in names if name not in OPERATIONS]:
        raise IDGuardError(f"unknown operation {', '.join(unknown)}; choose from: {', '.join(OPERATIONS)}")


def sample_distortion(names: Sequence[str], *, seed: int) -> Distortion:
    """One of the named operations with its parameters, all by the seed; nothing happens where there are no names."""
    if not names:
        return NOTHING
    generator = Generator().manual_seed(seed)
    return OPERATIONS[names[int(torch.randint(len(names), (), generator=generator))]].draw(generator)


def parse(text: str) -> Operation:
    """The operation of a specification such as jpeg=75, blur=1.5, resize=0.5, noise=0.05, or none.

    Raises:
        IDGuardError: it names no operation, or no strength that the operation takes.
    """
    if text == "none":
        return lambda images: images
    name, _, value = text.partition("=")
    _, make, (low, high) = OPERATIONS.get(name, OPERATIONS["none"])
    try:
        strength = float(value)
    except ValueError:
        strength = float("nan")
    if make is None:
        names = ", ".join(name for name, operation in OPERATIONS.items() if operation.at)
        raise IDGuardError(f"unknown operation {text!r}; expected none, or NAME=STRENGTH with {names}")
    if not low <= strength <= high:
        raise IDGuardError(f"the operation {text!r} needs a strength from {low:g} to {high:g}, such as {name}={high:g}")
    return make(strength)


class After(WrappedManipulator):
    """A manipulator of faces that went through an operation first: M_k(operation(x)), clean and protected x alike."""

    def __init__(self, manipulator: Manipulator, operation: Operation) -> None:
        super().__init__(manipulator)
        self.operation = operation

    def forward(self, x: Images, edit: Edit) -> Manipulation:
        """Eq. (1) of what the operation left of x."""
        return self.manipulator(self.operation(x), edit)

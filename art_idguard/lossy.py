"""Photos that a lossy operation weakened before a manipulator saw them (section IV-D4, Fig. 13)."""

import io
from collections.abc import Callable
from functools import partial

import numpy as np
from PIL import Image
from torch import nn

from art_idguard.errors import IDGuardError
from art_idguard.images import from_array, to_array
from art_idguard.manipulators.base import Manipulator
from art_idguard.robustness import blur, noise, rescale
from art_idguard.types import Attributes, Edit, Images, Manipulation

Operation = Callable[[Images], Images]


def jpeg_file(images: Images, *, quality: int) -> Images:
    """What is read back from JPEG files as Pillow writes them (4:2:0 colour); gradients pass as if it were x.

    `robustness.jpeg` is the one to train with: it has a gradient of its own, and only comes near a file.

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


LOSSY: dict[str, tuple[Callable[[float], Operation], float, float]] = {
    "jpeg": (lambda quality: partial(jpeg_file, quality=round(quality)), 1, 95),
    "blur": (lambda sigma: partial(blur, sigma=sigma), 0.01, 16),
    "resize": (lambda factor: partial(rescale, factor=factor), 0.01, 1),
    "noise": (lambda sigma: partial(noise, sigma=sigma, seed=0), 0, 1),
}
"""Operations by name: made from their strength, which lies between the two numbers (in the units of `robustness`)."""


def parse(text: str) -> Operation:
    """The operation of a specification such as jpeg=75, blur=1.5, resize=0.5, noise=0.05, or none.

    Raises:
        IDGuardError: it names no operation, or no strength that the operation takes.
    """
    if text == "none":
        return lambda images: images
    name, _, value = text.partition("=")
    make, low, high = LOSSY.get(name, (None, 0, 0))
    try:
        strength = float(value)
    except ValueError:
        strength = float("nan")
    if make is None:
        raise IDGuardError(f"unknown operation {text!r}; expected none, or NAME=STRENGTH with {', '.join(LOSSY)}")
    if not low <= strength <= high:
        raise IDGuardError(f"the operation {text!r} needs a strength from {low:g} to {high:g}, such as {name}={high:g}")
    return make(strength)


class After(Manipulator):
    """A manipulator of faces that went through an operation first: M_k(operation(x)), clean and protected x alike."""

    def __init__(self, manipulator: Manipulator, operation: Operation) -> None:
        nn.Module.__init__(self)  # the weights are the other's
        self.manipulator, self.operation = manipulator, operation

    def edits(self, attributes: Attributes) -> tuple[Edit, ...]:
        """The manipulator's."""
        return self.manipulator.edits(attributes)

    def forward(self, x: Images, edit: Edit) -> Manipulation:
        """Eq. (1) of what the operation left of x."""
        return self.manipulator(self.operation(x), edit)

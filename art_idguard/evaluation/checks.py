"""Checks of the size of faces and of names, and of protections' bounds."""

import math
from collections.abc import Iterable, Sequence
from typing import TypeVar

from torch import Tensor

from art_idguard.errors import IDGuardError
from art_idguard.hub.model import HubModel
from art_idguard.manipulators.base import Manipulator
from art_idguard.types import Images


def check_size(models: Iterable[Manipulator], size: int) -> None:
    """See that the models take faces of this many pixels a side.

    Raises:
        IDGuardError: `size` is no multiple of what the models take.
    """
    multiple = math.lcm(*(model.multiple for model in models))
    if size < 1 or size % multiple:
        raise IDGuardError(f"--size is {size}; expected a multiple of {multiple}, such as 128, for these manipulators")


ROUNDING = 1e-6
"""How far float32 arithmetic may carry a projected image over its bound."""

Model = TypeVar("Model", bound=HubModel)


def named(models: Sequence[Model]) -> dict[str, Model]:
    """The models by name, numbered where two have the same."""
    return dict(zip(distinct([model.name for model in models]), models, strict=True))


def distinct(names: Sequence[str]) -> list[str]:
    """The names, the second of one as "name-2".

    >>> distinct(["stargan", "relgan", "stargan"])
    ['stargan', 'relgan', 'stargan-2']
    """
    before = [names[:i].count(name) for i, name in enumerate(names)]
    return [f"{name}-{n + 1}" if n else name for name, n in zip(names, before, strict=True)]


def checked(name: str, protected: Tensor, clean: Images, epsilon: float) -> Images:
    """`protected`, if it is a protection of `clean`.

    Raises:
        IDGuardError: it has another shape, is not finite, or leaves [-1, 1] or the ball.
    """
    if protected.shape != clean.shape:
        raise IDGuardError(f"{name} returned shape {tuple(protected.shape)}, expected {tuple(clean.shape)}")
    if not protected.isfinite().all():
        raise IDGuardError(f"{name} returned values that are not finite; check its weights")
    if (far := (protected - clean).abs().max().item()) > epsilon + ROUNDING:
        raise IDGuardError(
            f"{name} changes a photo by {far:.4g}, more than epsilon = {epsilon:.4g} on the "
            "[-1, 1] scale; project it with images.project or evaluate with its own epsilon"
        )
    if (top := protected.abs().max().item()) > 1 + ROUNDING:
        raise IDGuardError(f"{name} returned a pixel of {top:.4g}; expected values in [-1, 1]")
    return protected

"""Gradients of an attack's objective, and whether there is one to climb."""

import warnings

import torch
from jaxtyping import Bool
from torch import Tensor

from art_idguard.errors import IDGuardError, NullAttackWarning


def differentiate(objective: Tensor, by: Tensor) -> Tensor:
    """The gradient of the summed objective.

    Raises:
        IDGuardError: it has none.
    """
    if not objective.requires_grad:
        raise IDGuardError(
            "the model's output has no gradient by its input (detached, or made under no_grad); "
            "take an attack without gradients, such as ClassifierAttack with SquareAttack"
        )
    (gradient,) = torch.autograd.grad(objective.sum(), by)
    return gradient


def is_steep(gradient: Tensor) -> Bool[Tensor, " B"]:
    """Of which images the gradient is finite and not zero."""
    slopes = gradient.flatten(1).abs().sum(dim=1)
    return (slopes > 0) & slopes.isfinite()


def warn_if_flat(steep: Bool[Tensor, " B"]) -> None:
    """Warn of images that an attack by gradients leaves as they are, see `is_steep`."""
    if not steep.all():
        warnings.warn(
            "the gradient of some image is zero or not finite: its forgery does not depend on it there, "
            "and attacks return it unchanged, or noise",
            NullAttackWarning,
            stacklevel=3,
        )

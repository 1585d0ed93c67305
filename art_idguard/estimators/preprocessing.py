"""ART's preprocessing in front of a manipulator, which may change an image but not its range."""

from typing import Any

import numpy as np
from art.estimators.pytorch import PyTorchEstimator
from torch import Tensor

from art_idguard.errors import IDGuardError
from art_idguard.manipulators.base import Manipulator

BESIDE = 0.01
"""Share of the range by which preprocessing may leave it."""


def refuse_standardisation(estimator: PyTorchEstimator) -> None:
    """Raises IDGuardError where a `Manipulator` is given a mean and a std, as its own data loader has them."""
    mean, std = (np.asarray(getattr(estimator.preprocessing, name, value)) for name, value in (("mean", 0), ("std", 1)))
    if isinstance(estimator.model, Manipulator) and ((mean != 0).any() or (std != 1).any()):
        raise IDGuardError("a manipulator scales its images from clip_values by itself; leave preprocessing out")


def within_torch(estimator: PyTorchEstimator, x: Tensor) -> Tensor:
    """Preprocessing that is made for PyTorch, with gradients.

    Raises:
        IDGuardError: it changed the range, of which a manipulator would forge something else.
    """
    if not estimator.all_framework_preprocessing:
        return x
    return _in_range(estimator, x, estimator._apply_preprocessing(x, None, no_grad=False)[0])


def before_torch(estimator: PyTorchEstimator, x: np.ndarray) -> np.ndarray:
    """Preprocessing that is not.

    Raises:
        IDGuardError: as `within_torch` does.
    """
    if estimator.all_framework_preprocessing:
        return x
    return _in_range(estimator, x, estimator._apply_preprocessing(np.array(x, np.float32), None)[0])


def _in_range(estimator: PyTorchEstimator, x: Any, changed: Any) -> Any:
    if not (isinstance(estimator.model, Manipulator) and estimator.preprocessing_operations and len(x)):
        return changed
    (low, high), (least, most) = map(float, estimator.clip_values), _extent(changed)
    before, beside = _extent(x), BESIDE * (high - low)
    if not (least >= min(low, before[0]) - beside and most <= max(high, before[1]) + beside):
        raise IDGuardError(
            f"preprocessing made pixels within [{least:.3g}, {most:.3g}] of [{low:g}, {high:g}]; a manipulator takes "
            "those of clip_values: leave out what changes the range"
        )
    return changed


def _extent(images: Any) -> tuple[float, float]:
    images = images.detach() if isinstance(images, Tensor) else images
    return float(images.min()), float(images.max())

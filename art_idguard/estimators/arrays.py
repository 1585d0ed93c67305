"""Images as ART has them: numpy NCHW within clip values. Checks and slices, without ART itself."""

import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from art_idguard.errors import IDGuardError, NullAttackWarning
from art_idguard.images import PixelRange
from art_idguard.types import ATTRIBUTES

Array = Float[np.ndarray, "N 3 H W"]


def check_images(x: np.ndarray, clip_values: Any = (0.0, 1.0)) -> Array:
    """The images as ART attacks take them, or an error that says what is wrong with them.

    Args:
        x: float images (N, 3, H, W) within `clip_values`; any float type and memory order, perhaps read-only.
        clip_values: lowest and highest value of a pixel.

    Raises:
        IDGuardError: another number of dimensions, channels last, integers, values that are not finite or out of range.
    """
    x = np.asarray(x)
    low, high = (float(v) for v in clip_values)
    if x.ndim != 4 or x.shape[1] != 3:
        last = x.ndim == 4 and x.shape[3] == 3
        hint = "; channels come first: x.transpose(0, 3, 1, 2)" if last else "; one image needs x[None]"
        raise IDGuardError(f"expected RGB images of shape (N, 3, H, W), found {x.shape}{hint}")
    if not np.issubdtype(x.dtype, np.floating):
        raise IDGuardError(f"expected float images within [{low:g}, {high:g}], found {x.dtype}; divide by 255 first")
    if not x.size:
        return x
    lowest, highest = float(x.min()), float(x.max())
    if not (np.isfinite(lowest) and np.isfinite(highest)):
        raise IDGuardError("the images hold values that are not finite (NaN or infinity); remove them")
    rounding = 1e-6 * (high - low)
    if lowest < low - rounding or highest > high + rounding:
        raise IDGuardError(
            f"expected pixels within [{low:g}, {high:g}], found [{lowest:.3g}, {highest:.3g}]; rescale the images, "
            "or give the estimator the clip_values that they have"
        )
    return x


def check_output(forged: Array) -> None:
    """Raises IDGuardError where a model returned values that are not finite."""
    if not np.isfinite(forged).all():
        raise IDGuardError("the model returns values that are not finite (NaN or infinity); check its weights")


def to_tensor(x: np.ndarray, device: torch.device | str = "cpu") -> Tensor:
    """A float32 copy, whatever the array is: read-only, float64, or with strides that torch does not take."""
    # Not ascontiguousarray: an array of one image counts as contiguous even where its stride is negative.
    return torch.from_numpy(np.array(x, np.float32, order="C")).to(device)


def batches(x: np.ndarray, size: int) -> Iterator[slice]:
    """Slices of at most `size` images.

    Raises:
        IDGuardError: a size below 1.
    """
    if size < 1:
        raise IDGuardError(f"expected a batch size of at least 1, found {size}")
    for start in range(0, len(x), size):
        yield slice(start, start + size)


def check_mask(mask: np.ndarray | None, x: np.ndarray) -> np.ndarray | None:
    """The mask with the shape of the images, or an error.

    Raises:
        IDGuardError: it is not broadcastable to x, or not within [0, 1].
    """
    if mask is None:
        return None
    try:
        mask = np.broadcast_to(np.asarray(mask), x.shape)
    except ValueError as error:
        raise IDGuardError(f"a mask of shape {np.shape(mask)} does not fit images of shape {x.shape}") from error
    if mask.size and not 0 <= mask.min() <= mask.max() <= 1:
        raise IDGuardError(f"a mask lies within [0, 1], found [{mask.min():.3g}, {mask.max():.3g}]")
    return mask


def warn_if_null(
    attack: str,
    x: np.ndarray,
    attacked: np.ndarray,
    *,
    clip_values: Any = (0.0, 1.0),
    reason: str = "its bound, its mask or its perturbation is zero",
) -> None:
    """Warn where an attack returned images as they were, or changed them by less than survives in an 8-bit file.

    Args:
        attack: its name.
        x: the images.
        attacked: what came of them.
        clip_values: lowest and highest value of a pixel.
        reason: why images may be unchanged.
    """
    low, high = (float(v) for v in clip_values)
    sizes = np.array([np.abs(b - a).max(initial=0) for a, b in zip(x, attacked, strict=True)])
    same = int((sizes == 0).sum())
    faint = int((sizes < (high - low) / 255 / 2).sum()) - same
    if same:
        warnings.warn(f"{attack} returned {same} of {len(x)} images unchanged: {reason}", NullAttackWarning, 3)
    if faint:
        warnings.warn(
            f"{attack} changed {faint} of {len(x)} images by less than half an 8-bit level, which is lost when they "
            f"are saved; its bound is in units of pixels within [{low:g}, {high:g}]",
            NullAttackWarning,
            stacklevel=3,
        )


@runtime_checkable
class Settings(Protocol):
    """What `check_settings` asks of an estimator."""

    clip_values: Any
    channels_first: bool
    jitter: float
    attributes: Sequence[float]


def check_settings(estimator: Settings) -> None:
    """Raises IDGuardError where a parameter of an estimator of manipulators has a wrong value."""
    clip_values, jitter, attributes = estimator.clip_values, estimator.jitter, estimator.attributes
    if np.shape(clip_values) != (2,) or not np.isfinite(np.asarray(clip_values, float)).all():
        raise IDGuardError(f"`clip_values` has to be a pair of numbers, found {clip_values!r}")
    if not estimator.channels_first:
        raise IDGuardError("images have their channels first here; `channels_first` has to be True")
    number = isinstance(jitter, (int, float)) and not isinstance(jitter, bool)
    if not number or not 0 <= jitter < float("inf"):
        raise IDGuardError(f"`jitter` has to be a number that is not negative, found {jitter!r}")
    if np.shape(attributes) != (len(ATTRIBUTES),) or not np.isfinite(attributes).all():
        raise IDGuardError(f"`attributes` are {len(ATTRIBUTES)} labels ({', '.join(ATTRIBUTES)}), found {attributes!r}")


BESIDE = 0.05
"""Share of the range by which an output may leave it without a warning."""


def warn_of_range(forged: np.ndarray, pixels: PixelRange) -> None:
    """Warn where what a model returned is on another scale than its clip values say."""
    beside = BESIDE * pixels.span
    if forged.min() < pixels.low - beside or forged.max() > pixels.high + beside:
        warnings.warn(
            f"the model's output spans [{forged.min():.3g}, {forged.max():.3g}], its clip_values say "
            f"[{pixels.low:g}, {pixels.high:g}]: distances come out wrong; wrap the model so that it keeps their range",
            stacklevel=3,
        )

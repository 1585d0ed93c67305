"""8-bit pixels and what is done to them without torch: bounds in levels, bands, resampling."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float32, Shaped

from art_idguard.errors import IDGuardError


def epsilon_to_levels(epsilon: float) -> int:
    """A bound on the [-1, 1] scale as whole 8-bit levels that stay inside it."""
    return int(np.floor(epsilon * 127.5 + 1e-6))


def require_strength(strength: float) -> None:
    """Refuse what is no share of a bound.

    Raises:
        IDGuardError: it is not in (0, 1].
    """
    if not isinstance(strength, (int, float)) or not 0 < strength <= 1:
        raise IDGuardError(f"strength is a share of the protector's bound in (0, 1]; found {strength!r}")


def bands(length: int, across: int) -> Iterator[slice]:
    """Parts of a picture's rows (or columns), each of 262,144 pixels: a large photo as float would take gigabytes.

    Args:
        length: how many rows.
        across: pixels in each.
    """
    step = max(1, (1 << 18) // max(1, across))
    return (slice(start, min(start + step, length)) for start in range(0, length, step))


def resize(picture: Shaped[np.ndarray, "H W C"], size: tuple[int, int]) -> Float32[np.ndarray, "h w C"]:
    """Bilinear resize to (height, width), antialiased when shrinking: what torch's antialiased `interpolate` does.

    An 8-bit picture is never copied as float, but for a band of it.
    """
    across, down = (_weights(*lengths) for lengths in zip(picture.shape[1::-1], size[::-1], strict=True))
    narrow = np.empty((picture.shape[0], size[1], picture.shape[2]), np.float32)
    for rows in bands(*picture.shape[:2]):
        narrow[rows] = np.tensordot(picture[rows].astype(np.float32, copy=False), across, (1, 1)).swapaxes(1, 2)
    return np.tensordot(down, narrow, 1)


def _weights(before: int, after: int) -> Float32[np.ndarray, "after before"]:
    """How much of each old pixel is in each new one: a triangle, as wide as the wider of both."""
    factor = before / after
    middles = (np.arange(after)[:, None] + 0.5) * factor - 0.5
    weights = (1 - abs(np.arange(before) - middles) / max(1, factor)).clip(min=0)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def sample(picture: Float32[np.ndarray, "H W C"], points: Float32[np.ndarray, "h w 2"]) -> Float32[np.ndarray, "h w C"]:
    """Bilinear values at (x, y) in [-1, 1], the outer edges of a picture, whose edge is repeated beyond.

    What torch's `grid_sample` does with padding_mode="border" and align_corners=False.
    """
    height, width = picture.shape[:2]
    limits = np.array([width, height], np.float32)
    places = ((points + 1) * limits - 1).clip(0, 2 * limits - 2) / 2
    low = places.astype(np.int32)
    (x, y), (rightwards, downwards) = (np.moveaxis(part, 2, 0) for part in (low, (places % 1)[..., None]))
    flat, first = picture.reshape(height * width, -1), y * width + x

    def across(pixels: np.ndarray) -> np.ndarray:
        left, right = flat.take(pixels, axis=0), flat.take(pixels + (x < width - 1), axis=0)
        return left + rightwards * (right - left)

    upper, lower = across(first), across(first + width * (y < height - 1))
    return upper + downwards * (lower - upper)

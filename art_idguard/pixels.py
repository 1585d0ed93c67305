"""8-bit pixels and what is done to them without torch: bounds in levels, bands, resampling."""

from collections.abc import Iterator

import numpy as np

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

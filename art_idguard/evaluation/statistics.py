"""Means with intervals, and the circumstances of a measurement."""

import math
import platform
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor


def bootstrap_interval(values: Float[Tensor, "N *E"]) -> tuple[float, float]:
    """Percentile bootstrap 95 % interval of the mean over images (Efron 1979), from 2,000 resamples.

    Args:
        values: one per image, or one per image and edit: an image's edits are averaged first, and
            images are drawn, since the edits of one face are no independent observations. NaN is
            left out.

    Returns:
        (low, high), both NaN if no value is left.
    """
    images = values.detach().cpu().double()[..., None].flatten(1).nanmean(dim=1)
    images = images[~images.isnan()]
    return interval(lambda drawn: images[drawn].mean(dim=1), len(images))


def interval(statistic: Callable[[Int64[Tensor, "R n"]], Float[Tensor, " R"]], n: int) -> tuple[float, float]:
    """Percentile bootstrap 95 % interval of a statistic of n images, from 2,000 resamples.

    Args:
        statistic: of each row of indices of images.
        n: how many images there are.

    Returns:
        (low, high), both NaN if there is none.
    """
    if not n:
        return math.nan, math.nan
    found = statistic(torch.randint(n, (2000, n), generator=torch.Generator().manual_seed(0)))
    low, high = found.quantile(found.new_tensor([0.025, 0.975])).tolist()
    return low, high


def wilson_interval(share: float, n: int) -> tuple[float, float]:
    """95 % score interval of a share of n trials (Wilson 1927).

    The bootstrap's has no width where no trial succeeds, or all do: 0 of 20 is [0, 0.16] here.
    """
    z = 1.959964
    middle, half = share + z**2 / (2 * n), z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    low, high = ((middle + side) / (1 + z**2 / n) for side in (-half, half))
    return max(low, 0.0), min(high, 1.0)


class Estimate(NamedTuple):
    """A mean over faces with its 95 % interval; NaN where nothing was measured."""

    mean: float
    low: float
    high: float
    share: float | None = None
    """The effect as a share of `CEILING`'s on the same faces and edits; the effect on a similarity is
    its distance from 1."""
    manipulator: str | None = None
    """Which one is the worst."""

    def json(self) -> dict[str, Any]:
        """What is known, to six digits; None for NaN."""
        fields = {name: value for name, value in self._asdict().items() if value is not None}
        return {name: rounded(v) if isinstance(v, float) else v for name, v in fields.items()}

    def text(self, digits: int, *, bounds: bool = False) -> str:
        """The mean ± half the interval, or with the interval's bounds; "n/a" where nothing was measured."""
        if math.isnan(self.mean):
            return "n/a"
        if math.isnan(self.low):
            return f"{self.mean:.{digits}f}"
        half = (self.high - self.low) / 2
        spread = f"[{self.low:.{digits}f}, {self.high:.{digits}f}]" if bounds else f"±{half:.{digits}f}"
        return f"{self.mean:.{digits}f} {spread}"


def estimate(values: Float[Tensor, "N E"], *, share: bool = False) -> Estimate:
    """Mean and interval over faces, each face being the mean of its measured edits.

    One face has no bootstrap interval.

    Args:
        values: of each face and edit; NaN is left out.
        share: values are 0 or 1, so the interval is Wilson's, with as many trials as faces: the edits of one face are
            no independent trials. Where they differ it is wider than need be.
    """
    per_face = values.double().nanmean(dim=1)
    per_face = per_face[per_face.isfinite()]
    if not len(per_face):
        return Estimate(math.nan, math.nan, math.nan)
    mean = per_face.mean().item()
    if share:
        return Estimate(mean, *wilson_interval(mean, len(per_face)))
    interval = bootstrap_interval(per_face) if len(per_face) > 1 else (math.nan, math.nan)
    return Estimate(mean, *interval)


def environment_info(device: torch.device) -> dict[str, str]:
    """What computed, and on which day, for a report's metadata."""
    cpu = f"{platform.machine()}, {torch.get_num_threads()} threads"
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu
    return {
        "hardware": f"{name}, torch {torch.__version__}, {device}",
        "date": datetime.now(UTC).date().isoformat(),
    }


def rounded(value: float) -> float | None:
    """To six digits; None where JSON has no such number."""
    return round(value, 6) if math.isfinite(value) else None

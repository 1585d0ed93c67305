"""Plots of estimates with their intervals, as PNG files; matplotlib, which takes a second, is imported to draw one."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from art_idguard.evaluation.document import Picture
from art_idguard.evaluation.statistics import Estimate
from art_idguard.files.atomic import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Series = Mapping[str, Mapping[Any, Estimate]]
"""By name: an estimate for each row of bars, or for each place on a curve's horizontal axis."""


class Panel(NamedTuple):
    """One measure; a figure has several side by side, with the same names of series."""

    title: str
    series: Series
    threshold: float | None = None
    """Where the measure's criterion lies."""


@contextmanager
def _style() -> Iterator[None]:
    """Matplotlib's own, whatever the user has set; names are no formulas, and twenty lines can be told apart."""
    from cycler import cycler
    from matplotlib import color_sequences, style

    lines = cycler(linestyle=["-", "--"]) * cycler(color=color_sequences["tab10"])
    with style.context(["default", {"text.parse_math": False, "font.size": 9, "axes.prop_cycle": lines}]):
        yield


@_style()
def bars(panels: Sequence[Panel]) -> "Figure":
    """A row for each thing measured, in it a bar for each series, with its interval."""
    rows, count = list(next(iter(panels[0].series.values()))), len(panels[0].series)
    figure, all_axes = _figure(panels, height=1 + 0.16 * len(rows) * (count + 1), sharey=True)
    for axes, panel in zip(all_axes, panels, strict=True):
        drawn: list[Any] = []  # the stubs know no containers
        for i, estimates in enumerate(panel.series.values()):
            means, intervals = _arrays(estimates)
            drawn.append(axes.barh(np.arange(len(rows)) + 0.8 * i / count, means, 0.8 / count, xerr=intervals))
        axes.margins(y=0.01)
        axes.set_yticks(np.arange(len(rows)) + 0.4 - 0.4 / count, rows)
        if panel.threshold is not None:
            axes.axvline(panel.threshold, color="black", linestyle="dotted")
    all_axes[0].invert_yaxis()
    if count > 1:
        figure.legend(drawn, list(panels[0].series), loc="outside lower center", ncols=len(panels) + 1)
    return figure


@_style()
def curves(panels: Sequence[Panel], *, against: str = "") -> "Figure":
    """A line for each series, with the intervals where there are some; below, what they are drawn against."""
    figure, all_axes = _figure(panels, height=3.0)
    for axes, panel in zip(all_axes, panels, strict=True):
        drawn: list[Any] = []  # the stubs know no containers
        for estimates in panel.series.values():
            means, intervals = _arrays(estimates)
            drawn.append(axes.errorbar(list(estimates), means, yerr=intervals, marker=".", capsize=2))
        if panel.threshold is not None:
            axes.axhline(panel.threshold, color="black", linestyle="dotted")
        axes.set_xlabel(against)
    figure.legend(drawn, list(panels[0].series), loc="outside lower center", ncols=len(panels) + 1)
    return figure


@_style()
def save_plot(path: Path, figure: "Figure", caption: str) -> Picture:
    """Write a PNG; it is whole or absent, and the same figure gives the same bytes."""
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100, metadata={"Software": None})
    return Picture(path, caption)


def _figure(panels: Sequence[Panel], *, height: float, sharey: bool = False) -> tuple["Figure", list["Axes"]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2 + 3 * len(panels), height + 0.3), layout="constrained")
    (all_axes,) = figure.subplots(1, len(panels), squeeze=False, sharey=sharey)
    for axes, panel in zip(all_axes, panels, strict=True):
        axes.set_title(panel.title)
    return figure, list(all_axes)


def _arrays(estimates: Mapping[Any, Estimate]) -> tuple[np.ndarray, np.ndarray]:
    """Means, and the interval's lengths to both sides."""
    mean, low, high = np.array([e[:3] for e in estimates.values()], dtype=float).T
    return mean, np.maximum([mean - low, high - mean], 0)

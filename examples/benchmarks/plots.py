"""A section's rows as PNG files: bars, and a curve for each thing that grows; whiskers from the least to the most."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from art_idguard.evaluation.plots import Panel, bars, curves, save_plot
from art_idguard.evaluation.statistics import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Rows = list[dict[str, Any]]
"""As `Suite.summary` has them."""


def draw(folder: Path, section: str, rows: Rows) -> None:
    """Write SECTION.png of the rows that stand alone, and SECTION-WHAT.png of those that grow with WHAT."""
    if alone := [row for row in rows if row["at"] is None]:
        panels = [Panel(f, {"": _by(alone, f, lambda row: row["label"])}) for f in _figures(alone)]
        figure = bars(panels)
        for axes, panel in zip(figure.axes, panels, strict=True):
            _scale(axes, "x", [e.mean for e in panel.series[""].values()])
        save_plot(folder / f"{section}.png", figure, section)
    for what in dict.fromkeys(row["at"][0] for row in rows if row["at"]):
        growing = [row for row in rows if row["at"] and row["at"][0] == what]
        names = dict.fromkeys(row["name"] for row in growing)
        panels = [
            Panel(f, {n: _by([r for r in growing if r["name"] == n], f, lambda row: row["at"][1]) for n in names})
            for f in _figures(growing)
        ]
        figure = curves(panels)
        for axes, panel in zip(figure.axes, panels, strict=True):
            axes.set_xlabel(what)
            _scale(axes, "x", [row["at"][1] for row in growing])
            _scale(axes, "y", [e.mean for estimates in panel.series.values() for e in estimates.values()])
        save_plot(folder / f"{section}-{what}.png", figure, what)


def _figures(rows: Rows) -> list[str]:
    return list(dict.fromkeys(figure for row in rows for figure in row["figures"]))


def _by(rows: Rows, figure: str, key: Callable[[dict[str, Any]], Any]) -> dict[Any, Estimate]:
    """What is shown of a figure, and how far its repeats spread; NaN where there is none."""
    found = {}
    for row in rows:
        shown = row["figures"].get(figure)
        repeats = [] if figure.startswith("worst") else row["repeats"].get(figure, [])
        spread = [value for value in (shown, *repeats) if value is not None] or [math.nan]
        found[key(row)] = Estimate(math.nan if shown is None else shown, min(spread), max(spread))
    return found


def _scale(axes: "Axes", which: str, values: list[float]) -> None:
    """Decades where values span more than two, else from 0."""
    known = [value for value in values if math.isfinite(value)] or [0.0]
    if 0 < 100 * min(known) < max(known):
        axes.set(**{f"{which}scale": "log"})
        axis = getattr(axes, f"{which}axis")
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")  # by default they are formulas
    elif min(known) >= 0:
        axes.set(**{f"{which}lim": (0, None)})

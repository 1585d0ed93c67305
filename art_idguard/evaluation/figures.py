"""What an evaluation's tables say, as plots: bars of all rows, and curves over lossy operations."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from art_idguard.evaluation.measures import Measure
from art_idguard.evaluation.plots import Panel, Series, bars, curves
from art_idguard.evaluation.quality import MEASURES, Quality
from art_idguard.evaluation.report import Report
from art_idguard.metrics import L2_THRESHOLD, SIMILARITY_THRESHOLD

if TYPE_CHECKING:
    from matplotlib.figure import Figure

THRESHOLDS = {"L2_face": L2_THRESHOLD, "ID sim.": SIMILARITY_THRESHOLD}
"""Section IV-A4's, by the measures' titles."""

INTERVALS = "with 95 % intervals; dotted: the thresholds of DSR"
"""What a caption says of figures of such panels."""


def drawn(report: Report) -> list[Measure]:
    """L2_face, and ID sim. by each recogniser."""
    return [report.measures[name] for name in ("l2_face", *(f"similarity.{r}" for r in report.recognizers))]


def panel(measure: Measure, series: Series) -> Panel:
    """A measure's, with its threshold."""
    return Panel(measure.full_title, series, THRESHOLDS.get(measure.title))


def protection_bars(report: Report) -> "Figure":
    """Of each protection the mean over manipulators and the worst."""
    columns = {"mean over manipulators": report.mean, "worst manipulator": report.worst}
    return bars(
        [
            panel(m, {name: {p: of(m.name)(p) for p in report.protections} for name, of in columns.items()})
            for m in drawn(report)
        ]
    )


def robustness_curves(report: Report, operations: Sequence[str]) -> dict[str, "Figure"]:
    """By kind of operation ("jpeg"), of each protection the mean over manipulators behind none and each strength.

    Args:
        report: whose columns are a manipulator and an operation each, "stargan, jpeg=75".
        operations: those measured, in the order of the curves.
    """
    behind = {o: _columns(report, [k for k in report.manipulators if k.endswith(f", {o}")]) for o in operations}
    return {
        kind: curves(_behind(report, {o: part for o, part in behind.items() if _kind(o) in ("none", kind)}))
        for kind in dict.fromkeys(map(_kind, operations))
        if kind != "none"
    }


def _behind(report: Report, parts: Mapping[str, Report]) -> list[Panel]:
    return [
        panel(m, {p: {o: part.mean(m.name)(p) for o, part in parts.items()} for p in report.protections})
        for m in drawn(report)
    ]


def _kind(operation: str) -> str:
    return operation.partition("=")[0]


def _columns(report: Report, manipulators: Sequence[str]) -> Report:
    """The report on some of its manipulators."""
    kept = [report.manipulators.index(name) for name in manipulators]
    return replace(
        report,
        manipulators=tuple(manipulators),
        values={name: values[:, kept] for name, values in report.values.items()},
    )


def quality_bars(found: Quality) -> "Figure":
    """Of each edit."""
    edits = {
        measure: {edit: found.cell(measure, edit) for edit in found.edits} for measure in ("success", "similarity")
    }
    return bars([Panel(MEASURES[measure], {"each edit": row}) for measure, row in edits.items()])

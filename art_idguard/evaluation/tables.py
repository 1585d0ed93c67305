"""An evaluation's tables: the short one, the paper's Table I, other recognisers, aggregates, shares, photo quality."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from art_idguard.evaluation.document import Document, Marked, Section, Table, data_name, facts
from art_idguard.evaluation.measures import PHOTOS, Measure
from art_idguard.evaluation.report import CEILING, REFERENCES, Cell, Report
from art_idguard.evaluation.statistics import Estimate
from art_idguard.metrics import L2_THRESHOLD, NOTICEABLE, SIMILARITY_THRESHOLD


class Column(NamedTuple):
    """A table's column: an estimate for each protection."""

    title: str
    cell: Cell
    measure: Measure
    bounds: bool = False
    """Whether the interval's bounds are shown, not half its width."""

    def cells(self, protections: Sequence[str]) -> list[str | Marked]:
        """As text, the best two marked."""
        estimates = {name: self.cell(name) for name in protections}
        ranked: list[float] = []
        if self.measure.higher_is_better is not None:  # equal as printed is equally good
            values = {round(e.mean, self.measure.digits) for n, e in estimates.items() if n not in REFERENCES}
            ranked = sorted((v for v in values if not math.isnan(v)), reverse=self.measure.higher_is_better)
        ranked = ranked if len(ranked) > 1 else []  # where all are equal none is best
        return [self._format(estimate, ranked, name) for name, estimate in estimates.items()]

    def _format(self, estimate: Estimate, ranked: list[float], name: str) -> str | Marked:
        digits = self.measure.digits
        text = estimate.text(digits, bounds=self.bounds)
        number, space, interval = text.partition(" ")
        place = dict(zip(ranked, ("strong", "u"), strict=False)).get(round(estimate.mean, digits))
        return text if place is None or name in REFERENCES else Marked(place, number, space + interval)


_READING = (
    "Cells are means ± half the bootstrap 95 % interval; the best of a column is bold, the second underlined. L2_face: "
    "mean squared error in the face on the [-1, 1] scale (Eq. 16); residual: what the perturbation, passed on as it "
    "is, does not explain of it. DSR has Wilson's 95 % interval, each face being one trial."
)


def document(report: Report) -> Document:
    """All tables of a report, with what their reader must know."""
    first, *others = report.recognizers
    shown = [m for m in report.measures.values() if m.in_tables and m.far is None]
    of_first = [m for m in shown if m.recognizer in (None, first)]
    by_first = table_of(report, _by_manipulator(report, of_first))
    sections = [
        Section(text=_READING),
        Section(f"ID sim. by {first}, the recogniser that training used", table=by_first),
    ]
    for recognizer in others:
        measures = [m for m in shown if m.recognizer == recognizer]
        sections.append(Section(f"ID sim. by {recognizer}", table=table_of(report, _by_manipulator(report, measures))))
    sections.append(Section("Over manipulators", table=table_of(report, _aggregates(report, shown))))
    if report.thresholds:
        sections.append(Section("Misdirected", _calibrated(report), table_of(report, _misdirected(report))))
    if CEILING in report.protections:
        sections.append(_shares(report, of_first))
    photos = table_of(report, [Column(m.column, report.photo(m.name), m) for m in PHOTOS])
    colour = f"colour is CIEDE2000 in the face, of which {NOTICEABLE} is just noticed"
    tint = "tint the share of the perturbation that a 9-pixel blur leaves"
    sections.append(Section("Protected photos", f"{colour}, {tint}.", photos))
    sections += [Section(text=f"Warning: {warning}.") for warning in report.warnings]
    about = {**report.metadata, "n": report.photos["psnr"].shape[1]}
    title = f"Protections on {data_name(about)}" if data_name(about) else "Protections"
    return Document(title, facts(about), _headline(report), sections)


def markdown(report: Report) -> str:
    """The same as Markdown."""
    return document(report).markdown()


def _headline(report: Report) -> Section:
    """Mean and worst of the paper's three measures, by the recogniser that is likeliest not to have been trained on."""
    judge = report.recognizers[-1]
    measures = [report.measures[name] for name in ("l2_face", f"similarity.{judge}", f"dsr.{judge}")]
    text = (
        "mean over manipulators, and of the worst of them; high L2_face and low ID sim. are the protection's success. "
        f"DSR: share of faces with L2_face > {L2_THRESHOLD} and ID sim. < {SIMILARITY_THRESHOLD}."
    )
    return Section(f"In short, ID sim. by {judge}", text, table_of(report, _aggregates(report, measures)))


def _shares(report: Report, measures: Sequence[Measure]) -> Section:
    top = report.protections.index(CEILING)
    reached = report.values["l2_face"][top].isfinite().any(dim=2).any(dim=0).sum()
    return Section(
        f"Share of the ceiling, {CEILING}, on the same faces and edits",
        f"of ID sim., of its distance from 1. The white box rows are of {int(reached)} faces{_known(report)}.",
        table_of(report, map(_as_share, _by_manipulator(report, measures))),
    )


def _known(report: Report) -> str:
    """The references' budget, and which judges the criterion's knew."""
    about = report.metadata.get("references")
    if about is None:
        return ""
    known, unseen = about["recognizers"], [r for r in report.recognizers if r not in about["recognizers"]]
    others = f", not {' and '.join(unseen)}" if unseen else ""
    return f", {about['steps']} steps each; the criterion's knows {' and '.join(known)}{others}"


def _by_manipulator(report: Report, measures: Sequence[Measure]) -> list[Column]:
    return [
        Column(f"{k} {m.column}", report.cell(m.name, k), m, m.is_rate) for k in report.manipulators for m in measures
    ]


def _aggregates(report: Report, measures: Sequence[Measure]) -> list[Column]:
    return [
        Column(f"{kind} {m.full_title}", cell(m.name), m, m.is_rate)
        for m in measures
        for kind, cell in (("mean", report.mean), ("worst", report.worst))
    ]


def _calibrated(report: Report) -> str:
    """What the table of `_misdirected` shows, and its thresholds."""
    rates = " and ".join(next(iter(report.thresholds.values())))
    each = (
        f"{recognizer} {', '.join(f'{limit:.3f} ({rate})' for rate, limit in limits.items())}"
        for recognizer, limits in report.thresholds.items()
    )
    return (
        "share of forgeries that a system no longer takes for the person of the clean forgery, at a "
        f"false accept rate (FAR) of {rates}. ID sim. from which on it does: {'; '.join(each)}."
    )


def _misdirected(report: Report) -> list[Column]:
    return [
        Column(f"{kind}, {m.column}", cell(m.name), m, bounds=True)
        for m in report.measures.values()
        if m.far is not None
        for kind, cell in (("mean", report.mean), ("worst", report.worst))
    ]


def _as_share(column: Column) -> Column:
    def cell(protection: str) -> Estimate:
        share = column.cell(protection).share
        return Estimate(math.nan if share is None else share, math.nan, math.nan)

    share = replace(column.measure, higher_is_better=True, digits=3)
    return Column(column.title.rstrip("↑↓") + "↑", cell, share)


def table_of(report: Report, columns: Iterable[Column]) -> Table:
    """A row for each protection."""
    columns = list(columns)
    cells = [column.cells(report.protections) for column in columns]
    rows = [[name, *(c[p] for c in cells)] for p, name in enumerate(report.protections)]
    return Table(["Method", *(c.title for c in columns)], rows)

"""What was measured for a table or figure, in the paper's layout, beside what the paper reports."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch

from art_idguard.evaluation.document import Document, Picture, Section, Table, facts
from art_idguard.evaluation.measures import Measure
from art_idguard.evaluation.report import Report
from art_idguard.evaluation.statistics import Estimate, estimate
from art_idguard.evaluation.tables import Column, table_of
from art_idguard.files.atomic import write_text
from art_idguard.reproduction.experiments import Experiment

AVERAGE = "mean"
"""The column of the mean over the others."""

TITLES = {"l2_face": "L2_face↑", "similarity": "ID sim.↓", "dsr": "DSR↑"}


@runtime_checkable
class Reproduced(Protocol):
    """What a table or figure came to."""

    def json(self) -> dict[str, Any]:
        """Everything."""

    def document(self) -> Document:
        """Its tables, in the paper's layout, and what the paper reports."""


def write_result(result: Reproduced, folder: Path, name: str, pictures: Sequence[Picture] = ()) -> Document:
    """Write <folder>/<name>.{json,md}; returns the document with its pictures, for a page."""
    document = replace(result.document(), pictures=pictures)
    write_text(folder / f"{name}.json", json.dumps(result.json(), indent=1, allow_nan=False) + "\n")
    write_text(folder / f"{name}.md", document.markdown())
    return document


def pooled(report: Report, rows: Mapping[str, Sequence[str]]) -> Report:
    """A report whose rows are means over the trainings that differ in their seed.

    A face's edits under several seeds are averaged like its edits, so that intervals are over faces.

    Args:
        report: has each training as a row.
        rows: by the new row's title, the old ones: as many for each, or one alone, which stands for all.
    """
    seeds = max(len(names) for names in rows.values())
    index = [[report.protections.index(name) for name in _repeated(names, seeds)] for names in rows.values()]
    values = {m: v[torch.tensor(index)].movedim(1, -1).flatten(3) for m, v in report.values.items()}
    photos = {m: v[torch.tensor(index)].mean(dim=1) for m, v in report.photos.items()}
    edits = {k: tuple(name for name in names for _ in range(seeds)) for k, names in report.edits.items()}
    return replace(report, protections=tuple(rows), edits=edits, values=values, photos=photos)


def _repeated(names: Sequence[str], count: int) -> list[str]:
    return list(names) * count if len(names) == 1 else list(names)


def reported(experiment: str) -> Mapping[str, Mapping[str, Any]]:
    """The paper's own figures by data set, row, column and measure; empty where it prints none."""
    return json.loads(Path(__file__).with_name("reported.json").read_text())["tables"].get(experiment, {})


@dataclass(frozen=True)
class Result:
    """One data set's part of a table or figure.

    Attributes:
        name: of the experiment.
        experiment: what it consists of.
        report: a row for each of its rows, over all seeds.
        by_seed: the same of each seed.
        metadata: besides the report's: scale, seeds, seconds of each training.
    """

    name: str
    experiment: Experiment
    report: Report
    by_seed: Mapping[int, Report]
    metadata: Mapping[str, Any]

    @cached_property
    def columns(self) -> dict[str, Any]:
        """By the column's name, its cells by measure."""
        own = {} if self.experiment.columns is None else {k: self._of(k) for k in self.report.manipulators}
        return own | ({AVERAGE: self.report.mean} if self.experiment.average or not own else {})

    def _of(self, manipulator: str) -> Any:
        return lambda measure: self.report.cell(measure, manipulator)

    def measures(self, recognizer: str) -> list[Measure]:
        """Those of the table, by one recogniser."""
        names = [name if name == "l2_face" else f"{name}.{recognizer}" for name in self.experiment.measures]
        return [self.report.measures[name] for name in names]

    def differences(self, measure: str) -> dict[str, Estimate]:
        """How far each row is from the first, of the mean over columns, face by face."""
        cells = self.report.cells(measure).double().nanmean(dim=3).nanmean(dim=1)
        rest = self.report.protections[1:]
        return {row: estimate((cells[p] - cells[0])[:, None]) for p, row in enumerate(rest, start=1)}

    def json(self) -> dict[str, Any]:
        """Everything, with the estimates."""
        everything = {m.name: m for r in self.report.recognizers for m in self.measures(r)}
        return {
            "experiment": self.name,
            "metadata": {**self.report.metadata, **self.metadata},
            "warnings": self.report.warnings,
            "measured": {
                row: {k: {m: of(m)(row).json() for m in everything} for k, of in self.columns.items()}
                for row in self.report.protections
            },
            "difference from the first row": {m: _json(self.differences(m)) for m in everything},
            "by seed": {
                seed: {m: _json({row: report.mean(m)(row) for row in report.protections}) for m in everything}
                for seed, report in self.by_seed.items()
            },
            "reported": self._reported(),
        }

    def document(self) -> Document:
        """The table by each recogniser, differences, seeds, and what the paper reports."""
        first, *others = self.report.recognizers
        metadata = {**self.report.metadata, "seed": ", ".join(map(str, self.by_seed)), **self.metadata}
        scale = f"{self.metadata['scale']} scale"
        sections = [Section(f"ID sim. by {other}", table=self._table(self.measures(other))) for other in others]
        sections.append(self._differences(first))
        if len(self.by_seed) > 1:
            sections.append(self._seeds(first))
        paper = [
            Section(f"Reported by the paper, {data}", "256 px, the authors' manipulators.", self._paper(rows))
            for data, rows in self._reported().items()
        ]
        headline = Section(f"Measured here, ID sim. by {first}", self._reading(), self._table(self.measures(first)))
        warnings = [Section(text=f"Warning: {warning}.") for warning in self.report.warnings]
        return Document(f"{self.experiment.title} ({scale})", facts(metadata), headline, [*sections, *paper, *warnings])

    def _reading(self) -> str:
        return (
            "means ± half the bootstrap 95 % interval over faces, DSR with Wilson's; the best of a column is bold, the "
            f"second underlined. {self.experiment.note}"
        ).strip()

    def _reported(self) -> Mapping[str, Mapping[str, Any]]:
        """The paper's figures of this data set, or of CelebAMask-HQ, on which it trains, for one that it has not.

        All, where its groups are no data sets (Table V).
        """
        everything = reported(self.name)
        if not self.experiment.every_data_set:
            return everything
        own = self.report.metadata["data"]["name"].lower()
        matching = {data: rows for data, rows in everything.items() if data.lower() == own}
        return matching or dict(list(everything.items())[:1])

    def _table(self, measures: Sequence[Measure]) -> Table:
        columns = [
            Column(f"{k} {m.column}", of(m.name), m, m.is_rate) for k, of in self.columns.items() for m in measures
        ]
        return table_of(self.report, columns)

    def _differences(self, recognizer: str) -> Section:
        first = self.report.protections[0]
        measures = self.measures(recognizer)
        columns = [self.differences(m.name) for m in measures]
        rows = [[row, *(column[row].text(3, bounds=True) for column in columns)] for row in self.report.protections[1:]]
        text = "mean over the table's columns, face by face, with its interval over faces."
        return Section(f"Difference from {first}", text, Table(["Row", *(m.column for m in measures)], rows))

    def _seeds(self, recognizer: str) -> Section:
        measures = self.measures(recognizer)
        head = ["Row", *(f"{m.column}, seed {seed}" for m in measures for seed in self.by_seed)]
        cells = [(m, report.mean(m.name)) for m in measures for report in self.by_seed.values()]
        rows = [[row, *(f"{cell(row).mean:.{m.digits}f}" for m, cell in cells)] for row in self.report.protections]
        return Section("Seed by seed", "mean over the table's columns.", Table(head, rows))

    @staticmethod
    def _paper(rows: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Table:
        (first, *_) = rows.values()
        head = ["Row", *(f"{k} {TITLES[m]}" for k, values in first.items() for m in values)]
        cells = [[row, *(f"{v:.3f}" for values in of.values() for v in values.values())] for row, of in rows.items()]
        return Table(head, cells)


def _json(estimates: Mapping[str, Estimate]) -> dict[str, Any]:
    return {row: found.json() for row, found in estimates.items()}

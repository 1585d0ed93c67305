"""Report of an evaluation: values per face, and means with intervals."""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from art_idguard.evaluation.measures import FORGERIES, Measure, misdirection, similarity, success
from art_idguard.evaluation.statistics import Estimate, estimate, rounded
from art_idguard.files.atomic import write_text

WHITE_BOX, CEILING = "White box (PGD, whole picture)", "White box (criterion)"
REFERENCES = (WHITE_BOX, CEILING)
"""The rows of the attacks that know manipulator, face and edit; the other rows' effects are shares of the last one's.

By the first, the picture is to change, by the other, section IV-A4's criterion is to be met.
"""


Cell = Callable[[str], Estimate]
"""A column of a table: from protection to estimate."""


@dataclass(frozen=True)
class Report:
    """Values per face on the [-1, 1] scale; NaN where a face was not measured.

    Attributes:
        protections: the rows; the last may be `REFERENCES`.
        manipulators: the columns.
        edits: names of the edits of each manipulator; E is the largest number of them.
        recognizers: those that measured similarity, first the one that training used.
        values: by name, those of `measures.FORGERIES` and `measures.similarity`.
        photos: by name, those of `measures.PHOTOS`.
        metadata: data set, weights, seed, epsilon, hardware, date; perhaps "thresholds", see there.
        warnings: what a reader of the numbers must know.
    """

    protections: tuple[str, ...]
    manipulators: tuple[str, ...]
    edits: Mapping[str, Sequence[str]]
    recognizers: tuple[str, ...]
    values: Mapping[str, Float[Tensor, "P K N E"]]
    photos: Mapping[str, Float[Tensor, "P N"]]
    metadata: Mapping[str, Any]
    warnings: tuple[str, ...] = ()

    @property
    def thresholds(self) -> Mapping[str, Mapping[str, float]]:
        """By recogniser and false accept rate ("1%"), from which similarity on it takes two faces for one person.

        Empty where no recogniser was calibrated; see `calibration.thresholds`.
        """
        return self.metadata.get("thresholds", {})

    @cached_property
    def measures(self) -> Mapping[str, Measure]:
        """By name: the values, and what follows from them.

        That is "dsr.<recogniser>", and where it was calibrated "misdirected@1%.<recogniser>".
        """
        measured = (*FORGERIES, *map(similarity, self.recognizers))
        misdirected = (misdirection(r, *limit) for r, limits in self.thresholds.items() for limit in limits.items())
        return {m.name: m for m in (*measured, *map(success, self.recognizers), *misdirected)}

    def cells(self, measure: str) -> Float[Tensor, "P K N E"]:
        """A measure's value of every protection, manipulator, face and edit."""
        return self.values[measure] if measure in self.values else self.measures[measure].of(self.values)

    @cached_property
    def _table(self) -> dict[str, dict[str, list[Estimate]]]:
        """Measure -> protection -> one estimate for each manipulator."""
        return {
            measure.name: {
                name: [
                    estimate(cells[p, k], share=measure.is_rate)._replace(share=self._share(measure, cells[:, k], p))
                    for k in range(len(self.manipulators))
                ]
                for p, name in enumerate(self.protections)
            }
            for measure in self.measures.values()
            for cells in (self.cells(measure.name),)
        }

    def _share(self, measure: Measure, cells: Float[Tensor, "P N E"], p: int) -> float | None:
        if CEILING not in self.protections:
            return None
        top = self.protections.index(CEILING)
        effect = cells if measure.higher_is_better else 1 - cells
        both = effect[p].isfinite() & effect[top].isfinite()
        reached, possible = (effect[i][both].mean().item() for i in (p, top))
        return reached / possible if possible > 0 else math.nan

    def cell(self, measure: str, manipulator: str) -> Cell:
        """The column of one manipulator."""
        k = self.manipulators.index(manipulator)
        return lambda protection: self._table[measure][protection][k]

    def mean(self, measure: str) -> Cell:
        """The column of means over manipulators, each with all of its edits; its share is the mean of their shares."""
        cells = self.cells(measure).double().nanmean(dim=3).transpose(1, 2)
        found = {}
        for p, name in enumerate(self.protections):
            shares = _known(self._table[measure][name])
            share = sum(shares) / len(shares) if shares else None
            found[name] = estimate(cells[p], share=self.measures[measure].is_rate)._replace(share=share)
        return found.__getitem__

    def worst(self, measure: str) -> Cell:
        """The column of each protection's worst manipulator; its share is the lowest of all."""
        sign = 1 if self.measures[measure].higher_is_better else -1

        def cell(protection: str) -> Estimate:
            row = dict(zip(self.manipulators, self._table[measure][protection], strict=True))
            finite = {k: e for k, e in row.items() if not math.isnan(e.mean)}
            if not finite:
                return Estimate(math.nan, math.nan, math.nan)
            name = min(finite, key=lambda k: sign * finite[k].mean)
            return finite[name]._replace(share=min(_known(finite.values()), default=None), manipulator=name)

        return cell

    def photo(self, measure: str) -> Cell:
        """The column of a protected photo's quality."""
        values = self.photos[measure]
        return lambda protection: estimate(values[self.protections.index(protection)][:, None])

    def summary(self) -> dict[str, Any]:
        """Every estimate by protection, as JSON takes it."""
        columns: dict[str, dict[str, Cell]] = {
            "mean over manipulators": {m: self.mean(m) for m in self.measures},
            "worst manipulator": {m: self.worst(m) for m in self.measures},
            "photo": {m: self.photo(m) for m in self.photos},
        }
        by_manipulator = {k: {m: self.cell(m, k) for m in self.measures} for k in self.manipulators}
        return {
            protection: {
                section: {m: cell(protection).json() for m, cell in cells.items()}
                for section, cells in (columns | by_manipulator).items()
            }
            | {"edits": self._by_edit(p)}
            for p, protection in enumerate(self.protections)
        }

    def _by_edit(self, p: int) -> dict[str, Any]:
        return {
            k: {
                edit: {m: rounded(self.cells(m)[p, i, :, e].nanmean().item()) for m in self.measures}
                for e, edit in enumerate(self.edits[k])
            }
            for i, k in enumerate(self.manipulators)
        }

    def to_json(self, path: str | Path) -> None:
        """Write metadata, warnings and summary; the file is whole or absent."""
        content = {
            "metadata": dict(self.metadata),
            "warnings": self.warnings,
            "summary": self.summary(),
        }
        write_text(Path(path), json.dumps(content, indent=1, allow_nan=False) + "\n")


def _known(estimates: Iterable[Estimate]) -> list[float]:
    """Shares of a ceiling that is not nothing."""
    return [e.share for e in estimates if e.share is not None and math.isfinite(e.share)]

"""Rows, printed as soon as they are measured, and what is written of them after each: JSON, Markdown, plots."""

import json
import math
import os
import platform
import statistics
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from art_idguard.files.atomic import write_text
from art_idguard.perturbation.precision import Precision, faster_precision

from .measuring import measured_peak
from .plots import draw
from .report import line, markdown, section_markdown


@dataclass(kw_only=True)
class Row:
    """One thing measured, as often as it took its turn."""

    name: str
    of: str | None
    """Label of the row that its figures are a share of, turn by turn."""
    at: tuple[str, float] | None
    """What grows, and how far: rows of one name make a curve."""
    operations: float | None
    """Floating point operations in what takes its "seconds"."""
    peak: str
    """Device and precision that did them."""
    repeats: dict[str, list[float]] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Its name, and where on a curve it stands."""
        return self.name if self.at is None else f"{self.name}, {self.at[1]:g} {self.at[0]}"


@dataclass
class Section:
    """What a reader must know of the rows, what was left out, and the rows by label."""

    about: str = ""
    notes: list[str] = field(default_factory=list)
    rows: dict[str, Row] = field(default_factory=dict)
    measured: set[str] = field(default_factory=set)
    """Peaks that were measured in it."""


class Suite:
    """What was measured in a run.

    Args:
        output: folder for benchmark.json, benchmark.md and the plots; None writes nothing.
        quick: whether it was done at a small scale; the reports say so.
    """

    def __init__(self, output: Path | None = None, *, quick: bool = False) -> None:
        self.output, self.quick = output, quick
        self.sections: dict[str, Section] = {}
        self.peaks: dict[str, float] = {}
        self.machine = {
            "processor": f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "threads": torch.get_num_threads(),
            "load at the start": round(os.getloadavg()[0], 2),
            "torch": torch.__version__,
            "precision": "float32, where a row names no other",
        }

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        """What is added inside belongs to it; its tables are printed and drawn at the end, even at an early one."""
        self.name, self.now = name, Section()
        self.sections[name] = self.now
        try:
            yield
        finally:
            found = self.summary()["sections"][name]
            print(f"\n{section_markdown(name, found)}\n", flush=True)
            self._write()
            if self.output:
                draw(self.output, name, found["rows"])

    def about(self, text: str) -> None:
        """Say what a reader of the section's rows must know."""
        self.now.about = text
        self._say(text)

    def note(self, text: str) -> None:
        """Say what is left out, and why."""
        self.now.notes.append(text)
        self._say(text)

    def optional(self, package: str) -> ModuleType | None:
        """A package that need not be here; a note says that it is not."""
        try:
            return import_module(package)
        except ImportError:
            self.note(f"{package} is not installed: what needs it is left out")
            return None

    def precisions(self, device: torch.device) -> tuple[Precision, ...]:
        """float32, and bfloat16 where that is faster; a note says where it is not, and rows may take minutes in it."""
        if faster_precision(device) == "bf16":
            return "no", "bf16"
        self.note(f"on this {device.type} bfloat16 is slower than float32: its rows are left out")
        return ("no",)

    def add(
        self,
        name: str,
        figures: Mapping[str, float | list[float]],
        *,
        of: str | None = None,
        at: tuple[str, float] | None = None,
        operations: float | None = None,
        peak: str = "cpu float32",
    ) -> None:
        """Add what a turn found (or, in lists, several), print the row, and write all that there is.

        `figures` go by name with its unit, and are infinity where it failed. Of one that begins with "worst" the
        largest is shown, of others the median. The other arguments are those of `Row`.
        """
        row = Row(name=name, of=of, at=at, operations=operations, peak=peak)
        row = self.now.rows.setdefault(row.label, row)
        for figure, values in figures.items():
            row.repeats.setdefault(figure, []).extend(values if isinstance(values, list) else [values])
        if operations and peak not in self.now.measured:  # in each section: other work on the machine comes and goes
            self.now.measured.add(peak)
            self.peaks[peak] = max(self.peaks.get(peak, 0.0), measured_peak(*peak.split()))
        self._say(line(self._row(self.now, row)))
        self._write()

    def summary(self) -> dict[str, Any]:
        """All of it, as the JSON has it."""
        sections = {
            name: {"about": s.about, "notes": s.notes, "rows": [self._row(s, row) for row in s.rows.values()]}
            for name, s in self.sections.items()
        }
        peaks = {name: peak / 1e9 for name, peak in self.peaks.items()}
        return {"quick": self.quick, "machine": self.machine | {"peak GFLOP/s": peaks}, "sections": sections}

    def _row(self, section: Section, row: Row) -> dict[str, Any]:
        """A row with what follows from its repeats."""
        base = section.rows[row.of].repeats if row.of in section.rows else {}
        ratios = {figure: _ratio(values, base.get(figure, [])) for figure, values in row.repeats.items()}
        found = {figure: _finite(_typical(figure, values)) for figure, values in row.repeats.items()}
        share = None
        if row.operations and row.peak in self.peaks and found.get("seconds"):
            share = row.operations / found["seconds"] / self.peaks[row.peak]
        return {
            "label": row.label,
            "name": row.name,
            "at": row.at,
            "figures": found,
            "of": row.of,
            "ratios": {figure: ratio for figure, ratio in ratios.items() if ratio is not None},
            "GFLOP": row.operations and row.operations / 1e9,
            "peak": row.peak,
            "of the peak": share,
            "repeats": {figure: [_finite(value) for value in values] for figure, values in row.repeats.items()},
        }

    def _say(self, text: str) -> None:
        print(f"{self.name}: {text}", flush=True)

    def _write(self) -> None:
        if self.output:
            summary = self.summary()
            write_text(self.output / "benchmark.json", json.dumps(summary, indent=1, allow_nan=False) + "\n")
            write_text(self.output / "benchmark.md", markdown(summary))


def _typical(figure: str, values: list[float]) -> float:
    return max(values) if figure.startswith("worst") else statistics.median(values)


def _ratio(values: list[float], base: list[float]) -> float | None:
    """Median of the shares of each turn: other work on the machine meets both alike."""
    shares = [a / b for a, b in zip(values, base, strict=False) if a < math.inf and 0 < b < math.inf]
    return statistics.median(shares) if shares else None


def _finite(value: float) -> float | None:
    """JSON has no infinity."""
    return float(value) if math.isfinite(value) else None

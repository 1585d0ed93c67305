"""Fig. 11: how many forgeries recognition systems take for somebody else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from art_idguard.data.spec import DataSpec
from art_idguard.evaluation.config import EvaluationConfig
from art_idguard.evaluation.document import PAGE, Document, Section, Table, facts, write_html
from art_idguard.evaluation.parts import Parts
from art_idguard.evaluation.plots import Panel, bars, save_plot
from art_idguard.evaluation.recognition import UNPROTECTED, Cell, LocalSystem, misdirections
from art_idguard.evaluation.statistics import Estimate, environment_info, estimate
from art_idguard.reproduction.config import ReproductionConfig
from art_idguard.reproduction.experiments import EXPERIMENTS
from art_idguard.reproduction.result import write_result
from art_idguard.types import float32


@dataclass(frozen=True)
class RecognitionResult:
    """Misdirection rates: of rows by system, the mean over manipulators, and of each."""

    cells: Mapping[Cell, Estimate]
    means: Mapping[tuple[str, str], Estimate]
    metadata: Mapping[str, Any]

    def json(self) -> dict[str, Any]:
        """Everything."""
        measured: dict[str, Any] = {}
        for (row, manipulator, way), cell in self.cells.items():
            measured.setdefault(row, {}).setdefault(way, {})[manipulator] = cell.json()
        for (row, way), mean in self.means.items():
            measured[row][way]["mean"] = mean.json()
        return {"experiment": "fig11", "metadata": dict(self.metadata), "measured": measured}

    def document(self) -> Document:
        """Rows down, systems across: the mean over manipulators, then each."""
        experiment = EXPERIMENTS["fig11"]
        rows = list(dict.fromkeys(row for row, _ in self.means))
        ways = list(dict.fromkeys(way for _, way in self.means))

        def table(cells: Mapping[tuple[str, str], Estimate]) -> Table:
            body = [[row, *(cells[row, way].text(3, bounds=True) for way in ways)] for row in rows]
            return Table(["Row", *(f"{way}↑" for way in ways)], body)

        each = dict.fromkeys(manipulator for _, manipulator, _ in self.cells)
        sections = [
            Section(name, table=table({(row, way): of for (row, k, way), of in self.cells.items() if k == name}))
            for name in each
        ]
        text = (
            "Share of forgeries that are not taken for the person in the photo, with Wilson's 95 % interval, each face "
            f"being one trial; mean over manipulators. “{UNPROTECTED}”: forgeries of the photos themselves, what a "
            f"system misses by itself. {experiment.note}"
        )
        title = f"{experiment.title} ({self.metadata['scale']} scale)"
        return Document(title, facts(self.metadata), Section("Measured here", text, table(self.means)), sections)


@float32()
def reproduce_recognition(
    setting: EvaluationConfig,
    names: Mapping[str, Sequence[str]],
    folder: Path,
    config: ReproductionConfig,
    *,
    verbose: bool,
) -> dict[str, RecognitionResult]:
    """Measure, and write <folder>/<DATA>.{json,md}, a plot and report.html.

    Args:
        setting: what is evaluated, as `evaluate` takes it.
        names: by the experiment's rows, the evaluation's, whose mean they are.
        folder: for the results.
        config: of the reproduction.
        verbose: show a progress bar.
    """
    parts, spec = Parts(setting, verbose=verbose), DataSpec.parse(setting.data[0])
    calibration = parts.calibration()
    faces = parts.read(spec, setting.limit)
    baselines, budgets = parts.baselines(parts.learnt_from(spec))
    limits = calibration.get("thresholds", {})
    systems = [LocalSystem(name, r, limits.get(name, {})) for name, r in parts.recognizers.items()]
    every, wanted = parts.own() | baselines, {name for of in names.values() for name in of}
    measured = misdirections(
        {name: protect for name, protect in every.items() if name in wanted},
        parts.forging,
        faces,
        systems,
        strangers=parts.read(DataSpec.parse(setting.calibrate), None) if setting.calibrate else None,
        edits=setting.edits,
        batch_size=setting.batch_size,
        verbose=verbose,
    )
    metadata = {
        "scale": config.scale,
        "quick": config.quick,
        "data": spec.public(),
        "n": len(faces),
        "size": faces.size,
        "seed": ", ".join(map(str, config.seeds)),
        "weights": parts.weights,
        **budgets,
        **calibration,
        **environment_info(faces.device),
    }
    result = RecognitionResult(*_pooled(measured, {UNPROTECTED: [UNPROTECTED], **names}), metadata)
    _write(result, folder, spec.name)
    return {spec.name: result}


def _write(result: RecognitionResult, folder: Path, name: str) -> None:
    ways = dict.fromkeys(way for _, way in result.means)
    panels = [
        Panel(f"misdirected: {way}", {row: {"mean": of} for (row, k), of in result.means.items() if k == way})
        for way in ways
    ]
    plot = save_plot(folder / f"{name}-bars.png", bars(panels), "Mean over manipulators, 95 % intervals.")
    write_html(folder / PAGE, [write_result(result, folder, name, [plot])])


def _pooled(
    measured: Mapping[Cell, Float[Tensor, "N E"]], names: Mapping[str, Sequence[str]]
) -> tuple[dict[Cell, Estimate], dict[tuple[str, str], Estimate]]:
    """Rows that are means over seeds, whose faces are the trials."""
    manipulators = dict.fromkeys(manipulator for _, manipulator, _ in measured)
    ways = dict.fromkeys(way for _, _, way in measured)
    cells: dict[Cell, Estimate] = {}
    means: dict[tuple[str, str], Estimate] = {}
    for row, of in names.items():
        for way in ways:
            each = {k: torch.cat([measured[name, k, way] for name in of], dim=1) for k in manipulators}
            cells |= {(row, k, way): estimate(values, share=True) for k, values in each.items()}
            of_manipulators = torch.stack([values.nanmean(dim=1) for values in each.values()], dim=1)
            means[row, way] = estimate(of_manipulators, share=True)
    return cells, means

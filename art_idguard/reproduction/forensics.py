"""Table VIII: messages in faces, read from forgeries."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from art_idguard.evaluation.config import ForensicsConfig
from art_idguard.evaluation.document import PAGE, Document, Section, Table, write_html
from art_idguard.evaluation.forensics import MEASURES, ForensicsReport, evaluate_watermarkers
from art_idguard.reproduction.config import ReproductionConfig
from art_idguard.reproduction.experiments import MANIPULATORS
from art_idguard.reproduction.result import reported, write_result
from art_idguard.reproduction.workshop import Workshop

EXPERIMENT = "table8"
TITLE = "Table VIII: proactive forensics"

ROWS: dict[str, Mapping[str, Any]] = {
    "FaceTagger-style": {"manipulators": ("stargan",)},
    "IAP-style": {"weighting": "uniform"},
    "Ours (S-I)": {"weighting": "mgda"},
    "Ours (S-II)": {"weighting": "kpi"},
}
"""By what differs from the scale's recipe: the baselines' ways of training (one target; all with equal weights), with
our networks, so that what is compared is the weighting."""


@dataclass(frozen=True)
class ForensicsResult:
    """What was measured, beside what the paper reports."""

    report: ForensicsReport
    about: Mapping[str, Any]

    def json(self) -> dict[str, Any]:
        """Everything."""
        found = self.report.json()
        return {
            "experiment": EXPERIMENT,
            "metadata": {**found["metadata"], **self.about},
            "measured": found["rows"],
            "reported": reported(EXPERIMENT),
        }

    def document(self) -> Document:
        """The report's, and the paper's table."""
        document = self.report.document()
        ((data, rows),) = reported(EXPERIMENT).items()
        (first, *_) = rows.values()
        head = ["Method", *(f"{column} {MEASURES[m][0]}" for column, of in first.items() for m in of)]
        cells = [[row, *(f"{v:.3f}" for of in columns.values() for v in of.values())] for row, columns in rows.items()]
        paper = Section(f"Reported by the paper, {data}", "256 px, the authors' manipulators.", Table(head, cells))
        seeds = ", ".join(map(str, self.about["seeds"]))
        return replace(
            document,
            title=f"{TITLE} ({self.about['scale']} scale)",
            facts={**document.facts, "seed": f"{seeds} (trainings)"},
            sections=[*document.sections, paper],
        )


def reproduce_forensics(config: ReproductionConfig, *, verbose: bool) -> dict[str, ForensicsResult]:
    """Train what is missing, measure, and write <output>/<SCALE>/table8/<DATA>.{json,md} and report.html.

    Raises:
        IDGuardError: unusable data or weights, or a first look finds nothing.
        KeyboardInterrupt: a training was stopped.
    """
    workshop = Workshop(config, verbose=verbose)
    targets = workshop.manipulators(MANIPULATORS)
    trained = workshop.watermarkers(ROWS, config.seeds, targets)
    folder, data = workshop.results, workshop.data[0]
    several = len(config.seeds) > 1
    report = evaluate_watermarkers(
        ForensicsConfig(
            watermarkers=tuple(
                f"{row}, seed {seed}={place}" if several else f"{row}={place}" for (row, seed), place in trained.items()
            ),
            manipulators=tuple(targets.values()),
            data=data,
            output=str(folder / "evaluation"),
            operations=("none", "jpeg=75"),
            edits=workshop.scale.edits,
            limit=config.limit,
        ),
        verbose=verbose,
    )
    seconds = {f"{row}, seed {seed}": workshop.training_seconds(place) for (row, seed), place in trained.items()}
    result = ForensicsResult(
        report, {"scale": config.scale, "quick": config.quick, "seeds": config.seeds, "training seconds": seconds}
    )
    name = Path(data.partition("=")[0]).name
    write_html(folder / PAGE, [write_result(result, folder, name)])
    return {name: result}

"""What is noted of a protector's training: a line a step, sample pictures."""

from pathlib import Path
from typing import Any

from art_idguard.baselines.idguard import id_guard, p_pert
from art_idguard.evaluation.pictures import save_pictures
from art_idguard.losses import TERMS
from art_idguard.training.protector.run import ProtectorRun
from art_idguard.training.protector.step import StepReport


def record(run: ProtectorRun, report: StepReport) -> dict[str, Any]:
    """A line of the log: objective, KPI and weight of each manipulator in the step that the run has just finished."""
    names = [m.name for m in run.manipulators]
    line: dict[str, Any] = {"step": run.step, "seconds": round(run.elapsed, 2)}
    values = report._replace(shares=None)._asdict()
    line |= {field: dict(zip(names, v.tolist(), strict=True)) for field, v in values.items() if v is not None}
    for term, column in zip(TERMS, () if report.shares is None else report.shares.T, strict=False):
        line[f"share of {term}"] = dict(zip(names, column.tolist(), strict=True))
    if (gap := getattr(run.weighting, "gap", None)) is not None:
        line["duality_gap"] = {"mgda": float(gap)}
    return line


def save_sample(run: ProtectorRun) -> Path:
    """Rows of a picture: photo, forged, disrupted by the generator, disrupted by the prior, perturbation x10."""
    protections = {"generator": id_guard(run.trained), "prior": p_pert(run.trained)}
    targets = {str(k): target for k, target in enumerate(run.manipulators)}
    save_pictures(path := run.folder / "samples" / f"{run.step:06d}.png", protections, targets, run.faces)
    run.protector.train()
    return path

"""Log of a training: progress bar, log.jsonl, TensorBoard, sample pictures."""

from typing import Any

from tqdm import tqdm

from art_idguard.baselines.idguard import id_guard, p_pert
from art_idguard.evaluation.pictures import save_pictures
from art_idguard.losses import TERMS
from art_idguard.training.log import LogFile
from art_idguard.training.protector.run import ProtectorRun
from art_idguard.training.protector.step import StepReport


class Log(LogFile):
    """One line a step: objective, KPI and weight of each manipulator."""

    def __init__(self, run: ProtectorRun) -> None:
        super().__init__(run.folder, step=run.step, enabled=run.accelerator.is_main_process)
        self.run = run

    def note(self, report: StepReport, bar: tqdm) -> None:
        """Note the step that the run has just finished."""
        bar.update()
        names = [m.name for m in self.run.manipulators]
        record: dict[str, Any] = {"step": self.run.step, "seconds": round(self.run.elapsed, 2)}
        values = report._replace(shares=None)._asdict()
        record |= {field: dict(zip(names, v.tolist(), strict=True)) for field, v in values.items() if v is not None}
        for term, column in zip(TERMS, () if report.shares is None else report.shares.T, strict=False):
            record[f"share of {term}"] = dict(zip(names, column.tolist(), strict=True))
        if (gap := getattr(self.run.weighting, "gap", None)) is not None:
            record["duality_gap"] = {"mgda": float(gap)}
        self.write(record)
        bar.set_postfix_str(
            " ".join(f"{n} {k:.3f} x{w:.2g}" for n, k, w in zip(names, report.kpi, report.weights, strict=True))
        )


def save_sample(run: ProtectorRun) -> None:
    """Rows of a picture: photo, forged, disrupted by the generator, disrupted by the prior, perturbation x10."""
    protections = {"generator": id_guard(run.trained), "prior": p_pert(run.trained)}
    targets = {str(k): target for k, target in enumerate(run.manipulators)}
    save_pictures(run.folder / "samples" / f"{run.step:06d}.png", protections, targets, run.faces)
    run.protector.train()

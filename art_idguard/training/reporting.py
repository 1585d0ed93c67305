"""What a training shows: progress bar, log.jsonl, TensorBoard, sample pictures."""

import json
import time
from contextlib import suppress
from typing import Any, Self

from tqdm import tqdm

from art_idguard.baselines import id_guard, p_pert
from art_idguard.evaluation import save_pictures
from art_idguard.training.run import Run
from art_idguard.training.step import StepReport


class Log:
    """One JSON line a step in log.jsonl, and TensorBoard."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def __enter__(self) -> Self:
        self.start = time.monotonic()
        self.lines, self.writer = None, None
        if self.run.accelerator.is_main_process:
            self.lines = (self.run.folder / "log.jsonl").open("a")
            with suppress(ImportError):  # a bare training machine may lack tensorboard
                from torch.utils.tensorboard import SummaryWriter

                self.writer = SummaryWriter(str(self.run.folder / "tensorboard"))
        return self

    def write(self, report: StepReport, bar: tqdm) -> None:
        """Note the step that the run has just finished."""
        bar.update()
        if self.lines is None:
            return
        names = [m.name for m in self.run.manipulators]
        record: dict[str, Any] = {"step": self.run.step, "seconds": round(time.monotonic() - self.start, 2)}
        record |= {field: dict(zip(names, v.tolist(), strict=True)) for field, v in report._asdict().items()}
        if (gap := getattr(self.run.weighting, "gap", None)) is not None:
            record["duality_gap"] = {"mgda": float(gap)}
        self.lines.write(json.dumps(record) + "\n")
        self.lines.flush()
        if self.writer is not None:
            for field in record.keys() - {"step", "seconds"}:
                self.writer.add_scalars(field, record[field], self.run.step)
        bar.set_postfix_str(
            " ".join(f"{n} {k:.3f} x{w:.2g}" for n, k, w in zip(names, report.kpi, report.weights, strict=True))
        )

    def __exit__(self, *_: object) -> None:
        for file in (self.lines, self.writer):
            if file is not None:
                file.close()


def save_sample(run: Run) -> None:
    """Rows of a picture: photo, forged, disrupted by the generator, disrupted by the prior, perturbation x10."""
    protections = {"generator": id_guard(run.protector), "prior": p_pert(run.protector)}
    targets = {str(k): target for k, target in enumerate(run.manipulators)}
    save_pictures(run.folder / "samples" / f"{run.step:06d}.png", protections, targets, run.faces)
    run.protector.train()

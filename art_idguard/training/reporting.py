"""What a training shows: progress bar, log.jsonl, TensorBoard, sample pictures."""

import json
import time
from contextlib import suppress
from typing import Any, Self

import torch
from tqdm import tqdm

from art_idguard.grid import save_grid
from art_idguard.training.run import Run, edits_of
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


@torch.no_grad()
def save_sample(run: Run) -> None:
    """Rows of a picture: photo, forged, disrupted by the generator, disrupted by the prior, perturbation x10."""
    batch = run.faces.batch(slice(len(run.manipulators)))
    training = run.protector.training
    protected = run.protector.eval()(batch.images)
    run.protector.train(training)
    rows = []
    for i, (target, edit) in enumerate(zip(run.manipulators, edits_of(run.manipulators, batch, 0), strict=True)):
        forged = [target(x, edit).output[i] for x in (batch.images, *protected)]
        rows.append([batch.images[i], *forged, 10 * (protected.specific - batch.images)[i]])
    save_grid(run.folder / "samples" / f"{run.step:06d}.png", rows)

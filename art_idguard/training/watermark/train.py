"""Training of a watermarker (section IV-E2, Table VIII), on accelerate.

As in every training, all that is random in step t depends on (seed, t) alone.
"""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from art_idguard.files.grid import save_grid
from art_idguard.images import from_uint8
from art_idguard.training.edits import edits_of
from art_idguard.training.loop import Training, run_training
from art_idguard.training.watermark.config import WatermarkConfig
from art_idguard.training.watermark.run import WatermarkRun, build_run
from art_idguard.training.watermark.step import train_step

COLUMNS = "photo | watermarked | 10 x change | forged | forged when watermarked"


def train_watermarker(
    config: WatermarkConfig,
    *,
    resume: bool = False,
    verbose: bool = True,
    on_stop: Callable[[str], object] = warnings.warn,
) -> Path:
    """Train a watermarker and save it; returns its folder.

    Ctrl-C or SIGTERM ends it after the step in hand: the checkpoint and the watermarker as it is then are saved.

    Args:
        config: the settings; see `WatermarkConfig`.
        resume: go on from the checkpoint in `config.output`; without one, start anew.
        verbose: show a progress bar.
        on_stop: told when the training has been stopped, and at which step.

    Raises:
        IDGuardError: unusable settings, data or weights, or a loss that is not finite.
    """
    return run_training(
        config,
        lambda: WatermarkTraining(build_run(config, resume=resume), title="watermark", verbose=verbose),
        on_stop,
    )


class WatermarkTraining(Training[WatermarkRun]):
    """Section IV-E2 in the loop of every training."""

    def train_step(self, *, progress: float) -> None:
        """See `train_step`."""
        self.report = train_step(self.run, progress=progress)

    def log(self, bar: tqdm, *, is_last: bool) -> None:
        """A line every `log_every` steps."""
        if not self.is_logged(is_last=is_last):
            return
        run, report = self.run, self.report
        groups = {"objective": report.objective, "kpi": report.kpi, "weights": report.weights, "errors": report.errors}
        line: dict[str, Any] = {"step": run.step, "seconds": round(run.elapsed, 2)}
        line |= {field: dict(zip(report.names, values.tolist(), strict=True)) for field, values in groups.items()}
        line["change"] = {"epsilon": run.watermarker.epsilon, "share of it": float(report.change)}
        seen = {"loss": -float(report.objective.mean()), "misread bits": float(report.errors.mean())}
        self.write(bar, line, lr={"generator": run.optimizer.param_groups[0]["lr"]}, seen=seen)

    @torch.no_grad()
    def sample(self) -> Path:
        """A row a manipulator, each of another face."""
        run, rows, captions = self.run, [], []
        count = min(len(run.manipulators), len(run.images))
        photos, attributes = from_uint8(run.images[:count].to(run.accelerator.device)), run.attributes[:count]
        chance = torch.Generator().manual_seed(run.config.seed)
        message = torch.randint(2, (count, run.watermarker.bits), generator=chance).to(photos)
        marked = run.watermarker(photos, message)
        edits, _ = edits_of(run.manipulators, attributes, 0, torch.arange(count))
        for i, (manipulator, edit) in enumerate(zip(run.manipulators[:count], edits, strict=False)):
            forged = [manipulator(images, edit).output[i] for images in (photos, marked)]
            rows.append([photos[i], marked[i], 10 * (marked - photos)[i], *forged])
            captions.append(f"{manipulator.name}: {COLUMNS}")
        path = run.folder / "samples" / f"{run.step:06d}.png"
        save_grid(path, rows, captions=captions)
        return path

    def finish(self) -> Path:
        """Save the watermarker."""
        run = self.run
        if run.progress() >= 1 and (run.begun is None or run.watermarker.epsilon > 1.01 * run.epsilon):
            told = "no manipulator took part yet" if run.begun is None else "the bound had not fallen to epsilon yet"
            warnings.warn(f"at the end of {run.folder} {told}; give it more steps", stacklevel=2)
        folder = run.folder / "watermarker"
        if self.is_main:
            run.watermarker.epsilon = run.epsilon
            run.effective().save(folder, places=False)
            run.watermarker.eval().save_pretrained(folder)
        run.accelerator.wait_for_everyone()
        return folder

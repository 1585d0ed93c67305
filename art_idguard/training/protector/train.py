"""Algorithm 1: joint training of the perturbation generator and the prior perturbation, on accelerate.

Everything random in step t depends on (seed, t) alone, so a checkpoint needs no random state and, where the budget
is one of steps, a resumed run repeats an unbroken one bit for bit.
"""

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import fmean

from tqdm import tqdm

from art_idguard.files.grid import save_grid
from art_idguard.training.loop import Training, run_training
from art_idguard.training.protector.config import ProtectorConfig
from art_idguard.training.protector.log import look, record
from art_idguard.training.protector.run import Preloaded, ProtectorRun
from art_idguard.training.protector.setup import build_run
from art_idguard.training.protector.step import train_step


def train_protector(
    config: ProtectorConfig,
    *,
    resume: bool = False,
    verbose: bool = True,
    parts: Preloaded | None = None,
    on_stop: Callable[[str], object] = warnings.warn,
) -> Path:
    """Train a protector by Algorithm 1 and save it; returns the folder of the finished protector.

    Ctrl-C or SIGTERM ends it after the step in hand: the checkpoint and the protector as it is then are saved.

    Args:
        config: the settings; see `ProtectorConfig`.
        resume: go on from the checkpoint in `config.output`; without one, start anew.
        verbose: show progress bars.
        parts: faces, manipulators and the protector to go on from (it is changed), in place of those that the
            settings name.
        on_stop: told when the training has been stopped, and at which step.

    Raises:
        IDGuardError: unusable settings, data or weights, or a loss that is not finite.
    """

    def start() -> ProtectorTraining:
        run = build_run(config, resume=resume, parts=parts, verbose=verbose)
        return ProtectorTraining(run, title="training", verbose=verbose)

    return run_training(config, start, on_stop)


class ProtectorTraining(Training[ProtectorRun]):
    """Algorithm 1 in the loop of every training."""

    seen: Mapping[str, float] = {}
    """What the latest sample has shown, over all manipulators."""

    def train_step(self, *, progress: float) -> None:
        """One step of Algorithm 1."""
        self.report = train_step(self.run, progress=progress)

    def log(self, bar: tqdm, *, is_last: bool) -> None:
        """A line every `log_every` steps; where a sample is due, with what the protector does to it."""
        if not (self.is_logged(is_last=is_last) or self.is_sampled(is_last=is_last)):
            return
        line = record(self.run, self.report)
        if self.is_main and self.is_sampled(is_last=is_last):
            self.latest = look(self.run)
            line |= self.latest.effect
            self.seen = {name: fmean(values.values()) for name, values in self.latest.effect.items()}
        rates = (group["lr"] for group in self.run.optimizer.param_groups)
        seen = {"loss": fmean(line["objective"].values()), **self.seen}
        self.write(bar, line, lr=dict(zip(("generator", "prior"), rates, strict=True)), seen=seen)

    def sample(self) -> Path:
        """The pictures of the latest look."""
        run, sample = self.run, self.latest
        save_grid(path := run.folder / "samples" / f"{run.step:06d}.png", sample.rows, captions=sample.captions)
        return path

    def finish(self) -> Path:
        """Save the protector, or the average of its weights."""
        folder = self.run.folder / "protector"
        if self.is_main:
            self.run.effective().save(folder, places=False)
            self.run.trained.eval().save_pretrained(folder)
        self.run.accelerator.wait_for_everyone()
        return folder

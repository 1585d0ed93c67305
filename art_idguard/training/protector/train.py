"""Algorithm 1: joint training of the perturbation generator and the prior perturbation, on accelerate.

Everything random in step t depends on (seed, t) alone, so a checkpoint needs no random state and, where the budget
is one of steps, a resumed run repeats an unbroken one bit for bit.
"""

import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tqdm import tqdm

from art_idguard.training.loop import any_process, run_training
from art_idguard.training.protector.config import ProtectorConfig
from art_idguard.training.protector.log import Log, save_sample
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
    start = partial(build_run, config, resume=resume, parts=parts, verbose=verbose)
    return run_training(config, start, partial(_loop, verbose=verbose), _finish, on_stop)


def _loop(run: ProtectorRun, stopped: dict[str, bool], *, verbose: bool) -> None:
    config, main = run.config, run.accelerator.is_main_process
    bar = tqdm(total=config.steps, initial=run.step, desc="training", disable=not (verbose and main))
    began, progress = time.monotonic() - run.elapsed, run.progress()
    with bar, Log(run) as log:
        while progress < 1:
            report = train_step(run, progress=progress)
            run.elapsed = time.monotonic() - began
            progress = run.progress()
            log.note(report, bar)
            last = any_process(run.accelerator, stopped["now"]) or progress >= 1
            if main and (last or run.step % config.sample_every == 0):
                save_sample(run)  # before the checkpoint, behind which a resumed run begins
            if main and (last or run.step % config.checkpoint_every == 0):
                run.save_checkpoint()
            if last:
                return


def _finish(run: ProtectorRun) -> Path:
    folder = run.folder / "protector"
    if run.accelerator.is_main_process:
        run.trained.eval().save_pretrained(folder)
    run.accelerator.wait_for_everyone()
    return folder

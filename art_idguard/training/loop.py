"""The loop of every training, in a folder of its own, from its start to an end in good order."""

import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from tqdm import tqdm

from art_idguard.files.lock import exclusive
from art_idguard.training.base import TrainingRun, make_accelerator
from art_idguard.training.config import TrainingConfig
from art_idguard.training.log import LogFile
from art_idguard.types import float32

BAR = "{desc}: step {n_fmt} of {total_fmt} {bar} {elapsed}{postfix}"
"""Of the progress bar, in tqdm's terms."""

Run = TypeVar("Run", bound=TrainingRun)


class Training(ABC, Generic[Run]):
    """The loop of every training; subclasses say what a step is, what is noted of it, and what comes of it all.

    Args:
        run: what the training consists of; at its checkpoint if it goes on.
        title: of the progress bar.
        verbose: show one.
    """

    def __init__(self, run: Run, *, title: str, verbose: bool) -> None:
        self.run, self.title, self.verbose = run, title, verbose
        self.is_main = run.accelerator.is_main_process
        self.log_file = LogFile(run.folder, step=run.step, accelerator=run.accelerator)
        self._launched = self._recorded = run.step, run.elapsed

    @abstractmethod
    def train_step(self, *, progress: float) -> None:
        """One step, at this share of the budget."""

    @abstractmethod
    def log(self, bar: tqdm, *, is_last: bool) -> None:
        """Note the step that is done."""

    @abstractmethod
    def sample(self) -> Path:
        """Save a picture of what the run has learnt; returns its file."""

    @abstractmethod
    def finish(self) -> Path:
        """Save what was trained; returns its folder."""

    def loop(self, stopped: dict[str, bool]) -> None:
        """Steps until the budget is used up or the flag "now" is set; then a last sample and a checkpoint."""
        run, config = self.run, self.run.config
        hidden = not (self.verbose and self.is_main)
        bar = tqdm(total=config.steps, initial=run.step, desc=self.title, bar_format=BAR, disable=hidden)
        self._began, progress = time.monotonic() - run.elapsed, run.progress()
        with bar, self.log_file:
            while progress < 1:
                self.train_step(progress=progress)
                self.note_time()
                progress = run.progress()
                is_last = any_process(run.accelerator, stopped["now"]) or progress >= 1
                self.log(bar, is_last=is_last)
                if self.is_main and self.is_sampled(is_last=is_last):
                    # before the checkpoint, behind which a resumed run begins
                    self.log_file.show(self.sample(), step=run.step)
                if self.is_main and (is_last or run.step % config.checkpoint_every == 0):
                    run.save_checkpoint()
                if is_last:
                    return

    def note_time(self) -> None:
        """Set the run's elapsed seconds."""
        self.run.elapsed = time.monotonic() - self._began

    def is_sampled(self, *, is_last: bool) -> bool:
        """Whether a sample is due behind the step that is done."""
        return is_last or self.run.step % self.run.config.sample_every == 0

    def is_logged(self, *, is_last: bool) -> bool:
        """Whether a line is due for the step that is done: only then, and for a sample, the device is waited for."""
        step, config = self.run.step, self.run.config
        return is_last or step % config.checkpoint_every == 0 or step % config.log_every == 0

    def write(self, bar: tqdm, record: dict[str, Any], *, lr: Mapping[str, float], seen: Mapping[str, float]) -> None:
        """Note a record with the speed since the last, and move the bar, which shows what was seen, to its step."""
        run = self.run
        steps, seconds = run.step - self._recorded[0], run.elapsed - self._recorded[1]
        self._recorded = run.step, run.elapsed
        speed = {"images_per_second": round(steps * run.config.batch_size / max(seconds, 1e-9), 2)}
        self.log_file.write(record | speed, lr=lr, speed=speed)
        facts = [f"{name} {value:.3g}" for name, value in seen.items()]
        facts += [f"{speed['images_per_second']:.3g} faces/s", f"{tqdm.format_interval(self.seconds_left())} left"]
        bar.set_postfix_str(", ".join(facts), refresh=False)
        bar.update(run.step - bar.n)

    def seconds_left(self) -> float:
        """Until the budget of steps or of minutes is used up, at the speed since the launch."""
        run, config = self.run, self.run.config
        step = (run.elapsed - self._launched[1]) / (run.step - self._launched[0])
        left = (config.steps - run.step) * step
        return left if config.minutes is None else max(0.0, min(left, 60 * config.minutes - run.elapsed))


def run_training(config: TrainingConfig, start: Callable[[], Training[Run]], on_stop: Callable[[str], object]) -> Path:
    """A whole training, in a folder of its own, that Ctrl-C and SIGTERM end in good order; returns what `finish` does.

    Args:
        config: of the run.
        start: makes the training, or finds it at its checkpoint.
        on_stop: told when the training has been stopped, and at which step.
    """
    with guest(), exclusive(_lock(config), "training"):
        training = start()
        run = training.run
        if training.is_main:
            run.effective().save(run.folder)
        if run.progress() < 1:
            with stop_signals() as stopped:
                training.loop(stopped)
        folder, progress = training.finish(), run.progress()
    if progress < 1:
        on_stop(f"training stopped at step {run.step} of {config.steps}")
    return folder


def _lock(config: TrainingConfig) -> Path | None:
    """The main process keeps the folder for all."""
    return Path(config.output) / ".lock" if make_accelerator().is_main_process else None


@contextmanager
def guest() -> Iterator[None]:
    """Torch's generators and default, and accelerate's shared state, are the program's around a training afterwards."""
    states = [AcceleratorState._shared_state, GradientState._shared_state]
    before = [dict(state) for state in states]
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices), float32():
        try:
            yield
        finally:
            for state, kept in zip(states, before, strict=True):
                state.clear()
                state.update(kept)


def any_process(accelerator: Accelerator, flag: bool) -> bool:
    """Whether any process wants to stop: they must all stop at the same step."""
    if not accelerator.use_distributed:
        return flag
    total = accelerator.reduce(torch.tensor(float(flag), device=accelerator.device), "sum")
    return bool(total > 0)


@contextmanager
def stop_signals() -> Iterator[dict[str, bool]]:
    """Ctrl-C and SIGTERM end the run after the step in hand, with a checkpoint; only a main thread gets signals."""
    stopped = {"now": False}
    main = threading.current_thread() is threading.main_thread()
    signals = (signal.SIGINT, signal.SIGTERM) if main else ()
    before = [signal.signal(s, lambda *_: stopped.update(now=True)) for s in signals]
    try:
        yield stopped
    finally:
        for s, handler in zip(signals, before, strict=True):
            signal.signal(s, handler)

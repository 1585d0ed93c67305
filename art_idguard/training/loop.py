"""Every training from its start in a folder of its own to an end in good order."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState

from art_idguard.files.lock import exclusive
from art_idguard.training.base import TrainingRun, make_accelerator
from art_idguard.training.config import TrainingConfig
from art_idguard.types import float32

Run = TypeVar("Run", bound=TrainingRun)


def run_training(
    config: TrainingConfig,
    build_run: Callable[[], Run],
    loop: Callable[[Run, dict[str, bool]], None],
    finish: Callable[[Run], Path],
    on_stop: Callable[[str], object],
) -> Path:
    """A whole training, in a folder of its own, that Ctrl-C and SIGTERM end in good order.

    Args:
        config: of the run.
        build_run: makes the run, or finds it at its checkpoint.
        loop: goes on until the budget is used up or the flag "now" is set, and saves a checkpoint then.
        finish: saves what was trained, and returns its folder.
        on_stop: told when the training has been stopped, and at which step.
    """
    with guest(), exclusive(_lock(config), "training"):
        run = build_run()
        if run.progress() < 1:
            with stop_signals() as stopped:
                loop(run, stopped)
        folder, progress = finish(run), run.progress()
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

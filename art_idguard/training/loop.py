"""What every training loop shares: the order of the faces, randomness, signals, the log."""

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import torch
from accelerate import Accelerator
from jaxtyping import Int64
from torch import Tensor

from art_idguard.files.atomic import write_text


def step_seed(seed: int, step: int) -> int:
    """A number for a step of a run, another for each."""
    return seed * 1_000_003 + step


@lru_cache(maxsize=1)
def _permutation(n: int, seed: int, epoch: int) -> Int64[Tensor, " N"]:
    return torch.randperm(n, generator=torch.Generator().manual_seed(step_seed(seed, epoch)))


def batch_index(step: int, n: int, batch_size: int, seed: int) -> Int64[Tensor, " B"]:
    """The faces of a step: every epoch is a new order, of which the incomplete last batch is dropped."""
    epoch, i = divmod(step, n // batch_size)
    return _permutation(n, seed, epoch)[i * batch_size : (i + 1) * batch_size]


def seed_step(seed: int, step: int, process: int) -> None:
    """Make all that is random in a step depend on (seed, step) and the process alone."""
    torch.manual_seed(step_seed(seed, step) * 1009 + process)


def anywhere(accelerator: Accelerator, flag: bool) -> bool:
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


class LogFile:
    """JSON lines in log.jsonl, and the same in TensorBoard; the main process writes, the others do not.

    Args:
        folder: of the run.
        step: that the run goes on from; what was noted of later ones, by a run that was killed, is left out.
        enabled: whether to write at all.
    """

    def __init__(self, folder: Path, *, step: int, enabled: bool) -> None:
        self.folder, self.step, self.enabled = folder, step, enabled

    def __enter__(self) -> Self:
        self.lines, self.writer = None, None
        if self.enabled:
            self.lines = _cut(self.folder / "log.jsonl", self.step).open("a")
            with suppress(ImportError):  # a bare training machine may lack tensorboard
                from torch.utils.tensorboard import SummaryWriter

                self.writer = SummaryWriter(str(self.folder / "tensorboard"), purge_step=self.step + 1)
        return self

    def write(self, record: dict[str, Any]) -> None:
        """Note a step; TensorBoard shows the entries that are groups of numbers."""
        if self.lines is None:
            return
        self.lines.write(json.dumps(record) + "\n")
        self.lines.flush()
        if self.writer is not None:
            for field, group in record.items():
                for name, value in group.items() if isinstance(group, dict) else ():
                    self.writer.add_scalar(f"{field}/{name}", value, record["step"])

    def __exit__(self, *_: object) -> None:
        for file in (self.lines, self.writer):
            if file is not None:
                file.close()


def _cut(path: Path, step: int) -> Path:
    """The log up to a step; the last line of a killed run may be half a line."""
    if path.is_file():
        lines = path.read_text().splitlines(keepends=True)
        whole = (line for line in lines if line.endswith("\n"))
        write_text(path, "".join(line for line in whole if json.loads(line)["step"] <= step))
    return path

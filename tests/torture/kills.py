"""Command lines that end at any moment: by a signal after some time, or before the nth change of their folder.

They run in forks of a warm process without threads, which saves the imports; some in a new interpreter.
"""

import atexit
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from functools import cache
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from random import Random
from threading import RLock
from typing import Any, NamedTuple

from PIL import Image
from tqdm import tqdm

from art_idguard.files.atomic import OF_SAFETENSORS, OURS

LIMIT = 120  # seconds; what takes longer hangs
SIGNALS = (signal.SIGKILL,) * 8 + (signal.SIGTERM, signal.SIGINT)
IMPORTED = (
    *("cvxpy", "torch._dynamo", "torch.utils.tensorboard", "art_idguard.evaluation.benchmark"),
    *("art_idguard.photos.batch", "art_idguard.training.manipulator.hardening", "art_idguard.training.protector.train"),
)
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.truncate", "os.chmod")
"""Audit events; so is "open" for writing. Each comes before the change itself."""


class Kill(NamedTuple):
    """A signal after so many seconds, or before the change of this number."""

    signal: int
    seconds: float = LIMIT
    change: int = 0


class Command(NamedTuple):
    """A command line, and what ends it early."""

    words: tuple[str, ...]
    folder: Path
    """Whose changes count."""
    kill: Kill | None = None
    prepare: Callable[[], object] | None = None
    """Called in the process first; None: a new interpreter, in which no changes are counted."""


class Ended(NamedTuple):
    """How a command line ended; the code of a signal is negative."""

    code: int
    seconds: float
    changes: int
    out: str
    err: str


def run(*commands: Command) -> list[Ended]:
    """Run command lines at the same time until all have ended.

    Raises:
        AssertionError: one of them hangs, shows a traceback, or ends with a code that is not documented.
    """
    ended = _warm().submit(_run, commands).result()
    for command, found in zip(commands, ended, strict=True):
        said = f"{' '.join(command.words)}\n{command.kill}: code {found.code}\n{found.out}\n{found.err}"
        assert found.seconds < LIMIT, f"hangs: {said}"
        assert "Traceback" not in found.err, said
        assert "please report" not in found.out + found.err, said
        assert found.code in ((0, 1, 130, -command.kill.signal) if command.kill else (0, 1)), said
    return ended


def random_kill(random: Random, whole: Ended, *, share: float = 1.0, fresh: bool = False) -> Kill:
    """At any moment, or before any change, of a command line that takes this share of a whole one.

    A new interpreter needs time for its imports, in which Ctrl-C is Python's own.
    """
    by = random.choice(SIGNALS)
    seconds = random.uniform(0, 1.1 * share * whole.seconds)
    change = random.randint(1, max(1, round(1.05 * share * whole.changes)))
    if fresh:
        return Kill(signal.SIGKILL, seconds=random.uniform(0, 8) + seconds)
    if random.random() < 0.4:
        return Kill(by, seconds=seconds + (by == signal.SIGINT))
    return Kill(by, change=change)


def leftovers(folder: Path) -> list[Path]:
    """The temporary files in a folder and below it."""
    return [path for path in folder.rglob(".*") if OURS.fullmatch(path.name) or OF_SAFETENSORS.fullmatch(path.name)]


def temporary_folder() -> Path:
    """One that lasts as long as this process."""
    folder = Path(tempfile.mkdtemp(prefix="torture-"))
    atexit.register(shutil.rmtree, folder)
    return folder


@cache
def _warm() -> ProcessPoolExecutor:
    """A process that is started anew: a fork of the caller's would wait for ever for locks that its threads hold."""
    return ProcessPoolExecutor(1, get_context("spawn"), initializer=_import_all)


def _import_all() -> None:
    """What a command imports when it runs."""
    for name in IMPORTED:
        import_module(name)
    Image.init()


def _run(commands: Sequence[Command]) -> list[Ended]:
    with tempfile.TemporaryDirectory() as place:
        logs = [Path(place) / f"{i}" for i in range(len(commands))]
        began = time.monotonic()
        running = {_start(*pair): i for i, pair in enumerate(zip(commands, logs, strict=True))}
        ends: dict[int, tuple[int, float]] = {}
        killed = set()
        while running:
            time.sleep(0.002)
            seconds = time.monotonic() - began
            for pid, i in list(running.items()):
                kill = commands[i].kill or Kill(signal.SIGKILL)
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    ends[i] = os.waitstatus_to_exitcode(status), seconds
                    del running[pid]
                elif seconds > LIMIT:
                    os.killpg(pid, signal.SIGKILL)
                elif seconds > kill.seconds and i not in killed:
                    killed.add(i)
                    os.killpg(pid, kill.signal)
        return [Ended(*ends[i], *_said(log)) for i, log in enumerate(logs)]


def _said(log: Path) -> tuple[int, str, str]:
    changes, out, err = (log.with_suffix(f".{kind}") for kind in ("changes", "out", "err"))
    count = int(changes.read_text()) if changes.exists() else 0
    return count, out.read_text(errors="replace"), err.read_text(errors="replace")


def _start(command: Command, log: Path) -> int:
    """The process id of a fork, which leads a group of its own."""
    streams = {handle: log.with_suffix(kind).open("wb") for handle, kind in ((1, ".out"), (2, ".err"))}
    if pid := os.fork():
        with suppress(OSError):  # the child may have done it
            os.setpgid(pid, pid)
        return pid
    code = 1
    try:
        os.setpgid(0, 0)
        for handle, stream in streams.items():
            os.dup2(stream.fileno(), handle)
        if command.prepare is None:
            os.execv(sys.executable, [sys.executable, "-m", "art_idguard.cli", *command.words])
        code = _main(command, log.with_suffix(".changes"))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _main(command: Command, log: Path) -> int:
    import torch

    from art_idguard import cli

    assert command.prepare is not None
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    tqdm.set_lock(RLock())  # not one that processes share, which a kill would leave behind
    changes, place, kill = 0, str(command.folder), command.kill

    def count(event: str, given: tuple[Any, ...]) -> None:
        nonlocal changes
        writes = event in CHANGES or (event == "open" and given[2] & (os.O_WRONLY | os.O_RDWR))
        if writes and str(given[0]).startswith(place):
            changes += 1
            if kill and changes == kill.change:
                os.kill(os.getpid(), kill.signal)

    command.prepare()
    sys.addaudithook(count)
    try:
        code = cli.main(command.words)
    except SystemExit as error:
        code = int(error.code or 0)
    log.write_text(f"{changes}")
    return code

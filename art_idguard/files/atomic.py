"""Files that are whole or absent."""

import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from contextvars import ContextVar
from functools import reduce
from operator import or_
from pathlib import Path

from filelock import FileLock

OURS = re.compile(r"\.[0-9a-f]{16}\.tmp")
"""Names of the temporary files of `replacing`."""

OF_SAFETENSORS = re.compile(r"\.tmp[0-9A-Za-z]{6}")
"""Names of those of safetensors, which other programs' may have, too."""


_ALONE_IN: ContextVar[Path | None] = ContextVar("_ALONE_IN", default=None)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it when the block ends well and removed when not.

    A kill in between leaves what was at `path` before, and the temporary file, which the next to write in the folder
    removes. It is new and has a name that nobody can guess, so that a link which lies in a shared folder leads nowhere.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(path.parent, OURS)
    with locks(path.parent) as lock:
        if path.parent.resolve() != _ALONE_IN.get():
            lock("LOCK_SH")
        temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        try:
            yield temporary
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def remove_abandoned(folder: Path, *names: re.Pattern[str]) -> None:
    """Remove the temporary files of these names that killed writers left, unless somebody writes in the folder now."""
    with locks(folder) as lock:
        if lock("LOCK_EX", "LOCK_NB"):
            for path in folder.iterdir():
                ours = any(name.fullmatch(path.name) for name in names)
                if ours and path.is_file() and not path.is_symlink():
                    with suppress(OSError):  # another user's, in a folder such as /tmp
                        path.unlink(missing_ok=True)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Wait until nobody writes in the folder by `replacing`, then keep all others out; kill -9 ends this, too."""
    remove_abandoned(folder, OURS, OF_SAFETENSORS)
    with locks(folder) as lock, _windows_lock(folder):
        lock("LOCK_EX")
        token = _ALONE_IN.set(folder.resolve())
        try:
            yield
        finally:
            _ALONE_IN.reset(token)


def _windows_lock(folder: Path) -> AbstractContextManager[object]:
    """There nobody can open a folder, and filelock removes its file, which it leaves on other systems."""
    try:
        import fcntl  # noqa: F401
    except ImportError:
        return FileLock(folder / ".lock")
    return nullcontext()


@contextmanager
def locks(path: Path) -> Iterator[Callable[..., bool]]:
    """What locks a file or folder, by names of flock's operations, and says whether it could.

    The lock ends with the block, or with the process. A system, or a file system, without locks never gives one.
    """
    try:
        import fcntl

        handle = os.open(path, os.O_RDONLY)
    except (ImportError, OSError):
        yield lambda *operations: False
        return

    def lock(*operations: str) -> bool:
        try:
            fcntl.flock(handle, reduce(or_, (getattr(fcntl, operation) for operation in operations)))
        except OSError:
            return False
        return True

    try:
        yield lock
    finally:
        lock("LOCK_UN")  # closing alone would leave it to a process that was forked meanwhile
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write a text file; it is whole or absent."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")

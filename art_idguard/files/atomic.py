"""Files that are whole or absent."""

import contextlib
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_TEMPORARY = re.compile(r"\.([0-9a-f]{16}\.tmp|tmp[0-9A-Za-z]{6})")
"""Names of the temporary files of `replacing` and of safetensors."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it when the block ends well and removed when not.

    A kill in between leaves what was at `path` before. The temporary file is new and has a name that nobody can guess,
    so that a link which lies in a shared folder leads nowhere.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Wait until no other block of this kind is at work in the folder, then keep them out; kill -9 ends the lock, too.

    What killed writers left there before is removed when the block ends well.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        _lock(handle, "LOCK_EX")
        abandoned = [path for path in folder.iterdir() if _TEMPORARY.fullmatch(path.name) and path.is_file()]
        yield
        for path in abandoned:
            path.unlink(missing_ok=True)
    finally:
        _lock(handle, "LOCK_UN")  # closing alone would leave it to a process that was forked meanwhile
        os.close(handle)


def _lock(handle: int, operation: str) -> None:
    with contextlib.suppress(ImportError, OSError):  # a system, or a file system, without locks
        import fcntl

        fcntl.flock(handle, getattr(fcntl, operation))


def write_text(path: Path, text: str) -> None:
    """Write a text file; it is whole or absent."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")

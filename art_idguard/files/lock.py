"""One process at a time where two would mix their results."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from art_idguard.errors import IDGuardError


@contextmanager
def exclusive(path: Path | None, work: str) -> Iterator[None]:
    """Keep others out; the lock is gone with this process, even after kill -9.

    Args:
        path: of the lock, beside what is worked on; None: there is nothing to share.
        work: what is done there, for the message.

    Raises:
        IDGuardError: another process is at it.
    """
    if path is None:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise IDGuardError(f"another {work} is at work in {path.parent}; choose another output folder") from None
    except (OSError, NotImplementedError):  # a file system without locks
        pass
    try:
        yield
    finally:
        lock.release()

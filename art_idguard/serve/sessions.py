"""The pictures that a served page has on disk, and how they go again.

An upload and the file to download lie in a folder that only this user can read. They are deleted when their
page is closed or gets another photo, what was made of a photo also when that is protected again; after
`KEPT_SECONDS` at the latest, and with the server. Gradio gives the same photo in two pages one place: it goes with the
last of them.
"""

import os
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from threading import Lock
from typing import Self

KEPT_SECONDS = 3600
UNTAKEN_SECONDS = 60
"""How long an upload waits for a page to take it."""

MAX_KEPT = 1 << 30
"""Bytes of all pictures together."""


class SessionFiles:
    """Which pictures in `folder` belong to which session (an open page); each has a folder of its own in there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: defaultdict[str | None, set[Path]] = defaultdict(set)
        self._closed: set[str | None] = set()
        self._lock = Lock()

    @classmethod
    @contextmanager
    def temporary(cls) -> Iterator[Self]:
        """A new folder, where Gradio too keeps its files; deleted at the end."""
        before = os.environ.get("GRADIO_TEMP_DIR")
        with TemporaryDirectory(prefix="art-idguard-") as folder:
            try:
                os.environ["GRADIO_TEMP_DIR"] = str(Path(folder).resolve())
                yield cls(Path(folder).resolve())
            finally:
                del os.environ["GRADIO_TEMP_DIR"]
                if before is not None:
                    os.environ["GRADIO_TEMP_DIR"] = before

    def keep(self, session: str | None, path: Path) -> Path:
        """`path`, which goes with the session: at once, if its page was closed meanwhile."""
        with self._lock:
            self._files[session].add(path)
        if session in self._closed:
            self.forget(session)
        return path

    def has(self, session: str | None, path: Path) -> bool:
        """Whether a file still belongs to a session: its page was not closed and got no other photo."""
        return path in self._files.get(session, ())

    def close(self, session: str | None) -> None:
        """Delete the files of a session, now and whenever it still makes some."""
        self._closed.add(session)
        self.forget(session)

    def new(self, session: str | None, name: str) -> Path:
        """A path for a new file of a session."""
        return self.keep(session, Path(mkdtemp(dir=self.folder)) / name)

    def delete(self, path: Path) -> None:
        """Delete a file, and its folder where no other is in it: Gradio keeps one for each content."""
        if path.parent.parent == self.folder:  # a client may name another place
            with suppress(OSError):
                path.unlink(missing_ok=True)
                path.parent.rmdir()

    def forget(self, session: str | None, *, but: Path | None = None) -> None:
        """Delete the files of a session but one, and all that is old."""
        with self._lock:
            others = set[Path]().union(*(files for name, files in self._files.items() if name != session))
            mine = self._files.pop(session, set())
        for path in mine - others - {but}:
            self.delete(path)
        self._delete_old()

    def have_room(self) -> bool:
        """Whether one more upload may come."""
        self._delete_old()
        return sum(max(size, 4096) for _, size in self._found()) < MAX_KEPT  # 4096: an empty one takes room as well

    def _delete_old(self) -> None:
        with self._lock:
            taken = set[Path]().union(*self._files.values())
        for path, _ in self._found():
            with suppress(FileNotFoundError):  # another session may delete the same
                if time.time() - path.stat().st_mtime > (KEPT_SECONDS if path in taken else UNTAKEN_SECONDS):
                    path.unlink()

    def _found(self) -> Iterator[tuple[Path, int]]:
        """Each file in the folder, and its size."""
        for folder, _, names in os.walk(self.folder):
            for path in (Path(folder, name) for name in names):
                with suppress(FileNotFoundError):
                    yield path, path.stat().st_size

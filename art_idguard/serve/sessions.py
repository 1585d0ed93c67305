"""The pictures that a served page has on disk, and how they go again.

An upload and the file to download lie in a folder that only this user can read. They are deleted when their
page is closed or gets another photo, after `KEPT_SECONDS` at the latest, and with the server.
"""

import os
import shutil
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Self

KEPT_SECONDS = 3600


class SessionFiles:
    """Which pictures in `folder` belong to which session (an open page); each has a folder of its own in there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: defaultdict[str | None, list[Path]] = defaultdict(list)
        self._closed: set[str | None] = set()

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
        self._files[session].append(path)
        if session in self._closed:
            self.forget(session)
        return path

    def is_closed(self, session: str | None) -> bool:
        """Whether its page was closed."""
        return session in self._closed

    def close(self, session: str | None) -> None:
        """Delete the files of a session, now and whenever it still makes some."""
        self._closed.add(session)
        self.forget(session)

    def new(self, session: str | None, name: str) -> Path:
        """A path for a new file of a session."""
        return self.keep(session, Path(mkdtemp(dir=self.folder)) / name)

    def delete(self, path: Path) -> None:
        """Delete a file with its folder."""
        if path.parent.parent == self.folder:  # a client may name another place
            shutil.rmtree(path.parent, ignore_errors=True)

    def forget(self, session: str | None) -> None:
        """Delete the files of a session, and all that is old, such as uploads that were broken off."""
        for path in self._files.pop(session, []):
            self.delete(path)
        with suppress(FileNotFoundError):  # another session may delete the same
            for path in self.folder.rglob("*"):
                if path.is_file() and time.time() - path.stat().st_mtime > KEPT_SECONDS:
                    path.unlink()

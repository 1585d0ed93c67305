"""CSV with a row for each photo: on the disk before the next photo is done; a rerun adds to it."""

import csv
import io
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock

from art_idguard.errors import IDGuardError
from art_idguard.files.names import cell

SKIPPED = "skipped: "
"""How the error of a photo begins that has a result already."""


def skipped(target: Path) -> str:
    """The error of a photo whose result is left as it is."""
    return f"{SKIPPED}{target} is there already, made of this photo with these settings; --overwrite makes it anew"


class Outcome(NamedTuple):
    """What became of one photo; what was not measured is None. The fields are the columns of the CSV."""

    file: str
    output: str
    faces: int | None = None
    """0: protected as a whole."""
    levels: int | None = None
    """Largest difference of the written file from the photo, in 8-bit levels."""
    verdict: str | None = None
    """On the largest face in the written file, in words; see `verdict.verdict`."""
    l2_face: float | None = None
    """Of that face as the judging manipulators forge it: the smallest."""
    similarity: float | None = None
    """Identity similarity of the forgeries of the photo and of the file: the largest."""
    seconds: float | None = None
    error: str = ""
    """Why there is no result, or why it was left as it was."""

    @property
    def failed(self) -> bool:
        """Whether there is no result."""
        return bool(self.error) and not self.error.startswith(SKIPPED)


class PhotoTable:
    """The rows of a CSV file with the columns of `Outcome`; a photo that was tried again has its last row last.

    Several runs may add to one file at the same time (a hidden .lock lies beside it). Text is in it as `names.cell` has
    it, so a row is a line.

    Args:
        path: of the file; a row that a kill has cut off is removed with the next one. None: no file.

    Raises:
        IDGuardError: the file is there and is no such table.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        if path is None:
            return
        if path.exists() and not path.is_file():
            raise IDGuardError(f"{path} is no file; choose another for --csv")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(path.with_name(f".{path.name}.lock"))
        with self._lock:
            content = path.read_bytes() if path.exists() else b""
            rows = _rows(path, content)
            if not rows:
                self._append(Outcome._fields)
        self._done = {row[0] for row in rows if not row[-1] or row[-1].startswith(SKIPPED)}

    def add(self, outcome: Outcome) -> None:
        """Append a row."""
        if self.path is not None:
            self._append(outcome)

    def lacks(self, file: str) -> bool:
        """Whether there is a table and no row in it of a photo that was protected."""
        return self.path is not None and cell(file) not in self._done

    def _append(self, values: tuple[object, ...]) -> None:
        assert self.path is not None
        row = io.StringIO()
        csv.writer(row, lineterminator="\n").writerow(map(cell, values))
        with self._lock, self.path.open("a+b") as file:
            end = file.tell()
            while end and file.seek(end - 1) is not None and file.read(1) != b"\n":  # a kill cut this row off
                end -= 1
            file.truncate(end)
            file.write(row.getvalue().encode())


def is_table(path: Path) -> bool:
    """Whether a file that can be read begins as a `PhotoTable` does."""
    header = ",".join(Outcome._fields).encode()
    with suppress(OSError), path.open("rb") as file:
        return file.read(len(header)) == header
    return False


def _rows(path: Path, content: bytes) -> list[list[str]]:
    """The rows of a table, with its header; none of one that is empty or was cut off in its header."""
    header = ",".join(Outcome._fields)
    if header.encode().startswith(content):
        return []
    whole = content[: content.rfind(b"\n") + 1].decode(errors="replace")
    try:
        rows = list(csv.reader(io.StringIO(whole, newline=""), strict=True))
    except csv.Error as error:
        raise IDGuardError(f"{path} is no table ({error}); choose another file for --csv") from error
    if not rows or rows[0] != list(Outcome._fields):
        found = f"has the columns {', '.join(rows[0])}" if rows and rows[0] else "is no table"
        raise IDGuardError(f"{path} {found}, expected {header}; choose another file for --csv")
    return [row for row in rows if len(row) == len(Outcome._fields)]

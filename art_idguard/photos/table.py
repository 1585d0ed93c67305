"""CSV with a row for each photo: on the disk before the next photo is done; a rerun adds to it."""

import csv
import io
import os
from pathlib import Path
from typing import NamedTuple

from art_idguard.errors import IDGuardError

SKIPPED = "skipped: "
"""How the error of a photo begins that has a result already."""


class Outcome(NamedTuple):
    """What became of one photo; what was not measured is None. The fields are the columns of the CSV."""

    file: str
    output: str
    faces: int | None = None
    """0: protected as a whole."""
    levels: int | None = None
    """Largest difference of the written file from the photo, in 8-bit levels."""
    l2_face: float | None = None
    """Of the largest face in the written file, as the judging manipulator forges it."""
    similarity: float | None = None
    """Identity similarity of those two forgeries."""
    seconds: float | None = None
    error: str = ""
    """Why there is no result, or why it was left as it was."""


class PhotoTable:
    """The rows of a CSV file with the columns of `Outcome`; a photo that was tried again has its last row last.

    Args:
        path: of the file; a row that a kill has cut off is removed. None: no file.

    Raises:
        IDGuardError: the file is there and is no such table.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        if path is None:
            return
        content = path.read_bytes() if path.is_file() else b""
        whole = content[: content.rfind(b"\n") + 1]
        try:
            header, *rows = list(csv.reader(io.StringIO(whole.decode(errors="replace")))) or [list(Outcome._fields)]
        except csv.Error:
            header = []
        cut_off = ",".join(Outcome._fields).encode().startswith(content)
        if header != list(Outcome._fields) or not (whole or cut_off):
            found = f"has the columns {', '.join(header)}" if whole and header else "is no table"
            raise IDGuardError(f"{path} {found}, expected {', '.join(Outcome._fields)}; choose another file for --csv")
        self._done = {row[0] for row in rows if row and (not row[-1] or row[-1].startswith(SKIPPED))}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.truncate(path, len(whole))
        if not whole:
            self._append(Outcome._fields)

    def add(self, outcome: Outcome) -> None:
        """Append a row."""
        if self.path is not None:
            self._append(outcome)

    def lacks(self, file: str) -> bool:
        """Whether there is a table and no row in it of a photo that was protected."""
        return self.path is not None and file not in self._done

    def _append(self, row: tuple[object, ...]) -> None:
        assert self.path is not None
        with self.path.open("a", newline="", encoding="utf-8", errors="surrogateescape") as file:
            csv.writer(file, lineterminator="\n").writerow(row)

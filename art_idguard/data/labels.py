"""Tables beside pictures: which picture has which labels, and which are in a split; CSV, and CelebA's own text."""

import csv
import io
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from os.path import basename, splitext
from pathlib import Path
from typing import NamedTuple, TypeVar

from tqdm import tqdm

from art_idguard.errors import IDGuardError

SPLITS = ("train", "val", "test")
"""In the order of the numbers in CelebA's list_eval_partition.txt."""

Labels = list[float]
_VALUES = {"0": 0.0, "1": 1.0, "-1": 0.0, "0.0": 0.0, "1.0": 1.0, "-1.0": 0.0}
Value = TypeVar("Value")


def require_split(source: Path, split: str, known: Sequence[str]) -> None:
    """Raises IDGuardError where `split` is none of those that the source has."""
    if split not in known:
        raise IDGuardError(f"{source} has no split {split!r}; choose from: {', '.join(known)}")


def tell(text: str) -> None:
    """A line on standard error on how data is read; no warning, for it may well be meant so."""
    tqdm.write(f"art-idguard: {text}", file=sys.stderr)


def by_picture(table: Path, rows: Mapping[str, Value], names: Sequence[str], *, complete: bool) -> dict[int, Value]:
    """What rows say by the picture's place in `names`.

    A row has the picture's path or, where no other has the same, its file name; where not all must be there
    (`complete`) another suffix will do, for CelebA's site has its pictures as .png, too.

    Raises:
        IDGuardError: a row may mean several pictures, two rows mean one, or (where `complete`) one means none.
    """
    by_path, by_name, by_stem = defaultdict(list), defaultdict(list), defaultdict(list)
    for i, name in enumerate(names):  # of 200,000 pictures, for which Path is slow
        by_path[name].append(i)
        by_name[basename(name)].append(i)
        by_stem[splitext(basename(name))[0]].append(i)
    found: dict[int, tuple[str, Value]] = {}
    for file, value in rows.items():
        places = by_path.get(file) or by_name.get(file) or []
        if not complete:
            places = places or by_stem.get(splitext(file)[0], [])
        if len(places) > 1:
            raise IDGuardError(
                f"{table} lists {file}, which may be any of {', '.join(names[i] for i in places[:3])}; "
                "write each picture's path inside the data set, and give no two the same"
            )
        if complete and not places:
            raise IDGuardError(f"{table} lists {file}, which is not in {table.parent}; put it there or delete the row")
        for place in places:
            if place in found:
                raise IDGuardError(
                    f"{table} lists {names[place]} twice, as {found[place][0]} and as {file}; delete one of the rows"
                )
            found[place] = file, value
    return {place: value for place, (_, value) in found.items()}


def csv_labels(path: Path, attributes: Sequence[str]) -> dict[str, Labels]:
    """The labels by file, from a table with the columns file and attributes, as 0/1 or -1/1.

    Raises:
        IDGuardError: the file is no CSV in UTF-8, a column or label is missing, or a file is listed twice.
    """
    header, *rows = _lines(path) or [_Line(1, [])]
    return _labels(path, header.cells, rows, attributes)


def celeba_labels(path: Path, attributes: Sequence[str]) -> dict[str, Labels]:
    """The same from CelebA's own text, a count, the names, then a file and values a line; or from Kaggle's CSV."""
    header, *rows = _lines(path)[path.suffix == ".txt" :] or [_Line(1, [])]
    names = header.cells if path.suffix == ".txt" else header.cells[1:]
    return _labels(path, ["file", *names], rows, attributes)


def celeba_partition(path: Path) -> dict[str, str]:
    """The split of each file, from CelebA's text, a file and 0, 1 or 2 a line; or from Kaggle's CSV.

    Raises:
        IDGuardError: the file is no table in UTF-8, a line is anything else, or a file is listed twice.
    """
    found: dict[str, str] = {}
    for line, cells in _lines(path)[path.suffix == ".csv" :]:  # which begins with its columns' names
        if len(cells) != 2 or cells[1] not in ("0", "1", "2"):
            raise IDGuardError(
                f"{path}, line {line}: expected a file and 0 (train), 1 (val) or 2 (test), found {' '.join(cells)!r}"
            )
        _require_new(path, line, cells[0], found)
        found[cells[0]] = SPLITS[int(cells[1])]
    return found


class _Line(NamedTuple):
    number: int
    cells: list[str]


def _lines(path: Path) -> list[_Line]:
    """The lines of a table that say something: comma-separated in .csv, else parted by spaces."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # Excel begins with a byte order mark
        if path.suffix == ".csv":
            reader = csv.reader(io.StringIO(text, newline=""), strict=True)
            lines = [_Line(reader.line_num, [cell.strip() for cell in row]) for row in reader]
        else:
            lines = [_Line(i, line.split()) for i, line in enumerate(text.splitlines(), start=1)]
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise IDGuardError(f"{path} is no table (line {line}: {error}); save it as text in UTF-8") from error
    except csv.Error as error:
        raise IDGuardError(f"{path} is no table (line {reader.line_num}: {error}); mend that line") from error
    except OSError as error:
        raise IDGuardError(f"cannot read the table {path}: {error.strerror}") from error
    return [line for line in lines if any(line.cells)]


def _labels(path: Path, columns: Sequence[str], rows: Iterable[_Line], attributes: Sequence[str]) -> dict[str, Labels]:
    if absent := {"file", *attributes} - set(columns):
        raise IDGuardError(f"{path} lacks the columns {', '.join(sorted(absent))}")
    if twice := sorted(name for name in ("file", *attributes) if columns.count(name) > 1):
        raise IDGuardError(f"{path} has the columns {', '.join(twice)} twice; delete the wrong ones")
    found: dict[str, Labels] = {}
    for line, cells in rows:
        row = dict(zip(columns, cells, strict=False))
        file = row.get("file", "")
        for name in attributes:
            if row.get(name) not in _VALUES:
                raise IDGuardError(
                    f"{path}, row of {file!r}: {name} is {row.get(name, '')!r}, expected 0/1 or -1/1 (line {line})"
                )
        if len(cells) != len(columns):
            raise IDGuardError(
                f"{path}, line {line}: expected {len(columns)} cells as in the header, found {len(cells)}"
            )
        _require_new(path, line, file, found)
        found[file] = [_VALUES[row[name]] for name in attributes]
    return found


def _require_new(path: Path, line: int, file: str, found: Mapping[str, object]) -> None:
    if file in found:
        raise IDGuardError(f"{path}, line {line}: lists {file} a second time; delete one of the rows")

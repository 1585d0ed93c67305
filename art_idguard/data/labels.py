"""Tables beside pictures: which picture has which labels (CSV, CelebA's own text), and which are in a split."""

import csv
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from art_idguard.errors import IDGuardError

SPLITS = ("train", "val", "test")
"""In the order of the numbers in CelebA's list_eval_partition.txt."""

CELEBA_SEED, CELEBA_TEST = 1234, 1999  # StarGAN's split, for CelebA without its partition
_VALUES = {"0": 0.0, "1": 1.0, "-1": 0.0, "0.0": 0.0, "1.0": 1.0, "-1.0": 0.0}


def require_split(source: Path, split: str, known: Sequence[str]) -> None:
    """Raises IDGuardError where `split` is none of those that the source has."""
    if split not in known:
        raise IDGuardError(f"{source} has no split {split!r}; choose from: {', '.join(known)}")


def by_picture(
    table: Path, rows: Mapping[str, list[float]], names: Sequence[str], *, complete: bool
) -> dict[int, list[float]]:
    """The labels by the picture's place in `names`; a row has its path or, where no other has the same, its file name.

    Raises:
        IDGuardError: a row may mean several pictures, or (where `complete`) means none.
    """
    by_path, by_name = defaultdict(list), defaultdict(list)
    for i, name in enumerate(names):
        by_path[name].append(i)
        by_name[Path(name).name].append(i)
    found = {}
    for file, labels in rows.items():
        places = by_path.get(file) or by_name.get(file, [])
        if len(places) > 1:
            raise IDGuardError(
                f"{table} lists {file}, which may be any of {', '.join(names[i] for i in places[:3])}; "
                "write each picture's path inside the data set, and give no two the same"
            )
        if complete and not places:
            raise IDGuardError(f"{table} lists {file}, which is not in {table.parent}; put it there or delete the row")
        for place in places:
            found[place] = labels
    return found


def csv_labels(path: Path, attributes: Sequence[str]) -> dict[str, list[float]]:
    """The labels by file, from a table with the columns file and attributes, as 0/1 or -1/1.

    Raises:
        IDGuardError: the file is no CSV in UTF-8, or a column or label is missing.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:  # Excel begins with a byte order mark
            rows = csv.DictReader(file)
            _require_columns(path, rows.fieldnames or (), attributes)
            return {row["file"]: _labels(path, row, attributes) for row in rows}
    except (UnicodeDecodeError, csv.Error) as error:
        raise IDGuardError(f"{path} is no table ({error}); save it as comma-separated text in UTF-8") from error


def celeba_labels(path: Path, attributes: Sequence[str]) -> dict[str, list[float]]:
    """The same from CelebA's own text: a count, the names, then a file and -1/1 values a line."""
    _, names, *rows = [*path.read_text().splitlines(), "", ""]
    columns = ["file", *names.split()]
    _require_columns(path, columns, attributes)
    cells = (dict(zip(columns, row.split(), strict=False)) for row in rows if row.strip())
    return {c["file"]: _labels(path, c, attributes) for c in cells}


def celeba_part(path: Path, split: str, attributes: Sequence[str]) -> dict[str, list[float]]:
    """Those of a split: by the list_eval_partition.txt beside the text or, without one, by StarGAN's rule."""
    labels, partition = celeba_labels(path, attributes), path.with_name("list_eval_partition.txt")
    if partition.is_file():
        require_split(path.parent, split, SPLITS)
        rows = [line.split() for line in partition.read_text().splitlines()]
        files = [row[0] for row in rows if row[1:] == [str(SPLITS.index(split))]]
    else:
        require_split(path.parent, split, ("train", "test"))
        files = list(labels)
        random.Random(CELEBA_SEED).shuffle(files)
        files = files[:CELEBA_TEST] if split == "test" else files[CELEBA_TEST:]
    return {file: labels[file] for file in files if file in labels}


def _require_columns(path: Path, columns: Iterable[str], attributes: Sequence[str]) -> None:
    if absent := {"file", *attributes} - set(columns):
        raise IDGuardError(f"{path} lacks the columns {', '.join(sorted(absent))}")


def _labels(path: Path, row: Mapping[str, Any], attributes: Sequence[str]) -> list[float]:
    cells = {name: (row.get(name) or "").strip() for name in attributes}  # a short row has None
    for name, cell in cells.items():
        if cell not in _VALUES:
            raise IDGuardError(f"{path}, row of {row['file']!r}: {name} is {cell!r}, expected 0/1 or -1/1")
    return [_VALUES[cell] for cell in cells.values()]

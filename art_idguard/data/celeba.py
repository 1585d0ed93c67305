"""CelebA as its site, Kaggle and torchvision lay it out: the tables, wherever they lie in its folder, and the split."""

import os
import random
from collections.abc import Sequence
from os.path import basename
from pathlib import Path
from typing import NamedTuple

from art_idguard.data.labels import SPLITS, Labels, by_picture, celeba_labels, celeba_partition, require_split, tell
from art_idguard.errors import IDGuardError

SEED, TEST = 1234, 1999  # StarGAN's split, for CelebA without its partition

HQ_TABLE, HQ_PICTURES = "CelebAMask-HQ-attribute-anno.txt", "CelebA-HQ-img"
_ATTRIBUTES = ("list_attr_celeba.txt", "list_attr_celeba.csv")
_PARTITION = ("list_eval_partition.txt", "list_eval_partition.csv")
_FOLDERS = ("img_align_celeba", "img_align_celeba_png", "img_celeba")


class Tables(NamedTuple):
    """The files that say which labels a picture has, and which split it is in."""

    attributes: Path
    partition: Path | None = None


def find_tables(source: Path, names: Sequence[str]) -> Tables | None:
    """CelebA's or CelebAMask-HQ's tables among the files of a source (paths inside it); None where nothing is theirs.

    Raises:
        IDGuardError: a table is there twice, or none says the labels of what is CelebA's.
    """
    attributes, partition = (_only(source, names, table) for table in ((*_ATTRIBUTES, HQ_TABLE), _PARTITION))
    if attributes:
        return Tables(attributes, partition)
    parts = {source.resolve().name}.union(*(name.split(os.sep) for name in names))
    for mark in (*_FOLDERS, *_PARTITION, HQ_PICTURES):
        if mark in parts:
            expected = HQ_TABLE if mark == HQ_PICTURES else " or ".join(_ATTRIBUTES)
            raise IDGuardError(
                f"{source} has CelebA's {mark}, but no {expected} that says the labels, nor thereby the "
                "splits; give the folder that has both the pictures and the tables"
            )
    return None


def _only(source: Path, names: Sequence[str], table: Sequence[str]) -> Path | None:
    """The file of one of these names, wherever it lies."""
    found = [name for name in names if basename(name) in table]
    if len(found) > 1:
        raise IDGuardError(f"{source} has two tables of one kind, {found[0]} and {found[1]}; keep one of them")
    return source / found[0] if found else None


def celeba_part(
    source: Path, tables: Tables, split: str, attributes: Sequence[str], names: Sequence[str]
) -> dict[int, Labels]:
    """The places in `names` of the pictures of a split, and their labels.

    Raises:
        IDGuardError: there is no such split, a table is damaged, or a picture is in one of the tables or none.
    """
    rows = celeba_labels(tables.attributes, attributes)
    labels = by_picture(tables.attributes, rows, names, complete=False)
    if tables.partition:
        require_split(source, split, SPLITS)
        splits = by_picture(tables.partition, celeba_partition(tables.partition), names, complete=False)
    else:
        require_split(source, split, ("train", "test"))
        tell(f"{source} has no {' or '.join(_PARTITION)}: {TEST:,} rows are its test part, chosen as StarGAN does")
        splits = by_picture(tables.attributes, _stargans(list(rows)), names, complete=False)
    for table, known in ((tables.attributes, labels), (tables.partition, splits)):
        if absent := [name for i, name in enumerate(names) if i not in known]:
            raise IDGuardError(
                f"{table} does not list {absent[0]}; take the table as it is shipped, or the picture out"
            )
    return {i: labels[i] for i in range(len(names)) if splits[i] == split}


def _stargans(files: list[str]) -> dict[str, str]:
    random.Random(SEED).shuffle(files)
    return {file: "test" if i < TEST else "train" for i, file in enumerate(files)}

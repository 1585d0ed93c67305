"""Where pictures of faces come from: folders, tars, CelebA and CelebAMask-HQ, with labels and annotations."""

import csv
import io
import itertools
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from art_idguard.errors import IDGuardError
from art_idguard.types import ATTRIBUTES

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
MASK = ".mask.png"
"""`<picture>.mask.png` beside a picture holds its CelebAMask-HQ classes as an index image."""

PARTS = (
    *("skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear", "mouth"),
    *("u_lip", "l_lip", "hair", "hat", "ear_r", "neck_l", "neck", "cloth"),
)
"""CelebAMask-HQ's classes 1..18; 0 is background."""

HQ_TEST = 1000  # of CelebAMask-HQ the first rows are the test set, as in the official code


class Entry(NamedTuple):
    """A picture as it is stored: file name, content, annotation (index PNG) and 0/1 labels."""

    name: str
    picture: bytes
    mask: bytes | None
    attributes: list[float]


def entries(
    source: Path,
    split: str,
    limit: int | None = None,
    *,
    required: Sequence[str] | None = None,
    masks: bool = True,
) -> Iterator[Entry]:
    """The pictures of a source, in its order, `limit` at most; labels are zeros where there are none.

    Args:
        source: see `data.read_faces`.
        split: which part of a data set folder.
        limit: use this many pictures at most.
        required: attributes that every picture must have, in this order; by default `ATTRIBUTES` where known.
        masks: put CelebAMask-HQ's annotations together, which takes longer than the pictures.

    Raises:
        IDGuardError: the source does not exist, or a label is missing.
    """
    attributes = required or ATTRIBUTES
    if not source.exists():
        raise IDGuardError(f"no faces at {source}: no such file or folder")
    if (source / "CelebA-HQ-img").is_dir():
        yield from itertools.islice(_celebamask_hq(source, split, attributes, masks), limit)
        return
    tars = [source] if source.suffix == ".tar" else sorted(source.glob(f"{split}*.tar"))
    table = source.with_suffix(".csv") if tars == [source] else source / f"{split}.csv"
    labels = _csv_labels(table, attributes) or _celeba_labels(source / "list_attr_celeba.txt", attributes)
    annotations: dict[str, bytes] = {}
    pictures: list[tuple[str, bytes]] = []
    for name, content in _tar_files(tars) if tars else _folder_files(source):
        if name.endswith(MASK):
            annotations[name.removesuffix(MASK)] = content
        elif Path(name).suffix.lower() in SUFFIXES:
            pictures.append((name, content))
        if limit is not None and len(pictures) > limit:  # one more: its mask may follow a picture
            break
    for name, content in pictures[:limit]:
        label = labels.get(Path(name).name)
        if label is None and required:
            raise IDGuardError(
                f"{name} of {source} has no labels; expected {table} with the columns file, {', '.join(required)} "
                "(0/1), or CelebA's list_attr_celeba.txt beside the pictures"
            )
        yield Entry(name, content, annotations.get(str(Path(name).with_suffix(""))), label or [0.0] * len(ATTRIBUTES))


def _tar_files(tars: list[Path]) -> Iterator[tuple[str, bytes]]:
    for path in tars:
        with tarfile.open(path) as tar:
            for member in tar:
                if (file := tar.extractfile(member)) is not None:
                    yield member.name, file.read()


def _folder_files(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix.lower() in SUFFIXES:
            yield str(path.relative_to(folder)), path.read_bytes()


def _csv_labels(path: Path, attributes: Sequence[str]) -> dict[str, list[float]]:
    """Columns file and attributes, as 0/1 or -1/1."""
    if not path.is_file():
        return {}
    with path.open(newline="") as file:
        rows = csv.DictReader(file)
        _require(path, rows.fieldnames or (), attributes)
        return {row["file"]: [float(float(row[a]) > 0) for a in attributes] for row in rows}


def _celeba_labels(path: Path, attributes: Sequence[str]) -> dict[str, list[float]]:
    """CelebA's own text: a count, the names, then a file and -1/1 values a line."""
    if not path.is_file():
        return {}
    _, names, *rows = path.read_text().splitlines()
    columns = ["file", *names.split()]
    _require(path, columns, attributes)
    cells = (dict(zip(columns, row.split(), strict=True)) for row in rows if row.strip())
    return {c["file"]: [float(int(c[a]) > 0) for a in attributes] for c in cells}


def _require(path: Path, columns: Iterable[str], attributes: Sequence[str]) -> None:
    if absent := {"file", *attributes} - set(columns):
        raise IDGuardError(f"{path} lacks the columns {', '.join(sorted(absent))}")


def _celebamask_hq(source: Path, split: str, attributes: Sequence[str], masks: bool) -> Iterator[Entry]:
    labels = _celeba_labels(source / "CelebAMask-HQ-attribute-anno.txt", attributes)
    rows = list(labels.items())
    for name, label in rows[:HQ_TEST] if split == "test" else rows[HQ_TEST:]:
        number = int(Path(name).stem)
        picture = (source / "CelebA-HQ-img" / name).read_bytes()
        mask = _index_mask(source / "CelebAMask-HQ-mask-anno", number) if masks else None
        yield Entry(name, picture, mask, label)


def _index_mask(folder: Path, number: int) -> bytes:
    """The parts' binary pictures (absent where a part is invisible) as one index image; later ones on top."""
    index = np.zeros((512, 512), dtype=np.uint8)
    for value, part in enumerate(PARTS, start=1):
        path = folder / str(number // 2000) / f"{number:05d}_{part}.png"
        if path.is_file():
            index[np.asarray(Image.open(path).convert("L")) > 0] = value
    buffer = io.BytesIO()
    Image.fromarray(index).save(buffer, format="PNG")
    return buffer.getvalue()

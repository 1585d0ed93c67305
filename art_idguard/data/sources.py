"""Where pictures of faces come from: folders, tars, CelebA and CelebAMask-HQ, with labels and annotations."""

import io
import tarfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL import Image

from art_idguard.data.labels import SPLITS, by_picture, celeba_labels, celeba_part, csv_labels, require_split
from art_idguard.errors import IDGuardError
from art_idguard.files.formats import open_picture
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

Reader = Callable[[], bytes]


class Entry(NamedTuple):
    """A picture where it is stored: file name, what reads its content and annotation (index PNG), and 0/1 labels."""

    name: str
    read: Reader
    mask: Reader | None
    attributes: list[float]


def entries(
    source: Path, split: str, limit: int | None = None, *, required: Sequence[str] | None = None
) -> list[Entry]:
    """The pictures of a source, in its order, `limit` at most; labels are zeros where there are none.

    Args:
        source: see `data.read_faces`.
        split: which part of a data set, see there.
        limit: use this many pictures at most.
        required: attributes that every picture must have, in this order; by default `ATTRIBUTES` where known.

    Raises:
        IDGuardError: the source does not exist, is damaged, or has no such split or no picture; a label is missing
            or ambiguous, or a picture that the table in its folder lists.
    """
    attributes = required or ATTRIBUTES
    if not source.exists():
        raise IDGuardError(f"no faces at {source}: no such file or folder")
    layout = _celebamask_hq if (source / "CelebA-HQ-img").is_dir() else _folder_or_tar
    found = layout(source, split, attributes)[:limit]
    if not found:
        raise IDGuardError(f"no pictures in {source} (split {split!r}); expected {', '.join(SUFFIXES)} files")
    for entry in found:
        if required and not entry.attributes:
            raise IDGuardError(
                f"{entry.name} of {source} has no labels; expected {_table(source, split)} with the columns file, "
                f"{', '.join(required)} (0/1), or CelebA's list_attr_celeba.txt beside the pictures"
            )
    return [entry._replace(attributes=entry.attributes or [0.0] * len(ATTRIBUTES)) for entry in found]


def _table(source: Path, split: str) -> Path:
    return source.with_suffix(".csv") if source.suffix == ".tar" else source / f"{split}.csv"


def _folder_or_tar(source: Path, split: str, attributes: Sequence[str]) -> list[Entry]:
    tars = [source] if source.suffix == ".tar" else sorted(source.glob(f"{split}*.tar"))
    files = list(_tar_files(tars) if tars else _folder_files(source))
    labels = _labels(source, split, attributes, [name for name, _ in files], in_tars=bool(tars))
    masks = {name.removesuffix(MASK): read for name, read in files if name.endswith(MASK)}
    return [
        Entry(*files[i], masks.get(str(Path(files[i][0]).with_suffix(""))), label)
        for i, label in labels.items()
        if not files[i][0].endswith(MASK)
    ]


def _labels(
    source: Path, split: str, attributes: Sequence[str], names: Sequence[str], *, in_tars: bool
) -> dict[int, list[float]]:
    """The places in `names` that belong to the split, and their labels; empty ones where there are none.

    Tars are whole parts, whatever a table lists; of a folder's pictures the table says which are in the split.
    """
    every: dict[int, list[float]] = {i: [] for i in range(len(names))}
    table, celeba = _table(source, split), source / "list_attr_celeba.txt"
    if table.is_file():
        labels = by_picture(table, csv_labels(table, attributes), names, complete=not in_tars)
    elif celeba.is_file():
        rows = celeba_labels(celeba, attributes) if in_tars else celeba_part(celeba, split, attributes)
        labels = by_picture(celeba, rows, names, complete=False)
    else:
        others = [s for s in SPLITS if any(source.glob(f"{s}*.tar")) or _table(source, s).is_file()]
        if not in_tars or source.is_file():
            require_split(source, split, others or SPLITS)
        return every
    return every | labels if in_tars else dict(sorted(labels.items()))


def _tar_files(tars: list[Path]) -> Iterator[tuple[str, Reader]]:
    for path in tars:
        try:
            with tarfile.open(path, "r:") as tar:
                for member in tar:
                    stored = tar.getmember(member.linkname) if member.islnk() else member
                    if stored.isfile() and member.name.lower().endswith(SUFFIXES):
                        name = str(PurePosixPath(member.name))  # without the ./ of `tar cf faces.tar .`
                        yield name, partial(_read_part, path, stored.offset_data, stored.size)
        except (tarfile.TarError, KeyError, OSError) as error:
            raise IDGuardError(f"{path} is damaged or compressed ({error}); pack it anew as a plain tar") from error


def _read_part(path: Path, start: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(size)


def _folder_files(folder: Path) -> Iterator[tuple[str, Reader]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix.lower() in SUFFIXES:
            yield str(path.relative_to(folder)), path.read_bytes


def _celebamask_hq(source: Path, split: str, attributes: Sequence[str]) -> list[Entry]:
    require_split(source, split, ("train", "test"))
    rows = list(celeba_labels(source / "CelebAMask-HQ-attribute-anno.txt", attributes).items())
    pictures, masks = source / "CelebA-HQ-img", source / "CelebAMask-HQ-mask-anno"
    return [
        Entry(name, (pictures / name).read_bytes, partial(_index_mask, masks, int(Path(name).stem)), labels)
        for name, labels in (rows[:HQ_TEST] if split == "test" else rows[HQ_TEST:])
    ]


def _index_mask(folder: Path, number: int) -> bytes:
    """The parts' binary pictures (absent where a part is invisible) as one index image; later ones on top."""
    index = np.zeros((512, 512), dtype=np.uint8)
    for value, part in enumerate(PARTS, start=1):
        path = folder / str(number // 2000) / f"{number:05d}_{part}.png"
        if path.is_file():
            index[np.asarray(open_picture(path, path).convert("L")) > 0] = value
    buffer = io.BytesIO()
    Image.fromarray(index).save(buffer, format="PNG")
    return buffer.getvalue()

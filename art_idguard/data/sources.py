"""Where pictures of faces come from: folders, tars, CelebA and CelebAMask-HQ, with labels and annotations."""

import glob
import io
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib import resources
from pathlib import Path, PurePath, PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL import Image

from art_idguard.data.celeba import HQ_PICTURES, HQ_TABLE, celeba_part, find_tables
from art_idguard.data.labels import SPLITS, Labels, by_picture, celeba_labels, csv_labels, require_split, tell
from art_idguard.errors import IDGuardError
from art_idguard.files.formats import SUFFIXES, open_picture
from art_idguard.files.listing import is_debris, visible_files
from art_idguard.types import ATTRIBUTES

MASK = ".mask.png"
"""`<picture>.mask.png` beside a picture holds its CelebAMask-HQ classes as an index image."""

PARTS = (
    *("skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear", "mouth"),
    *("u_lip", "l_lip", "hair", "hat", "ear_r", "neck_l", "neck", "cloth"),
)
"""CelebAMask-HQ's classes 1..18; 0 is background."""

HQ_TEST = 1000  # of CelebAMask-HQ the first rows are the test set, as in the official code

PORTRAIT = "astronaut"
"""NASA's portrait of Eileen Collins, in the public domain, which scikit-image brings: a data set of one face."""

Reader = Callable[[], bytes]


class Entry(NamedTuple):
    """A picture where it is stored: file name, what reads its content and annotation (index PNG), and 0/1 labels."""

    name: str
    read: Reader
    mask: Reader | None
    attributes: Labels


def entries(
    source: Path, split: str, limit: int | None = None, *, required: Sequence[str] | None = None
) -> list[Entry]:
    """The pictures of a source, in its order, `limit` at most; labels are zeros where there are none.

    Hidden files and what systems leave behind (._x.png, .ipynb_checkpoints, @eaDir, __MACOSX) are no pictures.

    Args:
        source: see `data.read_faces`.
        split: which part of a data set, see there.
        limit: use this many pictures at most.
        required: attributes that every picture must have, in this order; by default `ATTRIBUTES` where known.

    Raises:
        IDGuardError: the source does not exist, is damaged, or has no such split or no picture; a label is missing
            or ambiguous, or a picture that the table in its folder lists; a picture is in two splits; it is CelebA
            without its table of attributes.
    """
    attributes = ATTRIBUTES if required is None else required
    if not split or PurePath(split).name != split:
        raise IDGuardError(f"{split!r} is no name of a split; expected {', '.join(SPLITS)} or the like")
    if not (found := _all_of(source, split, attributes)[:limit]):
        raise IDGuardError(f"no pictures in {source} (split {split!r}); expected {', '.join(SUFFIXES)} files")
    for entry in found:
        if required and not entry.attributes:
            raise IDGuardError(
                f"{entry.name} of {source} has no labels; expected {_table(source, split)} with the columns file, "
                f"{', '.join(required)} (0/1), or CelebA's list_attr_celeba.txt beside the pictures"
            )
    return [entry._replace(attributes=entry.attributes or [0.0] * len(ATTRIBUTES)) for entry in found]


def _all_of(source: Path, split: str, attributes: Sequence[str]) -> list[Entry]:
    if str(source) == PORTRAIT and not source.exists():
        _mere_part(source, split, [PORTRAIT])
        return [Entry(f"{PORTRAIT}.png", _portrait, None, [])]
    if not source.exists():
        raise IDGuardError(f"no faces at {source}: no such file or folder")
    tars = [source] if source.suffix == ".tar" else sorted(source.glob(f"{glob.escape(split)}*.tar"))
    if not tars and not source.is_dir():
        raise IDGuardError(f"{source} is no folder and no .tar; unpack it, or pack its pictures as a plain tar")
    return _of_tars(source, tars, split, attributes) if tars else _of_folder(source, split, attributes)


def _portrait() -> bytes:
    """Her face, framed as CelebA's are."""
    whole = (resources.files("skimage") / "data" / f"{PORTRAIT}.png").read_bytes()
    Image.open(io.BytesIO(whole)).crop((121, 0, 325, 204)).save(face := io.BytesIO(), "PNG")
    return face.getvalue()


def _table(source: Path, split: str) -> Path:
    return source.with_suffix(".csv") if source.suffix == ".tar" else source / f"{split}.csv"


def _of_tars(source: Path, tars: list[Path], split: str, attributes: Sequence[str]) -> list[Entry]:
    """Tars are whole parts, whatever a table lists."""
    files = dict(_tar_files(tars))
    names = _pictures(files)
    beside = [] if source in tars else [path.name for path in source.iterdir()]
    labels: dict[int, Labels] = {}
    if (table := _table(source, split)).is_file():
        labels = by_picture(table, csv_labels(table, attributes), names, complete=False)
    elif celeba := find_tables(source, [*beside, *names]):
        rows = celeba_labels(celeba.attributes, attributes)
        labels = by_picture(celeba.attributes, rows, names, complete=False)
    places = _mere_part(source, split, names) if source in tars else range(len(names))
    return _entries(files, names, {i: labels.get(i, []) for i in places})


def _of_folder(source: Path, split: str, attributes: Sequence[str]) -> list[Entry]:
    if (source / HQ_TABLE).is_file():  # ahead of a list of its 400,000 files
        return _celebamask_hq(source, split, attributes)
    paths = {str(path.relative_to(source)): path for path in visible_files(source)}
    files = {name: path.read_bytes for name, path in paths.items() if path.suffix.lower() in SUFFIXES}
    names = _pictures(files)
    tables = {s: _table(source, s) for s in (*SPLITS, split) if _table(source, s).is_file()}
    parts = [*tables, *(s for s in SPLITS if s not in tables and any(source.glob(f"{s}*.tar")))]
    if parts:
        require_split(source, split, parts)
        labels = _listed_part(tables, split, attributes, names)
    elif not (celeba := find_tables(source, list(paths))):
        labels = {i: [] for i in _mere_part(source, split, names)}
    elif celeba.attributes.name == HQ_TABLE:
        return _celebamask_hq(celeba.attributes.parent, split, attributes)
    else:
        labels = celeba_part(source, celeba, split, attributes, names)
    return _entries(files, names, labels)


def _pictures(files: Mapping[str, Reader]) -> list[str]:
    return [name for name in files if not name.endswith(MASK)]


def _entries(files: Mapping[str, Reader], names: Sequence[str], labels: Mapping[int, Labels]) -> list[Entry]:
    masks = {name.removesuffix(MASK): read for name, read in files.items() if name.endswith(MASK)}
    return [
        Entry(names[i], files[names[i]], masks.get(str(PurePath(names[i]).with_suffix(""))), known)
        for i, known in labels.items()
    ]


def _listed_part(
    tables: Mapping[str, Path], split: str, attributes: Sequence[str], names: Sequence[str]
) -> dict[int, Labels]:
    """The places in `names` of the pictures that the table of a split lists, and no other's table does."""
    table = tables[split]
    labels = by_picture(table, csv_labels(table, attributes), names, complete=True)
    for other in tables.values():
        rows = csv_labels(other, ()) if other != table else {}
        if shared := labels.keys() & by_picture(other, rows, names, complete=False).keys():
            raise IDGuardError(
                f"{names[min(shared)]} is in two splits, by {table} and {other.name}; delete it from one of them"
            )
    return dict(sorted(labels.items()))


def _mere_part(source: Path, split: str, names: Sequence[str]) -> list[int]:
    """The places of the pictures in folders of the split's name, or of all where no folder has a split's."""
    parts = [next((p for p in PurePath(name).parts[:-1] if p in SPLITS), None) for name in names]
    if found := [s for s in SPLITS if s in parts]:
        require_split(source, split, found)
        return [i for i, part in enumerate(parts) if part == split]
    require_split(source, split, SPLITS)
    if split != "train":
        tell(
            f"{source} has no splits: its {split} part is all of it, with whatever a model was trained on; "
            "train.csv and test.csv in it, or folders train and test, would part it"
        )
    return list(range(len(names)))


def _tar_files(tars: list[Path]) -> Iterator[tuple[str, Reader]]:
    for path in tars:
        if not path.is_file():  # a pipe would wait for ever
            raise IDGuardError(f"{path} is no file; pack the pictures as a plain tar")
        try:
            with tarfile.open(path, "r:") as tar:
                for member in tar:
                    stored = tar.getmember(member.linkname) if member.islnk() else member
                    name = PurePosixPath(member.name)  # without the ./ of `tar cf faces.tar .`
                    if stored.isfile() and name.suffix.lower() in SUFFIXES and not is_debris(name):
                        yield str(name), partial(_read_part, path, stored.offset_data, stored.size)
                if _read_part(path, tar.offset, tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # tarfile says nothing
                    raise tarfile.ReadError("it breaks off, or what follows is no part of it")
        except (tarfile.TarError, KeyError, OSError) as error:
            raise IDGuardError(f"{path} is damaged or compressed ({error}); pack it anew as a plain tar") from error


def _read_part(path: Path, start: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(size)


def _celebamask_hq(home: Path, split: str, attributes: Sequence[str]) -> list[Entry]:
    require_split(home, split, ("train", "test"))
    pictures, masks = home / HQ_PICTURES, home / "CelebAMask-HQ-mask-anno"
    for folder in (pictures, masks):
        if not folder.is_dir():
            raise IDGuardError(f"CelebAMask-HQ in {home} lacks the folder {folder.name}; put it there")
    rows = list(celeba_labels(home / HQ_TABLE, attributes).items())
    for name, _ in rows:
        if not re.fullmatch(r"[0-9]{1,5}\.jpg", name):
            raise IDGuardError(f"{home / HQ_TABLE} lists {name!r}; expected the pictures of {pictures}, such as 0.jpg")
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
            index[np.asarray(open_picture(io.BytesIO(path.read_bytes()), path).convert("L")) > 0] = value
    if not index.any():
        raise IDGuardError(f"{folder} has no part of it")
    buffer = io.BytesIO()
    Image.fromarray(index).save(buffer, format="PNG")
    return buffer.getvalue()

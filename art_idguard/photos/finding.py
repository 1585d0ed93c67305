"""Which photos the inputs of a run stand for, and what it leaves out."""

from collections import Counter
from collections.abc import Sequence
from glob import glob
from pathlib import Path
from typing import NamedTuple

from art_idguard.errors import IDGuardError
from art_idguard.files.formats import has_no_suffix, is_picture
from art_idguard.files.listing import is_debris, list_folder
from art_idguard.photos.job import SHOWN
from art_idguard.photos.manifest import NAME
from art_idguard.photos.table import is_table

RESULTS = {"png": ".protected.png", "jpeg": ".protected.jpg", "webp": ".protected.webp"}
"""How the name of a result ends, by its format."""


class NoPhotosError(IDGuardError):
    """The inputs stand for nothing."""


class Found(NamedTuple):
    """What inputs stand for."""

    photos: dict[Path, Path]
    """Each photo once, however it is spelled, with its folder within the input folder, "." of a file or a glob's."""
    again: int
    """How often one is named again."""
    left_out: Counter[str]
    """What else lies in the input folders, by why it is no photo; without what the tool itself has put there."""
    errors: list[IDGuardError]
    """Of each folder or file in the input folders that cannot be read."""


def find_photos(inputs: Sequence[str], *, but: Sequence[str] = (*RESULTS.values(), SHOWN)) -> Found:
    """The photos that files, folders (their pictures, recursively) and quoted globs stand for.

    Args:
        inputs: of the command line.
        but: how names end that are left out, unless a file is named itself.

    Raises:
        NoPhotosError: an input stands for nothing, or there is none.
    """
    if not inputs:
        raise NoPhotosError("no photos are named; give pictures, folders of pictures or quoted globs")
    found: dict[Path, tuple[Path, Path]] = {}
    again, left_out, errors = 0, Counter[str](), list[IDGuardError]()
    for text in inputs:
        if not text:
            raise NoPhotosError("an input is empty, and would stand for the current folder; write . where you mean it")
        path = Path(text)
        matches, others, unreadable = (
            _in_folder(path, but) if path.is_dir() else (_files(text, but), Counter[str](), [])
        )
        if not (matches or unreadable):
            why = f" ({phrase(others)})" if others else ""
            raise NoPhotosError(f"no photo at {text}{why}; expected a picture, a folder of pictures or a quoted glob")
        for match in matches:
            within = match.parent.relative_to(path) if path.is_dir() else Path()
            again += match.resolve() in found
            found.setdefault(match.resolve(), (match, within))
        left_out += others
        errors += unreadable
    return Found(dict(found.values()), again, left_out, errors)


def phrase(left_out: Counter[str]) -> str:
    """How many are left out, and why.

    >>> phrase(Counter({"hidden": 2, "no picture by name": 1}))
    '3 left out (2 hidden, 1 no picture by name)'
    """
    why = ", ".join(f"{number} {reason}" for reason, number in left_out.most_common())
    return f"{left_out.total()} left out" + (f" ({why})" if why else "")


def _in_folder(folder: Path, but: Sequence[str]) -> tuple[list[Path], Counter[str], list[IDGuardError]]:
    listing = list_folder(folder)
    left_out = Counter({"no file": len(listing.others)})
    left_out["hidden"] = sum(not path.name.endswith((NAME, ".lock", ".tmp")) for path in listing.debris)
    photos = []
    for path in listing.files:
        if is_picture(path):
            if not path.name.endswith(tuple(but)):
                photos.append(path)
        elif not is_table(path):
            left_out["no picture by content" if has_no_suffix(path) else "no picture by name"] += 1
    return photos, +left_out, listing.errors


def _files(text: str, but: Sequence[str]) -> list[Path]:
    """The file, or what matches a glob: debris only where the pattern itself names it."""
    if Path(text).is_file():
        return [Path(text)]
    named = Path(text).parts
    matches = map(Path, sorted(glob(text, recursive=True)))
    return [
        match
        for match in matches
        if match.is_file()
        and not match.name.endswith(tuple(but))
        and not is_table(match)
        and not is_debris(Path(*(part for part in match.parts if part not in named)))
    ]

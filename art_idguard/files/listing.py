"""What lies in a folder, without what systems leave there."""

import os
from pathlib import Path, PurePath
from stat import S_ISREG
from typing import NamedTuple

from art_idguard.errors import IDGuardError

_DEBRIS = ("__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information", "thumbs.db", "desktop.ini")


class Listing(NamedTuple):
    """What lies in a folder and its subfolders."""

    files: list[Path]
    """In order, without debris."""
    debris: list[Path]
    """Hidden files and folders, and what systems leave; what lies in these folders is not looked at."""
    others: list[Path]
    """Broken links, pipes and the like."""
    errors: list[IDGuardError]
    """Of each folder or file that cannot be read."""


def is_debris(path: PurePath) -> bool:
    """Whether a part of a relative path is hidden or a system's: ._x.png, .ipynb_checkpoints, @eaDir, __MACOSX."""
    return any(map(_is_debris, path.parts))


def _is_debris(name: str) -> bool:
    return (name.startswith(".") and name != "..") or name.casefold() in _DEBRIS


def list_folder(folder: Path) -> Listing:
    """What lies in a folder and its subfolders; a linked one is one, too, and one that is there twice is read once."""
    found, seen = Listing([], [], [], []), {folder.resolve()}

    def unreadable(error: OSError) -> None:
        found.errors.append(IDGuardError(f"cannot read {error.filename}: {error.strerror}; change its permissions"))

    for place, folders, files in os.walk(folder, onerror=unreadable, followlinks=True):
        here = Path(place)
        found.debris.extend(here / name for name in (*files, *folders) if _is_debris(name))
        for path in (here / name for name in files if not _is_debris(name)):
            try:
                (found.files if S_ISREG(path.stat().st_mode) else found.others).append(path)
            except PermissionError as error:
                unreadable(error)
            except OSError:  # a link to nothing, or to itself
                found.others.append(path)
        below = sorted((here / name for name in folders if not _is_debris(name)), key=lambda p: (p.is_symlink(), p))
        folders.clear()
        for path in below:
            if (real := path.resolve()) not in seen:
                seen.add(real)
                folders.append(path.name)
    found.files.sort()
    return found


def visible_files(folder: Path) -> list[Path]:
    """`Listing.files` of a folder.

    Raises:
        IDGuardError: a folder or file cannot be read.
    """
    found = list_folder(folder)
    for error in found.errors:
        raise error
    return found.files

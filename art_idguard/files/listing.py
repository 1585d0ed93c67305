"""What lies in a folder, without what systems leave there."""

import os
from pathlib import Path, PurePath

from art_idguard.errors import IDGuardError

_DEBRIS = ("__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information", "thumbs.db", "desktop.ini")


def is_debris(path: PurePath) -> bool:
    """Whether a part of a relative path is hidden or a system's: ._x.png, .ipynb_checkpoints, @eaDir, __MACOSX."""
    return any(map(_is_debris, path.parts))


def _is_debris(name: str) -> bool:
    return (name.startswith(".") and name != "..") or name.casefold() in _DEBRIS


def visible_files(folder: Path) -> list[Path]:
    """The files of a folder and of its subfolders, in order, without debris; a linked subfolder is one, too.

    A folder that is there twice, by links, is read once.

    Raises:
        IDGuardError: a folder cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise IDGuardError(f"cannot read the folder {error.filename}: {error.strerror}") from error

    found, seen = [], {folder.resolve()}
    for place, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        here = Path(place)
        found += [path for name in files if not _is_debris(name) and (path := here / name).is_file()]
        below = sorted((here / name for name in folders if not _is_debris(name)), key=lambda p: (p.is_symlink(), p))
        folders.clear()
        for path in below:
            if (real := path.resolve()) not in seen:
                seen.add(real)
                folders.append(path.name)
    return sorted(found)

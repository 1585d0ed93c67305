"""What ships with the package: its place, and recipes by their names."""

import os
import re
from pathlib import Path

from art_idguard.errors import IDGuardError

_RECIPE = re.compile(r"(?:(?:hub/)?recipes/)?([\w-]+)(?:\.toml)?")


def shipped(path: str) -> Path:
    """A file or folder that ships with the package, such as "protectors/default"."""
    installed = Path(__file__).parents[1] / "_hub"
    return (installed if installed.is_dir() else Path(__file__).parents[2] / "hub") / path


def find_recipe(name: str | Path) -> Path:
    """The file of a recipe: the one of that path or, where there is none, the one that ships under that name.

    >>> find_recipe("smoke").name
    'smoke.toml'

    Raises:
        IDGuardError: a mere name that is no file and under which none ships.
    """
    path = Path(name)
    found = _RECIPE.fullmatch(path.as_posix())
    if not found or os.path.isfile(path):
        return path
    if os.path.isfile(ours := shipped(f"recipes/{found[1]}.toml")):
        return ours
    if found[1] != str(path):
        return path
    names = ", ".join(sorted(recipe.stem for recipe in shipped("recipes").glob("*.toml")))
    raise IDGuardError(f"no recipe {name}: it is no file here, and what ships has the names {names}")

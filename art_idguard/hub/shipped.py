"""Folders of the weights that ship."""

from pathlib import Path


def shipped(path: str) -> Path:
    """A file or folder that ships with the package, such as "protectors/default"."""
    installed = Path(__file__).parents[1] / "_hub"
    return (installed if installed.is_dir() else Path(__file__).parents[2] / "hub") / path

"""TOML and JSON files that anyone may have written: read, or refused by name."""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from art_idguard.errors import IDGuardError


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        IDGuardError: it is missing, damaged, or nested too deep to be read.
    """
    return _read(path, json.loads, "JSON")


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file.

    Raises:
        IDGuardError: it is missing, damaged, or nested too deep to be read.
    """
    return _read(path, tomllib.loads, "TOML")


def _read(path: Path, parse: Callable[[str], Any], kind: str) -> Any:
    try:
        return parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise IDGuardError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise IDGuardError(f"{path} is damaged, or no {kind}: {error}") from error

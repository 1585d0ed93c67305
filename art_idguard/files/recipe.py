"""Settings of a command, from a TOML recipe and what is given beside it; imports nothing heavy."""

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, Self, get_args, get_type_hints

from art_idguard.errors import IDGuardError


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A dataclass whose fields are settings, each with a docstring, which is also its help on the command line."""

    @classmethod
    def presets(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Settings to use where `values` has none and the general default does not fit."""
        return {}

    @classmethod
    def from_recipe(cls, path: str | Path | None, **overrides: Any) -> Self:
        """Settings from a TOML recipe, with `overrides` on top.

        Raises:
            IDGuardError: the recipe is missing, no TOML, or holds an unknown or incomplete set of settings.
        """
        values: dict[str, Any] = {}
        if path is not None:
            try:
                values = tomllib.loads(Path(path).read_text())
            except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
                raise IDGuardError(f"cannot read the recipe {path}: {error}") from error
        values |= overrides
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise IDGuardError(f"unknown settings {', '.join(unknown)}; known: {', '.join(sorted(known))}")
        if missing := {field.name for field in fields(cls) if field.default is MISSING} - set(values):
            raise IDGuardError(f"missing settings: {', '.join(sorted(missing))}")
        values = cls.presets(values) | values
        hints = get_type_hints(cls)
        return cls(**{name: _as_hinted(value, hints[name]) for name, value in values.items()})


def _as_hinted(value: Any, hint: Any) -> Any:
    """TOML and the command line have lists for tuples, TOML also 1 for 1.0."""
    if isinstance(value, list):
        return tuple(_as_hinted(item, get_args(hint)[0]) for item in value)
    return float(value) if type(value) is int and float in (hint, *get_args(hint)) else value

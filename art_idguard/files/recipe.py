"""Settings of a command, from a TOML recipe and what is given beside it; imports nothing heavy."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import MISSING, Field, asdict, dataclass, fields
from math import inf
from pathlib import Path, PurePath
from types import NoneType
from typing import Any, ClassVar, Literal, Self, get_args, get_origin, get_type_hints

from art_idguard.errors import IDGuardError
from art_idguard.files.parsing import read_toml
from art_idguard.files.shipped import find_recipe

SETTINGS = "settings.toml"
"""The file in which a training leaves its settings, in its folder and in its model's."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A dataclass whose fields are settings, each with a docstring, which is also its help on the command line."""

    renamed: ClassVar[Mapping[str, str]] = {}
    """Former names of settings, which recipes, options and callers may still use, and those of now."""
    may_be_zero: ClassVar[tuple[str, ...]] = ("seed",)
    """Whole numbers that may; others are at least 1."""
    at_most: ClassVar[Mapping[str, int]] = {}
    """Whole numbers that have a bound above."""

    def __post_init__(self) -> None:
        from huggingface_hub.dataclasses import type_validator  # heavy for a list of options

        hints = get_type_hints(type(self))
        for name, hint in ((field.name, hints[field.name]) for field in fields(self)):
            value = getattr(self, name)
            try:
                type_validator(name, value, hint)
            except TypeError as error:
                choices = [get_args(h) for h in (hint, *get_args(hint)) if get_origin(h) is Literal]
                if choices and int not in get_args(hint):
                    chosen = ", ".join(map(str, choices[0]))
                    raise IDGuardError(f"unknown {name} {value!r}; choose from: {chosen}") from error
                raise IDGuardError(f"{name} is {value!r}; expected {_spelled(hint)}") from error
        for field in fields(self):
            self._require_range(field)

    def _require_range(self, field: Field[Any]) -> None:
        value = getattr(self, field.name)
        if value == () and field.default is MISSING:
            raise IDGuardError(f"{field.name} is empty; expected at least one")
        if type(value) not in (int, float):
            return
        least = 0 if type(value) is float or field.name in self.may_be_zero else 1
        if not value >= least:  # nan too
            raise IDGuardError(f"{field.name} is {value}; expected at least {least}")
        if value > (most := self.at_most.get(field.name, inf)):
            raise IDGuardError(f"{field.name} is {value}; expected at most {most}")
        if value == inf and field.default != inf:
            raise IDGuardError(f"{field.name} is {value}; expected a finite number")

    @classmethod
    def presets(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Settings to use where `values` has none and the general default does not fit."""
        return {}

    @classmethod
    def from_recipe(cls, path: str | Path | None, **overrides: Any) -> Self:
        """Settings from a TOML recipe, a file or one that ships (see `find_recipe`), with `overrides` on top.

        Raises:
            IDGuardError: the recipe is missing, no TOML, or holds an unknown or incomplete set of settings.
        """
        values = ({} if path is None else read_toml(find_recipe(path))) | overrides
        if twice := [f"{old} and {new}" for old, new in cls.renamed.items() if old in values and new in values]:
            raise IDGuardError(f"{twice[0]} are one setting; give the second alone")
        values = {cls.renamed.get(name, name): value for name, value in values.items()}
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise IDGuardError(f"unknown settings {', '.join(unknown)}; known: {', '.join(sorted(known))}")
        if missing := {field.name for field in fields(cls) if field.default is MISSING} - set(values):
            raise IDGuardError(f"missing settings: {', '.join(sorted(missing))}")
        values = cls.presets(values) | values
        hints = get_type_hints(cls)
        return cls(**{name: _as_hinted(value, hints[name]) for name, value in values.items()})

    def to_toml(self) -> str:
        """A recipe of all settings, a line each, from which `from_recipe` makes the same; TOML has no None."""
        return "".join(_line(name, value) for name, value in asdict(self).items() if value is not None)


def _line(name: str, value: Any) -> str:
    line = f"{name} = {_toml(value)}\n"
    with suppress(UnicodeEncodeError):
        line.encode()
        return line
    return f"# {name} has bytes that are no UTF-8, as TOML is: give it beside this recipe\n"


def _toml(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, float):
        return repr(value)  # inf and nan, too
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # TOML has no halves of characters


def _as_hinted(value: Any, hint: Any) -> Any:
    """TOML and the command line have lists for tuples, TOML also 1 for 1.0; callers may give one part, or a path."""
    of_many = tuple in (get_origin(hint), *map(get_origin, get_args(hint)))
    if of_many and isinstance(value, (str, int, PurePath)):
        value = (value,)
    if isinstance(value, (list, tuple)):
        (item,) = {get_args(h)[0] for h in (hint, *get_args(hint)) if get_origin(h) is tuple} or {Any}
        return tuple(_as_hinted(part, item) for part in value)
    if isinstance(value, PurePath):
        return str(value)
    return float(value) if type(value) is int and float in (hint, *get_args(hint)) else value


def _spelled(hint: Any) -> str:
    """A type as a person reads it."""
    if get_origin(hint) is tuple:
        return f"a list, each {_spelled(get_args(hint)[0])}"
    if get_origin(hint) is Literal:
        return " or ".join(map(repr, get_args(hint)))
    if get_args(hint):
        return " or ".join(_spelled(part) for part in get_args(hint))
    names = {str: "a text", bool: "true or false", int: "a whole number", float: "a number", NoneType: "nothing"}
    return names.get(hint, str(hint))

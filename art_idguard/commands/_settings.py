"""Options from the fields of settings, with their docstrings as help."""

import argparse
import ast
import inspect
from dataclasses import fields, is_dataclass
from itertools import pairwise
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from art_idguard.files.recipe import Settings


def add_settings(parser: argparse.ArgumentParser, config: type[Settings], *, positional: str = "") -> None:
    """An option for each field of the settings; the one called `positional` may also come from the recipe."""
    parser.add_argument("--recipe", type=Path, help="TOML file with any of the settings below, which override it")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    help_texts = _field_help(config)
    hints = get_type_hints(config)
    for field in fields(config):
        here: dict[str, Any] = {"nargs": "?"} if field.name == positional else {}
        names = [field.name, *(old for old, new in config.renamed.items() if new == field.name)]
        parser.add_argument(
            *([field.name] if here else [f"--{name.replace('_', '-')}" for name in names]),
            default=None if here else argparse.SUPPRESS,
            help=help_texts[field.name].replace("%", "%%"),
            **(_argument(hints[field.name]) | here | field.metadata),
        )


def _argument(hint: Any) -> dict[str, Any]:
    """What argparse needs to read a value of this type."""
    if int in get_args(hint) and any(get_origin(part) is Literal for part in get_args(hint)):
        return {"type": steps}
    (hint,) = [h for h in get_args(hint) if h is not NoneType] if NoneType in get_args(hint) else [hint]
    if get_origin(hint) is Literal:
        return {"choices": get_args(hint)}
    if get_origin(hint) is tuple:
        return {"nargs": "+", "type": get_args(hint)[0]}
    return {"action": argparse.BooleanOptionalAction} if hint is bool else {"type": hint}


def _field_help(config: type) -> dict[str, str]:
    """The docstring under each field of a dataclass and of those that it extends."""
    classes = [ast.parse(inspect.getsource(c)).body[0] for c in reversed(config.__mro__) if is_dataclass(c)]
    return {
        field.target.id: inspect.cleandoc(str(text.value.value))
        for node in classes
        if isinstance(node, ast.ClassDef)
        for field, text in pairwise(node.body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
    }


def steps(text: str) -> int | str:
    """A number of steps, or "auto"."""
    return text if text == "auto" else int(text)

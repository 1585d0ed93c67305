"""Options from the fields of settings, with their docstrings as help."""

import argparse
import ast
import inspect
import sys
from dataclasses import fields, is_dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from art_idguard.files.recipe import Settings

RECIPE_HELP = """TOML file with any of the settings below, which override it; or the name of one that ships: train
--recipe smoke trains a protector on one portrait in a minute"""


def add_settings(parser: argparse.ArgumentParser, config: type[Settings], *positional: str, quiet: bool = True) -> None:
    """An option for each field of the settings; those called `positional` have none, and may also be in the recipe.

    `quiet` where the command shows a progress bar.
    """
    parser.add_argument("--recipe", type=Path, help=RECIPE_HELP)
    if quiet:
        parser.add_argument("--quiet", action="store_true", help="no progress bar")
    help_texts = _field_help(config)
    hints = get_type_hints(config)
    for field in fields(config):
        names = [field.name, *(old for old, new in config.renamed.items() if new == field.name)]
        option = parser.add_argument(
            *([field.name] if field.name in positional else [f"--{name.replace('_', '-')}" for name in names]),
            default=argparse.SUPPRESS,
            help=help_texts[field.name].replace("%", "%%"),
            **(_argument(hints[field.name]) | field.metadata),
        )
        option.required = False


def _argument(hint: Any) -> dict[str, Any]:
    """What argparse needs to read a value of this type."""
    if int in get_args(hint) and any(get_origin(part) is Literal for part in get_args(hint)):
        return {"type": steps}
    (hint,) = [h for h in get_args(hint) if h is not NoneType] if NoneType in get_args(hint) else [hint]
    if get_origin(hint) is Literal:
        return {"choices": get_args(hint)}
    if get_origin(hint) is tuple:
        return {"nargs": "+", **_argument(get_args(hint)[0])}
    return {"action": argparse.BooleanOptionalAction} if hint is bool else {"type": hint}


def _field_help(config: type) -> dict[str, str]:
    """The docstring under each field of a dataclass and of those that it extends."""
    return {
        field.target.id: inspect.cleandoc(str(text.value.value))
        for base in reversed(config.__mro__)
        if is_dataclass(base)
        for field, text in pairwise(_classes(base.__module__)[base.__name__].body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
    }


@cache
def _classes(module: str) -> dict[str, ast.ClassDef]:
    """Those of a module, which `inspect.getsource` would parse anew for each."""
    body = ast.parse(inspect.getsource(sys.modules[module])).body
    return {node.name: node for node in body if isinstance(node, ast.ClassDef)}


def steps(text: str) -> int | str:
    """A number of steps, or "auto"."""
    return text if text == "auto" else int(text)

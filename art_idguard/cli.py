"""The command line: art-idguard protect | train | evaluate | info. Imports nothing heavy before it is needed."""

import argparse
import ast
import inspect
import sys
from collections.abc import Sequence
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from art_idguard import __version__
from art_idguard.errors import IDGuardError
from art_idguard.training.config import ProtectorConfig


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code: 0, 1 for an error that is named, 2 for wrong usage, 130 for Ctrl-C."""
    options = vars(_parser().parse_args(argv))
    run = options.pop("run")
    try:
        return run(**options)
    except (IDGuardError, OSError) as error:  # OSError: a full disk, an unreachable or unknown Hub repository
        print(f"art-idguard: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("art-idguard: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="art-idguard", description="Protect face photos against GAN manipulation.")
    parser.add_argument("--version", action="version", version=f"art-idguard {__version__}")
    commands = parser.add_subparsers(title="commands", required=True)
    _add_protect(commands)
    _add_train(commands)
    _add_evaluate(commands)
    info = commands.add_parser("info", help="what a model is, or what this installation has")
    info.add_argument("model", nargs="?", help="folder or Hub id")
    info.set_defaults(run=_info)
    return parser


def _add_protect(commands: Any) -> None:
    protect = commands.add_parser("protect", help="protect photos")
    protect.add_argument("inputs", nargs="+", help="pictures, folders of pictures, or quoted globs")
    protect.add_argument("--output", type=Path, help="folder for the results (default: beside each photo)")
    protect.add_argument("--model", help="protector: folder or Hub id (default: the one that ships)")
    protect.add_argument("--revision", help="revision of the Hub model")
    protect.add_argument("--check", help="manipulator that judges the written file (default: shipped StarGAN), or none")
    protect.add_argument("--show", action="store_true", help="also write a picture of before and after")
    protect.add_argument("--whole", action="store_true", help="protect a picture without a face as a whole")
    protect.add_argument("--overwrite", action="store_true", help="replace results that are there already")
    protect.set_defaults(run=_protect)


def _protect(**options: Any) -> int:
    from art_idguard.protect_command import protect_files

    return 1 if protect_files(**options) else 0


def _add_train(commands: Any) -> None:
    train = commands.add_parser("train", help="train a protector (Algorithm 1)")
    train.add_argument("--recipe", type=Path, help="TOML file with any of the settings below, which override it")
    train.add_argument("--resume", action="store_true", help="go on from the output folder's checkpoint")
    train.add_argument("--quiet", action="store_true", help="no progress bar")
    help_texts = _field_help(ProtectorConfig)
    hints = get_type_hints(ProtectorConfig)
    for field in fields(ProtectorConfig):
        train.add_argument(
            f"--{field.name.replace('_', '-')}",
            default=argparse.SUPPRESS,
            help=help_texts[field.name].replace("%", "%%"),
            **_argument(hints[field.name]),
        )
    train.set_defaults(run=_train)


def _argument(hint: Any) -> dict[str, Any]:
    """What argparse needs to read a value of this type."""
    (hint,) = [h for h in get_args(hint) if h is not NoneType] if NoneType in get_args(hint) else [hint]
    if get_origin(hint) is Literal:
        return {"choices": get_args(hint)}
    if get_origin(hint) is tuple:
        return {"nargs": "+", "type": get_args(hint)[0]}
    return {"action": argparse.BooleanOptionalAction} if hint is bool else {"type": hint}


def _field_help(config: type) -> dict[str, str]:
    """The docstring under each field of a dataclass."""
    (body,) = (node.body for node in ast.parse(inspect.getsource(config)).body if isinstance(node, ast.ClassDef))
    pairs = pairwise(body)
    return {
        field.target.id: inspect.cleandoc(str(text.value.value))
        for field, text in pairs
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
    }


def _train(*, recipe: Path | None, resume: bool, quiet: bool, **given: Any) -> int:
    from art_idguard.training.protector import train_protector

    given = {name: tuple(v) if isinstance(v, list) else v for name, v in given.items()}
    config = ProtectorConfig.from_recipe(recipe, **given)
    print(train_protector(config, resume=resume, verbose=not quiet))
    return 0


def _add_evaluate(commands: Any) -> None:
    evaluate = commands.add_parser("evaluate", help="measure a protector, beside its baselines")
    evaluate.add_argument("--protector", help="folder or Hub id (default: the one that ships)")
    evaluate.add_argument("--manipulators", nargs="+", required=True, help="folders or Hub ids, or name=file")
    evaluate.add_argument(
        "--recognizers", nargs="+", default=[], help="the training's first, then one that it did not use"
    )
    evaluate.add_argument("--data", nargs="+", required=True, help="NAME=PATH[,split=test][,framing=resize|align]")
    evaluate.add_argument("--output", type=Path, required=True, help="folder for NAME.json, .md and .png")
    evaluate.add_argument("--limit", type=int, help="use this many faces of each data set at most")
    evaluate.add_argument("--edits", choices=("all", "cycle"), default="all", help="every edit, or face i edit i mod 5")
    evaluate.add_argument("--baselines", action="store_true", help="also noise, Disrupting on each model, CMUA")
    evaluate.add_argument("--baseline-faces", help="NAME=PATH that CMUA is trained on")
    evaluate.add_argument("--baseline-limit", type=int, default=128, help="how many faces CMUA is trained on")
    evaluate.add_argument("--reference-faces", type=int, default=0, help="faces that white-box PGD-40 attacks")
    evaluate.add_argument("--batch-size", type=int, default=16)
    evaluate.add_argument("--seed", type=int, default=0)
    evaluate.add_argument("--size", type=int, help="side of the faces (default: the protector's)")
    evaluate.set_defaults(run=_evaluate)


def _evaluate(**options: Any) -> int:
    from art_idguard.evaluate_command import evaluate_protector

    for name, report in evaluate_protector(**options).items():
        print(f"# {name}\n\n{report.markdown()}")
    return 0


def _info(*, model: str | None) -> int:
    from art_idguard.info_command import describe

    print("\n".join(f"{name}: {value}" for name, value in describe(model).items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())

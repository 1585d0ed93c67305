"""The command line, `art-idguard --help`: from photos to training, measuring and publishing.

Nothing heavy is imported before it is needed.
"""

import argparse
import ast
import inspect
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from itertools import pairwise
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from art_idguard import __version__
from art_idguard.errors import IDGuardError
from art_idguard.training.config import TrainingConfig
from art_idguard.training.manipulator.config import HardeningConfig, ManipulatorConfig
from art_idguard.training.protector.config import ProtectorConfig


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code: 0, 1 for an error that is named, 2 for wrong usage, 130 for Ctrl-C.

    A training that Ctrl-C or SIGTERM stops keeps its checkpoint and what it has learnt, and ends with 130.
    """
    warnings.formatwarning = lambda message, *_, **__: f"art-idguard: warning: {message}\n"
    options = vars(_parser().parse_args(argv))
    run = options.pop("run")
    try:
        return run(**options)
    except (IDGuardError, OSError) as error:  # OSError: a full disk, an unreachable or unknown Hub repository
        print(f"art-idguard: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:  # on a bare training machine
        print(f"art-idguard: error: this needs {error.name}, which is not installed; install it", file=sys.stderr)
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
    _add_evaluate_manipulator(commands)
    _add_attack_manipulator(commands)
    _add_serve(commands)
    info = commands.add_parser("info", help="what a model is, or what this installation has")
    info.add_argument("model", nargs="?", help="folder or Hub id")
    info.add_argument("--revision", help="revision of the Hub model")
    info.set_defaults(run=_info)
    _add_push(commands)
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
    protect.add_argument(
        "--refine",
        type=_steps,
        default=0,
        metavar="STEPS",
        help="go on with PGD against the shipped manipulators: stronger, half a minute for a face with 12; auto: until "
        "no more is won, a few minutes",
    )
    protect.add_argument("--overwrite", action="store_true", help="replace results that are there, not skip them")
    protect.add_argument("--format", choices=("png", "jpeg", "webp"), default="png", help="jpeg and webp are lossy")
    protect.add_argument("--quality", type=int, default=95, help="of jpeg and webp, 1 to 100 (default: 95)")
    protect.add_argument("--strip-metadata", action="store_true", help="leave EXIF and XMP out of the results")
    protect.add_argument("--workers", type=int, default=1, help="photos to work on at the same time (default: 1)")
    protect.add_argument("--csv", type=Path, help="add a row on each photo to this file")
    protect.set_defaults(run=_protect)


def _steps(text: str) -> int | str:
    return text if text == "auto" else int(text)


def _protect(**options: Any) -> int:
    from art_idguard.photos.batch import NoPhotosError, protect_files

    try:
        return 1 if protect_files(**options) else 0
    except NoPhotosError as error:
        print(f"art-idguard: error: {error}", file=sys.stderr)
        return 2


def _add_train(commands: Any) -> None:
    train = commands.add_parser("train", help="train a protector (Algorithm 1)")
    _add_settings(train, ProtectorConfig)
    train.set_defaults(run=_train)
    manipulator = commands.add_parser("train-manipulator", help="train a manipulator by its own losses")
    _add_settings(manipulator, ManipulatorConfig, positional="manipulator")
    manipulator.set_defaults(run=_train_manipulator)
    harden = commands.add_parser("harden", help="train a manipulator adversarially (Eq. 15)")
    _add_settings(harden, HardeningConfig, positional="manipulator")
    harden.set_defaults(run=_harden)


def _add_settings(parser: argparse.ArgumentParser, config: type[TrainingConfig], *, positional: str = "") -> None:
    """An option for each field of the settings; the one called `positional` may also come from the recipe."""
    parser.add_argument("--recipe", type=Path, help="TOML file with any of the settings below, which override it")
    parser.add_argument("--resume", action="store_true", help="go on from the output folder's checkpoint")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    help_texts = _field_help(config)
    hints = get_type_hints(config)
    for field in fields(config):
        here: dict[str, Any] = {"nargs": "?"} if field.name == positional else {}
        parser.add_argument(
            field.name if here else f"--{field.name.replace('_', '-')}",
            default=None if here else argparse.SUPPRESS,
            help=help_texts[field.name].replace("%", "%%"),
            **here,
            **_argument(hints[field.name]),
        )


def _argument(hint: Any) -> dict[str, Any]:
    """What argparse needs to read a value of this type."""
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


def _train(*, recipe: Path | None, resume: bool, quiet: bool, **given: Any) -> int:
    from art_idguard.training.protector.train import train_protector

    config = ProtectorConfig.from_recipe(recipe, **given)
    return _trained(train_protector, config, resume=resume, quiet=quiet)


def _train_manipulator(*, recipe: Path | None, resume: bool, quiet: bool, manipulator: str | None, **given: Any) -> int:
    from art_idguard.training.manipulator.train import train_manipulator

    given |= {"manipulator": manipulator} if manipulator else {}
    config = ManipulatorConfig.from_recipe(recipe, **given)
    return _trained(train_manipulator, config, resume=resume, quiet=quiet)


def _harden(*, recipe: Path | None, resume: bool, quiet: bool, manipulator: str | None, **given: Any) -> int:
    from art_idguard.training.manipulator.hardening import harden

    given |= {"manipulator": manipulator} if manipulator else {}
    config = HardeningConfig.from_recipe(recipe, **given)
    return _trained(harden, config, resume=resume, quiet=quiet)


def _trained(train: Callable[..., Path], config: TrainingConfig, *, resume: bool, quiet: bool) -> int:
    """Train and print the model's folder; 130 and no folder where the training was stopped."""
    stops: list[str] = []
    folder = train(config, resume=resume, verbose=not quiet, on_stop=stops.append)
    if stops:
        print(f"art-idguard: {stops[0]}; go on with --resume", file=sys.stderr)
        return 130
    print(folder)
    return 0


def _add_evaluate_manipulator(commands: Any) -> None:
    quality = commands.add_parser("evaluate-manipulator", help="how good manipulators are: edit success, identity, KID")
    quality.add_argument("models", nargs="+", help="folders or Hub ids, or name=file")
    quality.add_argument("--data", required=True, help="NAME=PATH[,split=test][,framing=resize|align], with labels")
    quality.add_argument("--output", type=Path, required=True, help="folder for MODEL/quality.json and .md")
    quality.add_argument("--limit", type=int, help="use this many faces at most")
    quality.add_argument("--size", type=int, default=128, help="side of the faces in pixels")
    quality.add_argument("--recognizer", help="judges whether the person is kept (default: the one that ships)")
    quality.add_argument("--batch-size", type=int, default=16)
    quality.add_argument("--portrait", type=Path, help="also write MODEL/edits.jpg: this photo's face under every edit")
    quality.set_defaults(run=_evaluate_manipulator)


def _evaluate_manipulator(**options: Any) -> int:
    from art_idguard.evaluation.quality_benchmark import evaluate_manipulators

    for name, quality in evaluate_manipulators(options.pop("models"), **options).items():
        print(f"# {name}\n\n{quality.markdown()}")
    return 0


def _add_attack_manipulator(commands: Any) -> None:
    attack = commands.add_parser("attack-manipulator", help="white-box attacks on a manipulator (Table VII)")
    attack.add_argument("original", help="manipulator: folder or Hub id, or name=file")
    attack.add_argument("--hardened", help="its hardened version, to stand beside it")
    attack.add_argument("--recognizer", help="judges identity (default: the one that ships)")
    attack.add_argument("--data", required=True, help="NAME=PATH[,split=test][,framing=resize|align]")
    attack.add_argument("--output", type=Path, required=True, help="folder for NAME.json, .md and .png")
    attack.add_argument("--limit", type=int, help="use this many faces at most")
    attack.add_argument("--size", type=int, default=128, help="side of the faces in pixels")
    attack.add_argument("--attacks", nargs="+", default=argparse.SUPPRESS, help="rows of the table (default: all)")
    attack.set_defaults(run=_attack_manipulator)


def _attack_manipulator(**options: Any) -> int:
    from art_idguard.attacks.robustness import attack_manipulator

    print(attack_manipulator(options.pop("original"), **options).markdown())
    return 0


def _add_evaluate(commands: Any) -> None:
    evaluate = commands.add_parser("evaluate", help="measure protectors, beside their baselines")
    evaluate.add_argument(
        "--protector",
        dest="protectors",
        nargs="+",
        action="extend",
        default=[],
        metavar="[NAME=]FOLDER",
        help="folders or Hub ids, with names for their rows (default: the one that ships)",
    )
    evaluate.add_argument("--manipulators", nargs="+", required=True, help="folders or Hub ids, or name=file")
    evaluate.add_argument(
        "--recognizers", nargs="+", default=[], help="the training's first, then one that it did not use"
    )
    evaluate.add_argument("--data", nargs="+", required=True, help="NAME=PATH[,split=test][,framing=resize|align]")
    evaluate.add_argument("--output", type=Path, required=True, help="folder for NAME.json, .md and .png")
    evaluate.add_argument("--limit", type=int, help="use this many faces of each data set at most")
    evaluate.add_argument("--edits", choices=("all", "cycle"), default="all", help="every edit, or face i edit i mod 5")
    evaluate.add_argument(
        "--operations",
        nargs="+",
        default=[],
        metavar="NAME=STRENGTH",
        help="what photos go through before: none, jpeg=75, blur=1, resize=0.5, noise=0.05 (Fig. 13)",
    )
    evaluate.add_argument(
        "--baselines",
        nargs="*",
        metavar="NAME",
        help="also these (without names: all): noise; disrupting (PGD-10, for each model); cmua; pg and iap, whose "
        "generators are trained; anti-forgery (100 steps, for each model)",
    )
    evaluate.add_argument(
        "--refine",
        type=_steps,
        default=0,
        metavar="STEPS",
        help="also the first protector with this much PGD behind it",
    )
    evaluate.add_argument("--refine-against", nargs="+", default=(), help="manipulators that it knows (default: all)")
    evaluate.add_argument("--baseline-faces", help="NAME=PATH that CMUA, PG and IAP are trained on")
    evaluate.add_argument("--baseline-limit", type=int, default=128, help="how many faces they are trained on")
    evaluate.add_argument(
        "--baseline-steps",
        type=int,
        default=100,
        help="of training PG, for each model, and IAP, on batches of 4 (default: 100, for which a CPU core needs 5 "
        "minutes, and half an hour; PG is published with 30,000)",
    )
    evaluate.add_argument(
        "--cmua-edits",
        choices=("turn", "each"),
        default="turn",
        help="10 steps of CMUA in which the edits take turns, or its official 10 for each, at five times the cost",
    )
    evaluate.add_argument(
        "--reference-faces",
        type=int,
        default=0,
        help="faces that white boxes attack: PGD on the whole picture, and one aimed at the criterion, whose share the "
        "figures are; it knows all recognizers but the last, or the only one",
    )
    evaluate.add_argument("--reference-steps", type=int, default=40, help="steps of each white box (default: 40)")
    evaluate.add_argument(
        "--calibrate",
        metavar="NAME=PATH",
        help="faces named Ada_Lovelace_0001.jpg (LFW: ,framing=align): also identity at a false accept rate of 1 %% "
        "and 0.1 %% there",
    )
    evaluate.add_argument("--reference-restarts", type=int, default=1, help="of the one aimed at the criterion")
    evaluate.add_argument("--batch-size", type=int, default=16)
    evaluate.add_argument("--seed", type=int, default=0)
    evaluate.add_argument("--size", type=int, help="side of the faces (default: the protector's)")
    evaluate.set_defaults(run=_evaluate)


def _evaluate(**options: Any) -> int:
    from art_idguard.evaluation.benchmark import evaluate_protector
    from art_idguard.evaluation.tables import markdown

    for name, report in evaluate_protector(**options).items():
        print(f"# {name}\n\n{markdown(report)}")
    return 0


def _add_serve(commands: Any) -> None:
    serve = commands.add_parser("serve", help="a page on which to try it (extra: serve)")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 lets other computers in")
    serve.add_argument("--port", type=int, default=7860)
    serve.add_argument("--model", help="protector: folder or Hub id (default: the one that ships)")
    serve.add_argument("--manipulators", nargs="+", help="folders, Hub ids or name=file (default: those that ship)")
    serve.set_defaults(run=_serve)


def _serve(**options: Any) -> int:
    try:
        from art_idguard.serve.app import serve
    except ModuleNotFoundError as error:
        if error.name != "gradio":
            raise
        raise IDGuardError("serve needs Gradio; install it with: pip install 'art-idguard[serve]'") from error
    serve(**options)
    return 0


def _info(*, model: str | None, revision: str | None) -> int:
    from art_idguard.models.info import describe

    print("\n".join(f"{name}: {value}" for name, value in describe(model, revision=revision).items()))
    return 0


def _add_push(commands: Any) -> None:
    push = commands.add_parser("push", help="upload a model's folder to the Hub, with its card")
    push.add_argument("folder", type=Path, help="in the Hub's layout, such as hub/protectors/default")
    push.add_argument("repo_id", metavar="ID", help="where to, such as user/name; made if it is not there")
    push.add_argument("--private", action=argparse.BooleanOptionalAction, help="visibility of a new repository")
    push.add_argument("--revision", help="branch to commit to, made if it is not there (default: main)")
    push.add_argument("--tag", help="name for the commit, such as v1.0")
    push.add_argument("--message", help="of the commit")
    push.add_argument("--dry-run", action="store_true", help="only say what would be pushed, and show the card")
    push.set_defaults(run=_push)


def _push(**options: Any) -> int:
    from art_idguard.models.push import push_folder

    print(push_folder(**options))
    return 0


if __name__ == "__main__":
    sys.exit(main())

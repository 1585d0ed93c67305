"""The command line, `art-idguard --help`: from photos to training, measuring and publishing.

Nothing heavy is imported before it is needed.
"""

import argparse
import io
import os
import sys
import warnings
from collections.abc import Sequence

from art_idguard import __version__
from art_idguard.commands import (
    adversary,
    attack_manipulator,
    evaluate,
    evaluate_manipulator,
    export,
    info,
    protect,
    push,
    reproduce,
    serve,
    train,
    watermark,
)
from art_idguard.errors import IDGuardError
from art_idguard.files.names import printable
from art_idguard.plugins import import_modules

COMMANDS = (
    *(protect, train, evaluate, adversary, evaluate_manipulator, attack_manipulator),
    *(watermark, reproduce, serve, info, export, push),
)
"""In the order of the help."""

_ON_MODELS = """A model is named by its folder, by its Hub id (user/name), or, if it ships, by its short name, such as
protector, stargan or sface: art-idguard info lists these."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code: 0, 1 for an error that is named, 2 for wrong usage, 130 for Ctrl-C.

    A training that Ctrl-C or SIGTERM stops keeps its checkpoint and what it has learnt, and ends with 130.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names may hold what the terminal's encoding does not
            stream.reconfigure(errors="backslashreplace")
    warnings.formatwarning = lambda message, *_, **__: f"art-idguard: warning: {printable(str(message))}\n"
    try:
        options = vars(_parser().parse_args(argv))
        run, modules = options.pop("run"), options.pop("modules")
        _check_environment()
        import_modules(modules)
        return run(**options)
    except (IDGuardError, OSError) as error:  # OSError: a full disk, an unreachable or unknown Hub repository
        print(f"art-idguard: error: {printable(' '.join(str(error).split()))}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:  # on a bare training machine
        print(f"art-idguard: error: this needs {error.name}, which is not installed; install it", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("art-idguard: interrupted", file=sys.stderr)
        return 130


def _check_environment() -> None:
    """huggingface_hub reads its settings when it is imported, and its errors name none."""
    try:
        from huggingface_hub import get_session  # noqa: F401
    except ValueError as error:
        names = ("HF_ENDPOINT", "HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_ETAG_TIMEOUT")
        given = " or ".join(f"{name}={os.environ[name]}" for name in names if name in os.environ)
        raise IDGuardError(f"{given} is no setting of the Hub ({error}); correct it, or unset it") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="art-idguard", description="Protect face photos against GAN manipulation.", epilog=_ON_MODELS
    )
    parser.add_argument("--version", action="version", version=f"art-idguard {__version__}")
    parser.add_argument(
        "--import",
        dest="modules",
        action="append",
        default=[],
        metavar="MODULE",
        help="a module that adds manipulators, recognisers, weightings or baselines of your own (before the command)",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in COMMANDS:
        module.add(commands)
    for command in commands.choices.values():
        command.epilog = " ".join(filter(None, (command.epilog, _ON_MODELS)))
    return parser


if __name__ == "__main__":
    sys.exit(main())

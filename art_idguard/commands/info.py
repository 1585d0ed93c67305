"""`art-idguard info`: what a model is, or what this installation has."""

from typing import Any


def add(commands: Any) -> None:
    """Add the command to the parser's commands."""
    info = commands.add_parser("info", help="what a model is, or what this installation has")
    info.add_argument("model", nargs="?", help="folder, Hub id, or name of what ships")
    info.add_argument("--revision", help="revision of the Hub model")
    info.set_defaults(run=_run)


def _run(*, model: str | None, revision: str | None) -> int:
    from art_idguard.files.names import printable
    from art_idguard.models.info import describe

    for name, value in describe(model, revision=revision).items():
        print(printable(f"{name}: {value}"))
    return 0

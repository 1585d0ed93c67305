"""`art-idguard info`: what a model is, or what this installation has."""

from pathlib import Path
from typing import Any

from art_idguard.commands._settings import add_settings
from art_idguard.models.config import InfoConfig


def add(commands: Any) -> None:
    """Add the command to the parser's commands."""
    info = commands.add_parser("info", help="what a model is, or what this installation has")
    add_settings(info, InfoConfig, "model", quiet=False)
    info.set_defaults(run=_run)


def _run(*, recipe: Path | None, **given: Any) -> int:
    config = InfoConfig.from_recipe(recipe, **given)
    from art_idguard.files.names import printable
    from art_idguard.models.info import describe

    for name, value in describe(**vars(config)).items():
        print(printable(f"{name}: {value}"))
    return 0

"""`art-idguard reproduce`: the paper's tables and figures, trained and measured anew."""

from pathlib import Path
from typing import Any

from art_idguard.commands._settings import add_settings
from art_idguard.reproduction.config import ReproductionConfig


def add(commands: Any) -> None:
    """Add the command to the parser's commands."""
    parser = commands.add_parser("reproduce", help="a table or figure of the paper: train what is missing, measure")
    add_settings(parser, ReproductionConfig, "experiment")
    parser.set_defaults(run=_run)


def _run(*, recipe: Path | None, quiet: bool, **given: Any) -> int:
    config = ReproductionConfig.from_recipe(recipe, **given)
    from art_idguard.reproduction.run import reproduce

    for result in reproduce(config, verbose=not quiet).values():
        print(result.document().markdown())
    return 0

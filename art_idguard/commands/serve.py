"""`art-idguard serve`: the page."""

from pathlib import Path
from typing import Any

from art_idguard.commands._settings import add_settings
from art_idguard.serve.config import ServeConfig


def add(commands: Any) -> None:
    """Add the command to the parser's commands."""
    serve = commands.add_parser("serve", help="a page on which to try it (extra: serve)")
    add_settings(serve, ServeConfig, quiet=False)
    serve.set_defaults(run=_run)


def _run(*, recipe: Path | None, **given: Any) -> int:
    config = ServeConfig.from_recipe(recipe, **given)
    from art_idguard.serve.start import serve

    serve(**vars(config))
    return 0

"""`art-idguard push`: to the Hub."""

from pathlib import Path
from typing import Any

from art_idguard.commands._settings import add_settings
from art_idguard.models.config import PushConfig


def add(commands: Any) -> None:
    """Add the command to the parser's commands."""
    push = commands.add_parser("push", help="upload a model's folder to the Hub, with its card")
    add_settings(push, PushConfig, "folder", "repo_id", quiet=False)
    push.set_defaults(run=_run)


def _run(*, recipe: Path | None, **given: Any) -> int:
    config = PushConfig.from_recipe(recipe, **given)
    from art_idguard.models.push import push_folder

    print(push_folder(**vars(config)))
    return 0

"""`art-idguard push`: to the Hub."""

import argparse
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """Add the command to the parser's commands."""
    push = commands.add_parser("push", help="upload a model's folder to the Hub, with its card")
    push.add_argument("folder", type=Path, help="in the Hub's layout, such as hub/protectors/default")
    push.add_argument("repo_id", metavar="ID", help="where to, such as user/name; made if it is not there")
    push.add_argument("--private", action=argparse.BooleanOptionalAction, help="visibility of a new repository")
    push.add_argument("--revision", help="branch to commit to, made if it is not there (default: main)")
    push.add_argument("--tag", help="name for the commit, such as v1.0")
    push.add_argument("--message", help="of the commit")
    push.add_argument("--dry-run", action="store_true", help="only say what would be pushed, and show the card")
    push.set_defaults(run=_run)


def _run(**options: Any) -> int:
    from art_idguard.models.push import push_folder

    print(push_folder(**options))
    return 0

"""`art-idguard evaluate-manipulator`: how good manipulators are."""

from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """Add the command to the parser's commands."""
    quality = commands.add_parser("evaluate-manipulator", help="how good manipulators are: edit success, identity, KID")
    quality.add_argument("models", nargs="+", help="folders or Hub ids, or name=file")
    quality.add_argument("--data", required=True, help="NAME=PATH[,split=test][,framing=resize|align], with labels")
    quality.add_argument("--output", type=Path, required=True, help="folder for MODEL/quality.json and .md")
    quality.add_argument("--limit", type=int, help="use this many faces at most")
    quality.add_argument("--size", type=int, default=128, help="side of the faces in pixels")
    quality.add_argument("--recognizer", help="judges whether the person is kept (default: the one that ships)")
    quality.add_argument("--batch-size", type=int, default=16)
    quality.add_argument("--portrait", type=Path, help="also write MODEL/edits.jpg: this photo's face under every edit")
    quality.set_defaults(run=_run)


def _run(**options: Any) -> int:
    from art_idguard.evaluation.quality_benchmark import evaluate_manipulators

    for name, quality in evaluate_manipulators(options.pop("models"), **options).items():
        print(f"# {name}\n\n{quality.markdown()}")
    return 0

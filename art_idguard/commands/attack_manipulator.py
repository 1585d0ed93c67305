"""`art-idguard attack-manipulator`: Table VII."""

import argparse
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """Add the command to the parser's commands."""
    attack = commands.add_parser("attack-manipulator", help="white-box attacks on a manipulator (Table VII)")
    attack.add_argument("original", help="manipulator: folder or Hub id, or name=file")
    attack.add_argument("--hardened", help="its hardened version, to stand beside it")
    attack.add_argument("--recognizer", help="judges identity (default: the one that ships)")
    attack.add_argument("--data", required=True, help="NAME=PATH[,split=test][,framing=resize|align]")
    attack.add_argument("--output", type=Path, required=True, help="folder for NAME.json, .md and .png")
    attack.add_argument("--limit", type=int, help="use this many faces at most")
    attack.add_argument("--size", type=int, default=128, help="side of the faces in pixels")
    attack.add_argument("--attacks", nargs="+", default=argparse.SUPPRESS, help="rows of the table (default: all)")
    attack.set_defaults(run=_run)


def _run(**options: Any) -> int:
    from art_idguard.attacks.robustness import attack_manipulator

    print(attack_manipulator(options.pop("original"), **options).markdown())
    return 0

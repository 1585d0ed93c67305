"""`art-idguard protect`: photos of people."""

import sys
from pathlib import Path
from typing import Any

from art_idguard.commands._settings import add_settings
from art_idguard.photos.config import ProtectConfig

DESCRIPTION = """Protect photos. Of a folder these are its pictures, by suffix or, without one, by content, also in
subfolders and linked ones. What is there already is skipped if it was made of the same photo with the same settings and
weights, as the hidden .art-idguard.jsonl beside the results says (by digests); else it is made anew. A verdict on each:
weak (a manipulator still produces a recognisable you), fair (it does not), strong (and its picture is damaged)."""
SUMMARY = """Exit code: 0 where every photo is protected or skipped, 1 where one is not or a subfolder cannot be read, 2
where there is none. The last line, on standard error, counts them, and what else lies in the folders: "art-idguard: 5
protected, 1 skipped, 1 failed, 3 left out (2 hidden, 1 no picture by name)"; why one failed is said above it."""


def add(commands: Any) -> None:
    """Add the command to the parser's commands."""
    protect = commands.add_parser("protect", help="protect photos", description=DESCRIPTION, epilog=SUMMARY)
    add_settings(protect, ProtectConfig, "inputs")
    protect.set_defaults(run=_run)


def _run(*, recipe: Path | None, quiet: bool, **given: Any) -> int:
    config = ProtectConfig.from_recipe(recipe, **given)
    from art_idguard.files.names import printable
    from art_idguard.photos.batch import protect_files
    from art_idguard.photos.finding import NoPhotosError

    try:
        return 1 if protect_files(**vars(config), verbose=not quiet) else 0
    except NoPhotosError as error:
        print(f"art-idguard: error: {printable(str(error))}", file=sys.stderr)
        return 2

"""`art-idguard protect`: photos of people."""

import sys
from pathlib import Path
from typing import Any

from art_idguard.commands._settings import steps

DESCRIPTION = """Protect photos. Of a folder these are its pictures, by suffix or, without one, by content, also in
subfolders and linked ones. What is there already is skipped if it was made of the same photo with the same settings and
weights, as the hidden .art-idguard.jsonl beside the results says (by digests); else it is made anew."""
SUMMARY = """Exit code: 0 where every photo is protected or skipped, 1 where one is not or a subfolder cannot be read, 2
where there is none. The last line, on standard error, counts them, and what else lies in the folders: "art-idguard: 5
protected, 1 skipped, 1 failed, 3 left out (2 hidden, 1 no picture by name)"; why one failed is said above it."""


def add(commands: Any) -> None:
    """Add the command to the parser's commands."""
    protect = commands.add_parser("protect", help="protect photos", description=DESCRIPTION, epilog=SUMMARY)
    protect.add_argument("inputs", nargs="+", help="pictures, folders of pictures, or quoted globs")
    protect.add_argument("--output", type=Path, help="folder for the results (default: beside each photo)")
    protect.add_argument("--model", help="protector: folder or Hub id (default: the one that ships)")
    protect.add_argument("--revision", help="revision of the Hub model")
    protect.add_argument("--check", help="manipulator that judges the written file (default: shipped StarGAN), or none")
    protect.add_argument("--show", action="store_true", help="also write a picture of before and after")
    protect.add_argument("--whole", action="store_true", help="protect a picture without a face as a whole")
    protect.add_argument(
        "--refine",
        type=steps,
        default=0,
        metavar="STEPS",
        help="go on with PGD against the shipped manipulators: stronger, half a minute for a face with 12; auto: until "
        "no more is won, a few minutes",
    )
    protect.add_argument("--overwrite", action="store_true", help="replace results that are there, not skip them")
    protect.add_argument("--format", choices=("png", "jpeg", "webp"), default="png", help="jpeg and webp are lossy")
    protect.add_argument("--quality", type=int, default=95, help="of jpeg and webp, 1 to 100 (default: 95)")
    protect.add_argument("--strip-metadata", action="store_true", help="leave EXIF and XMP out of the results")
    protect.add_argument("--workers", type=int, default=1, help="photos to work on at the same time (default: 1)")
    protect.add_argument("--csv", type=Path, help="add a row on each photo to this file")
    protect.set_defaults(run=_run)


def _run(**options: Any) -> int:
    from art_idguard.files.names import printable
    from art_idguard.photos.batch import protect_files
    from art_idguard.photos.finding import NoPhotosError

    try:
        return 1 if protect_files(**options) else 0
    except NoPhotosError as error:
        print(f"art-idguard: error: {printable(str(error))}", file=sys.stderr)
        return 2

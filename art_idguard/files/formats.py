"""Picture formats that are read: a fixed list; some that Pillow knows are never photos, and one starts a program."""

import io
import re
from contextlib import suppress
from functools import cache
from pathlib import Path

from PIL import Image

from art_idguard.errors import IDGuardError

FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "JPEG2000", "AVIF", "HEIF")
"""Names of Pillow's plug-ins. Not EPS, for which it would start Ghostscript."""

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".jpx", ".avif", ".heic", ".heif", ".hif"),
)
"""Of these formats; a folder's other files are no pictures."""

_HEIF = (".heic", ".heif", ".hif")


@cache
def _known() -> tuple[str, ...]:
    """Those that this machine's Pillow reads; HEIF is an extra package's."""
    with suppress(ImportError):
        from pillow_heif import register_heif_opener

        register_heif_opener()
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def has_no_suffix(path: Path) -> bool:
    """Whether nothing in a name says of what kind the file is: "scan", "photo.2019", "a.jpg?width=300"."""
    return not re.fullmatch(r"\.\w*[A-Za-z]\w*", path.suffix)


def is_picture(path: Path) -> bool:
    """Whether a file is a picture by its suffix or, where it has none, by its first bytes.

    One that cannot be read counts as one, and whoever reads it says why.
    """
    if not has_no_suffix(path):
        return path.suffix.lower() in SUFFIXES
    try:
        with path.open("rb") as file:
            start = file.read(16).ljust(16, b"\0")
    except OSError:
        return True
    if start.startswith(b"P") and not start[2:3].isspace():  # a text, of which Pillow would read more for "P6"
        return False
    return any(accepts is not None and accepts(start) for _, accepts in map(Image.OPEN.__getitem__, _known()))


def open_picture(source: io.BufferedReader | io.BytesIO, path: Path) -> Image.Image:
    """`Image.open` of an open file; `path` stands for it in errors.

    Of a path, Pillow would map some TIFFs into memory, and those with an orientation wrongly.

    Raises:
        IDGuardError: it is a HEIF picture, and pillow-heif is not installed.
        UnidentifiedImageError: it is of no format in `FORMATS`.
    """
    if path.suffix.lower() in _HEIF and "HEIF" not in _known():
        raise IDGuardError(f"{path} is a HEIF picture; to read it: pip install pillow-heif")
    return Image.open(source, formats=_known())

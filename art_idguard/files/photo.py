"""Photos as files: read safely, written whole, with the metadata that is theirs and no picture of the bare face.

Videos and animations are out of scope.
"""

import io
import re
import warnings
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo
from PIL.TiffImagePlugin import TiffImageFile

from art_idguard.errors import IDGuardError
from art_idguard.files.atomic import replacing
from art_idguard.files.formats import open_picture
from art_idguard.pixels import bands

MAX_PIXELS = 100_000_000
MAX_SIDE = 65_535  # a JPEG's; of one column, far fewer pixels than MAX_PIXELS would take tens of gigabytes
MAX_PROFILE = 1 << 20  # bytes of colour profile that Pillow reads of a PNG

FORMATS = {"png": 2**31 - 1, "jpeg": 65_500, "webp": 16_383}
"""What a photo can be written as, and the longest side it may then have; all but PNG are lossy."""

Pixels = UInt8[np.ndarray, "H W 3"]

_TAG = ExifTags.Base
_KEPT = (
    *(_TAG.ImageDescription, _TAG.Make, _TAG.Model, _TAG.XResolution, _TAG.YResolution, _TAG.ResolutionUnit),
    *(_TAG.Software, _TAG.DateTime, _TAG.Artist, _TAG.HostComputer, _TAG.Rating, _TAG.Copyright),
    *(_TAG.XPTitle, _TAG.XPComment, _TAG.XPAuthor, _TAG.XPKeywords, _TAG.XPSubject),
)
# Maker notes may hold a preview, and their offsets break when they move; the size may be that of the turned picture.
_DROPPED = {_TAG.MakerNote, _TAG.ExifImageWidth, _TAG.ExifImageHeight, _TAG.ExifInteroperabilityOffset}
_PICTURES_IN_XMP = (b"humbnail", b"GImg", b"GImage", b"GDepth")
_TURN_IN_XMP = re.compile(rb"""tiff:Orientation\s*=\s*("[^"]*"|'[^']*')|<tiff:Orientation>[^<]*</tiff:Orientation>""")
_WITH_PROFILE = ("RGB", "RGBA", "P")  # in other modes it is of other colours than those that are kept
_SEGMENT = 65_000  # bytes of metadata that fit into one segment of a JPEG


class Photo(NamedTuple):
    """An upright 8-bit RGB picture; transparency, colour profile and metadata are carried along."""

    pixels: Pixels
    alpha: UInt8[np.ndarray, "H W"] | None = None
    icc_profile: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None

    def without_metadata(self) -> "Photo":
        """The same without EXIF and XMP; the colour profile stays, for without it the colours would be others."""
        return self._replace(exif=None, xmp=None)


class _NoWarnings:
    """Ignores warnings while any thread is inside: their filters are one for the process, and no thread's own."""

    def __init__(self) -> None:
        self.lock, self.inside, self.before = Lock(), 0, warnings.catch_warnings()

    def __enter__(self) -> None:
        with self.lock:
            self.inside += 1
            if self.inside == 1:
                self.before = warnings.catch_warnings()
                self.before.__enter__()
                warnings.simplefilter("ignore")

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.inside -= 1
            if not self.inside:
                self.before.__exit__(None, None, None)


_QUIET = _NoWarnings()


def read_photo(path: Path, content: bytes | None = None, *, max_pixels: int = MAX_PIXELS) -> Photo:
    """Read a still picture of one of `formats.FORMATS` as upright 8-bit RGB; `content` is the file's where it is known.

    EXIF and XMP are kept without orientation (it is applied); EXIF without thumbnail and maker notes, XMP unless it
    holds a picture: these would show the face as it was. Other metadata (IPTC, comments) is left out.

    Raises:
        IDGuardError: the file is missing, no picture, damaged, animated, of a kind without a fixed range
            (floating point, 32-bit or signed integers), has over `max_pixels` pixels, a side over `MAX_SIDE` or a
            colour profile over `MAX_PROFILE`.
    """
    try:
        if content is None and not path.is_file():  # to open a FIFO would wait for ever
            raise IDGuardError(f"no file at {path}")
        with (
            _QUIET,  # damaged metadata does not matter, and _still checks the size
            path.open("rb") if content is None else io.BytesIO(content) as source,
            open_picture(source, path) as picture,
        ):
            return _upright_rgb(_still(picture, path, max_pixels))
    except IDGuardError:
        raise
    except Image.DecompressionBombError as error:
        raise IDGuardError(f"{path} is too large ({error}); shrink it below {max_pixels:,} pixels") from error
    except Exception as error:  # damaged files make decoders raise struct.error, TypeError, MemoryError and more
        reason = "of an unknown kind" if isinstance(error, UnidentifiedImageError) else error
        raise IDGuardError(f"{path} is no readable picture ({reason}); expected JPEG, PNG, WebP or the like") from error


def _still(picture: Image.Image, path: Path, max_pixels: int) -> Image.Image:
    """The picture, if its header says that it is one picture of a bearable size and a known range."""
    width, height = picture.size
    if width * height > max_pixels:
        raise IDGuardError(f"{path} has {width} x {height} pixels, more than {max_pixels:,}; shrink it first")
    if max(width, height) > MAX_SIDE:
        raise IDGuardError(
            f"{path} has {width} x {height} pixels; expected sides of at most {MAX_SIDE:,}; cut it first"
        )
    # MPO is a phone's JPEG with a depth or gain map behind it: the first picture is the photo.
    if picture.format != "MPO" and (frames := getattr(picture, "n_frames", 1)) > 1:
        raise IDGuardError(f"{path} is animated or has pages ({frames} frames); save the one you need as a picture")
    if kind := _unknown_range(picture):
        raise IDGuardError(f"{path} holds {kind} numbers, whose range is unknown; save it with 8 bits")
    profile = len(picture.info.get("icc_profile") or b"")
    if profile > MAX_PROFILE and picture.mode in _WITH_PROFILE:
        raise IDGuardError(
            f"{path} has a colour profile of {profile:,} bytes, more than {MAX_PROFILE:,}; convert it to sRGB first"
        )
    return picture


def _unknown_range(picture: Image.Image) -> str | None:
    """What a picture holds whose white nothing tells; a PPM's numbers are scaled to 16 bits."""
    if picture.mode == "F":
        return "floating-point"
    if picture.mode == "I" and picture.format != "PPM":
        return "32-bit or signed"
    return "12-bit" if isinstance(picture, TiffImageFile) and picture.tag_v2.get(_TAG.BitsPerSample) == (12,) else None


def _upright_rgb(picture: Image.Image) -> Photo:
    icc_profile = picture.info.get("icc_profile") if picture.mode in _WITH_PROFILE else None
    if not isinstance(picture, TiffImageFile):  # whose EXIF is lost then
        picture.load()  # `getexif` would, too, but once only, and damage is no reason to do without EXIF
    exif = _exif(picture)
    ImageOps.exif_transpose(picture, in_place=True)
    return Photo(*_arrays(picture), icc_profile, exif, _xmp(picture))


def _arrays(picture: Image.Image) -> tuple[Pixels, UInt8[np.ndarray, "H W"] | None]:
    """RGB and transparency, in bands: Pillow's own copies of a large picture take gigabytes."""
    width, height = picture.size
    pixels = np.empty((height, width, 3), np.uint8)
    alpha = None
    for rows in bands(height, width):
        band = picture.crop((0, rows.start, width, rows.stop))
        if band.mode.startswith("I"):  # 16 bits: Pillow's conversion would clip instead of scale
            grey = np.clip(np.asarray(band) / np.float32(257), 0, 255)
            band = Image.fromarray(grey.round().astype(np.uint8))
        if band.has_transparency_data:
            band = band.convert("RGBA")
            alpha = np.empty((height, width), np.uint8) if alpha is None else alpha
            alpha[rows] = np.asarray(band.getchannel("A"))
        pixels[rows] = np.asarray(band.convert("RGB"))
    return pixels, alpha


def _exif(picture: Image.Image) -> bytes | None:
    """What EXIF says about the photo, not about the file; no orientation, no thumbnail."""
    with suppress(Exception):  # damaged metadata makes Pillow raise anything
        found = picture.getexif()
        exif = Image.Exif()
        exif.update({tag: found[tag] for tag in _KEPT if tag in found})
        details = found.get_ifd(ExifTags.IFD.Exif).items()
        parts = {
            ExifTags.IFD.Exif: {t: v for t, v in details if t in ExifTags.TAGS and t not in _DROPPED},
            ExifTags.IFD.GPSInfo: {
                t: v for t, v in found.get_ifd(ExifTags.IFD.GPSInfo).items() if t in ExifTags.GPSTAGS
            },
        }
        exif.update({tag: part for tag, part in parts.items() if part})
        content = exif.tobytes() if exif else b""
        return content if 0 < len(content) < _SEGMENT else None
    return None


def _xmp(picture: Image.Image) -> bytes | None:
    xmp = picture.info.get("xmp")
    if not isinstance(xmp, bytes) or len(xmp) > _SEGMENT or any(word in xmp for word in _PICTURES_IN_XMP):
        return None
    return _TURN_IN_XMP.sub(b"", xmp)


def write_photo(photo: Photo, path: Path, *, format: str = "png", quality: int = 95) -> None:
    """Write a photo with all that it carries; the file is whole or absent.

    Args:
        photo: what to write.
        path: of the file, whose suffix says nothing.
        format: a name of `FORMATS`. JPEG keeps the colour at full resolution (4:4:4), lossy WebP cannot.
        quality: of JPEG and WebP, 1 to 100.

    Raises:
        IDGuardError: the format cannot hold the photo: its size, or transparency in a JPEG.
    """
    height, width = photo.pixels.shape[:2]
    if max(height, width) > FORMATS[format]:
        raise IDGuardError(
            f"{width} x {height} pixels are too many for {format}, whose sides have at most {FORMATS[format]:,}; "
            "choose png"
        )
    picture = Image.fromarray(photo.pixels)
    if photo.alpha is not None and (format != "jpeg" or photo.alpha.min() < 255):
        if format == "jpeg":
            raise IDGuardError("the photo has transparent parts, which a JPEG cannot hold; choose png or webp")
        picture.putalpha(Image.fromarray(photo.alpha))
    metadata = {"icc_profile": photo.icc_profile, "exif": photo.exif, "xmp": photo.xmp}
    with replacing(path) as temporary:
        picture.save(temporary, **_encoding(format, quality, metadata))


def _encoding(format: str, quality: int, metadata: dict[str, Any]) -> dict[str, Any]:
    """Pillow's options for a format."""
    metadata = {key: value for key, value in metadata.items() if value is not None}
    if format == "jpeg":
        return {"format": "JPEG", "quality": quality, "subsampling": "4:4:4", **metadata}
    if format == "webp":
        return {"format": "WEBP", "quality": quality, **metadata}
    if xmp := metadata.pop("xmp", None):
        metadata["pnginfo"] = PngInfo()
        metadata["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp.decode(errors="replace"))
    return {"format": "PNG", "compress_level": 1, **metadata}  # a fifth of the default's time for 10 % more bytes


def difference(photo: Photo, written: Photo, path: Path) -> int:
    """How many 8-bit levels what was read from `path` differs from a photo at most.

    Raises:
        IDGuardError: it has another size.
    """
    a, b = written.pixels, photo.pixels
    if a.shape != b.shape:
        raise IDGuardError(f"{path} has shape {a.shape}, the photo {b.shape}")
    return max(int((np.maximum(a[r], b[r]) - np.minimum(a[r], b[r])).max()) for r in bands(*a.shape[:2]))

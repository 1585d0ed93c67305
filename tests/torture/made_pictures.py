"""Pictures as cameras, programs and strangers write them, and what an independent decoder says is in them."""

import io
import struct
import warnings
import zlib
from functools import cache
from random import Random
from typing import NamedTuple

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageFile

from tests.photos.test_photos import with_thumbnail
from tests.toys import PORTRAIT

BARE_FACE = b"the bare face"
"""What `with_thumbnail` and the XMP hide; no result may have it."""

MAX_PIXELS, MAX_SIDE, MAX_PROFILE = 100_000_000, 65_535, 1 << 20

MODES = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "JPEG": ("L", "RGB", "CMYK", "YCbCr"),
    "MPO": ("L", "RGB"),
    "TIFF": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "LAB", "I", "F"),
    "WEBP": ("RGB", "RGBA"),
    "GIF": ("1", "L", "P", "RGB", "RGBA"),
    "BMP": ("1", "L", "P", "RGB", "RGBA"),
    "DIB": ("L", "RGB"),
    "PPM": ("1", "L", "RGB", "I;16", "F"),
    "JPEG2000": ("L", "LA", "RGB", "RGBA", "YCbCr", "I;16"),
    "AVIF": ("RGB", "RGBA"),
}
"""What is read, and how Pillow writes it."""

OPENED = [format_ for format_ in MODES if format_ != "MPO"]
"""What Pillow opens as what; an MPO begins as a JPEG."""

SUFFIXES = {"JPEG": ("jpg", "jpeg", "JPG", "jpe", "jfif"), "TIFF": ("tif", "tiff"), "PPM": ("ppm", "pgm", "pnm")}
NOT_READ = ("EPS", "PDF", "ICO", "PCX", "TGA", "SGI", "IM", "MSP", "DDS", "ICNS", "QOI", "SPIDER", "XBM", "BLP", "PALM")
UNKNOWN_RANGE = ("I", "F")
PROFILED = ("RGB", "RGBA", "P")
WITH_EXIF = ("JPEG", "MPO", "PNG", "WEBP", "TIFF", "AVIF")
WITH_XMP = ("JPEG", "PNG", "WEBP", "TIFF", "AVIF")
ANIMATED = ("GIF", "PNG", "WEBP", "TIFF", "AVIF")


class Picture(NamedTuple):
    """Upright 8-bit RGB and transparency (all 255 where there is none), as they must come out."""

    pixels: np.ndarray
    alpha: np.ndarray


class Made(NamedTuple):
    """A file, and the picture that is in it; None where it must be refused."""

    content: bytes
    suffix: str
    picture: Picture | None


def make(random: Random) -> Made:
    """Any file, whole or damaged."""
    kind = random.choice((valid, valid, valid, valid, sixteen_bits, plain_ppm, not_read, animated, too_large))
    made = kind(random)
    if random.random() < 0.35:
        content = damaged(made.content, random)
        made = Made(content, made.suffix, made.picture if content == made.content else decoded(content))
    return made


def content_of(picture: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, **options)
    return buffer.getvalue()


def suffix_of(format_: str, random: Random) -> str:
    return "." + random.choice(SUFFIXES.get(format_, (format_.lower(),))).replace("jpeg2000", "jp2")


@cache
def portrait() -> Image.Image:
    return Image.open(PORTRAIT).convert("RGB").crop((144, 25, 304, 185))


def drawing(random: Random) -> Image.Image:
    """RGBA of a random size: a face, noise, a gradient or one colour, more or less transparent."""
    sides = (1, 2, 3, 7, 16, 33, 64, 100, 160, 301)
    width, height = random.choice(sides), random.choice(sides)
    numbers = np.random.default_rng(random.getrandbits(32))
    kind = random.choice(("face", "noise", "gradient", "flat"))
    if kind == "face":
        pixels = np.asarray(portrait().resize((width, height)))
    elif kind == "noise":
        pixels = numbers.integers(0, 256, (height, width, 3), np.uint8)
    elif kind == "gradient":
        pixels = np.stack(np.broadcast_arrays(*np.ogrid[0 : 255 : height * 1j, 0 : 255 : width * 1j], 90), 2)
    else:
        pixels = np.broadcast_to(numbers.integers(0, 256, 3), (height, width, 3))
    alpha = numbers.integers(0, 256, (height, width, 1), np.uint8) | random.choice((0, 0, 255))
    return Image.fromarray(np.concatenate([pixels.astype(np.uint8), alpha.astype(np.uint8)], 2))


def in_mode(picture: Image.Image, mode: str, random: Random) -> Image.Image:
    if mode == "I;16":
        grey = np.asarray(picture.convert("L")).astype(np.uint16)
        return Image.fromarray(grey * 256 + random.randrange(256))
    if mode in ("P", "1", "F", "I", "YCbCr", "CMYK", "LAB"):
        picture = picture.convert("RGB")
    if mode == "P":
        return picture.quantize(random.choice((2, 7, 256)))
    if mode == "LAB":
        return ImageCms.profileToProfile(
            picture, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
        )
    return picture.convert("L").convert(mode) if mode in ("F", "I") else picture.convert(mode)


def valid(random: Random) -> Made:
    """A format that is read, in one of its modes, with metadata that is right, odd or garbage."""
    format_ = random.choice(list(MODES))
    mode = random.choice(MODES[format_])
    picture = in_mode(drawing(random), mode, random)
    options, orientation, profile = metadata(format_, random)
    if format_ == "TIFF" and mode not in ("1", "LAB") and not options:  # libtiff does not write all metadata
        options["compression"] = random.choice((None, "tiff_lzw", "tiff_deflate", "packbits"))
    if format_ == "WEBP":
        options |= {"lossless": random.choice((True, False)), "exact": True}
    if mode in ("P", "L", "RGB") and format_ == "PNG" and random.random() < 0.3:
        of_palette = random.choice((0, random.randbytes(2)))
        options["transparency"] = {"P": of_palette, "L": 90}.get(mode) or picture.getpixel((0, 0))
    if format_ == "MPO":
        options |= {"save_all": True, "append_images": [picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]}
    content = content_of(picture, format=format_, **options)
    if mode in UNKNOWN_RANGE or (profile > MAX_PROFILE and (format_ == "PNG" or mode in (*PROFILED, "YCbCr"))):
        return Made(content, suffix_of(format_, random), None)
    inside = decoded(content, orientation)
    assert inside is not None, "the reference reads less than it should"
    return Made(content, suffix_of(format_, random), inside)


def metadata(format_: str, random: Random) -> tuple[dict, int | None, int]:
    """Options to save with, the orientation that they mean (None: as XMP has it), the size of the colour profile."""
    options, orientation = {}, 1
    if format_ in WITH_EXIF and random.random() < 0.7:
        options["exif"], orientation = exif(format_, random)
    if format_ in WITH_XMP and random.random() < 0.3:
        turn = random.choice((0, 1, 6, 8))
        options["xmp"] = xmp(turn, random)[: 60_000 if format_ == "JPEG" else None]
        if turn and ("exif" not in options or format_ == "AVIF"):  # which does not write EXIF's 1
            orientation = None
    if format_ in WITH_XMP and random.random() < 0.3:
        srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        options["icc_profile"] = random.choice((srgb, random.randbytes(100), bytes(MAX_PROFILE + 1)))
    return options, orientation, len(options.get("icc_profile", b""))


def exif(format_: str, random: Random) -> tuple[bytes | Image.Exif, int | None]:
    """EXIF, and the orientation that it means; None: none at all."""
    kind = random.choice(("valid", "valid", "valid", "invalid", "garbage", "thumbnail", "huge"))
    orientation = random.randint(1, 8) if kind != "invalid" else random.choice((0, 9, 77, 65_535))
    made = Image.Exif()
    made[ExifTags.Base.Orientation] = orientation
    made[ExifTags.Base.Artist] = "somebody"
    if random.random() < 0.3 and format_ != "TIFF":
        made[ExifTags.IFD.Exif] = {ExifTags.Base.MakerNote: BARE_FACE, ExifTags.Base.ExifImageWidth: 7}
    if kind == "huge":
        made[ExifTags.Base.ImageDescription] = "x" * random.choice((60_000, 64_000))
    orientation = orientation if 1 <= orientation <= 8 else 1
    if format_ == "TIFF":  # its own directory
        return made, orientation
    content = made.tobytes()
    if kind == "thumbnail":
        return with_thumbnail(content), orientation
    if kind == "garbage" and format_ != "AVIF":  # which is not written with it
        return random.choice((b"Exif\0\0" + random.randbytes(40), random.randbytes(9), b"Exif\0\0MM\0*")), None
    return content, orientation


def xmp(orientation: int, random: Random) -> bytes:
    turned = f' tiff:Orientation="{orientation}"' if orientation else ""
    inside = random.choice(("rights", "\0\x01\ufffe", "x" * 70_000, f"<xmpGImg:image>{BARE_FACE.decode()}"))
    if len(inside) > 60_000 and orientation:
        inside = "rights"
    return f"<x:xmpmeta><rdf:Description{turned}>{inside}</rdf:Description></x:xmpmeta>".encode()


def sixteen_bits(random: Random) -> Made:
    """RGB or RGBA, which Pillow does not write."""
    picture = drawing(random)
    values = np.asarray(picture).astype(np.uint16) * 257
    channels = random.choice((3, 4))
    suffix = random.choice((".png", ".tiff"))
    order = [2, 1, 0, 3][:channels]
    content = cv2.imencode(suffix, values[..., order])[1].tobytes()
    alpha = np.asarray(picture)[..., 3] if channels == 4 else np.full(picture.size[::-1], 255, np.uint8)
    return Made(content, suffix, Picture(np.asarray(picture)[..., :3], alpha))


def plain_ppm(random: Random) -> Made:
    """Numbers as text, or with another maximum."""
    picture = drawing(random).convert("RGB")
    pixels = np.asarray(picture)
    head = f"P%d # a comment\n{picture.width} {picture.height}\n"
    if random.random() < 0.5:
        content = (head % 3 + "255\n" + "\n".join(map(str, pixels.flatten()))).encode() + b"\n"
    else:
        content = (head % 6 + "65535\n").encode() + (pixels.astype(">u2") * 257).tobytes()
    return Made(content, ".ppm", Picture(pixels, np.full(pixels.shape[:2], 255, np.uint8)))


def not_read(random: Random) -> Made:
    """Formats that are no photos, or that start programs; under a photo's name, too."""
    texts = (
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"8BPS\0\1\0\0\0\0\0\0\0\3\0\0\0\1\0\0\0\1\0\x08\0\3" + bytes(40),
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n",
        b"GIF89a",
        b"\0" * 4000,
        b"",
        random.randbytes(500),
    )
    if random.random() < 0.4:
        content = random.choice(texts)
    else:
        format_ = random.choice(NOT_READ)
        mode = {"MSP": "1", "XBM": "1", "PALM": "1", "SPIDER": "F", "BLP": "P"}.get(format_, "RGB")
        picture = in_mode(drawing(random), mode, random)
        content = content_of(picture, format=format_)
    return Made(content, random.choice((".jpg", ".png", ".tif")), None)


def animated(random: Random) -> Made:
    format_ = random.choice(ANIMATED)
    picture = drawing(random).convert("RGB")
    frames = [picture.point(lambda value, shift=shift: (value + 80 * shift) % 256) for shift in (1, 2)]
    content = content_of(picture, format=format_, save_all=True, append_images=frames)
    return Made(content, suffix_of(format_, random), None)


def too_large(random: Random) -> Made:
    """A header that asks for gigabytes, or for a side that nobody has; or a picture without pixels."""
    if random.random() < 0.2:
        return Made(whole_but_large(*random.choice(((70_000, 3), (3, 65_536), (20_000, 5_001)))), ".png", None)
    width, height = random.choice(((60_000, 60_000), (20_000, 5_001), (2**31 - 1, 1), (70_000, 3), (3, 65_536), (0, 5)))
    kind = random.choice((bomb_png, bomb_bmp, bomb_ppm, bomb_gif, bomb_jpeg))
    suffix = "." + kind.__name__.removeprefix("bomb_")
    return Made(kind(width, height), suffix, None)


@cache
def whole_but_large(width: int, height: int) -> bytes:
    return content_of(Image.new("1", (width, height)), format="PNG")


def bomb_png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def bomb_bmp(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


def bomb_ppm(width: int, height: int) -> bytes:
    return f"P6 {width} {height} 255\n".encode()


def bomb_gif(width: int, height: int) -> bytes:
    size = struct.pack("<HH", min(width, 65_535), min(height, 65_535) if width else 0)
    return b"GIF89a" + size + b"\0\0\0," + bytes(4) + size + b"\0\x02\0;"


def bomb_jpeg(width: int, height: int) -> bytes:
    content = content_of(Image.new("L", (8, 8)), format="JPEG")
    size = struct.pack(">HH", min(height, 65_535), min(width, 65_535) if height > 5 else 0)
    start = content.index(b"\xff\xc0") + 5
    return content[:start] + size + content[start + 4 :]


def damaged(content: bytes, random: Random) -> bytes:
    """Cut off, with some bytes changed, lost, added or set to zero."""
    at = random.randrange(len(content) + 1)
    some = random.choice((1, 1, 4, 100))
    return random.choice(
        (
            lambda: content[:at],
            lambda: (
                content[:at]
                + bytes(b ^ 1 << random.randrange(8) for b in content[at : at + some])
                + content[at + some :]
            ),
            lambda: content[: min(at, 200)] + random.randbytes(1) + content[min(at, 200) + 1 :],
            lambda: content[:at] + content[at + some :],
            lambda: content[:at] + random.randbytes(some) + content[at:],
            lambda: content[:at] + bytes(len(content[at : at + some])) + content[at + some :],
            lambda: content + random.randbytes(some),
            lambda: content + content,
        )
    )()


def decoded(content: bytes, orientation: int | None = None) -> Picture | None:
    """What Pillow itself reads, turned and converted by tables of our own; None where nothing can be read of it.

    `orientation` is that of an undamaged picture; what is damaged says its own, or has none.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(content), formats=OPENED) as picture:
                large = picture.width * picture.height > MAX_PIXELS or max(picture.size) > MAX_SIDE
                profile = len(picture.info.get("icc_profile") or b"") > MAX_PROFILE and picture.mode in PROFILED
                several = picture.format != "MPO" and getattr(picture, "n_frames", 1) > 1
                unknown = picture.mode in UNKNOWN_RANGE and (picture.mode, picture.format) != ("I", "PPM")
                if large or profile or several or unknown or 0 in picture.size:
                    return None
                picture.load()
                turn = said_orientation(picture) if orientation is None else orientation
                turn = 1 if picture.format == "TIFF" else turn  # Pillow has turned it
                pixels, alpha = rgb_and_alpha(picture)
        except Exception:
            return None
    return Picture(TURNS[turn](pixels), TURNS[turn](alpha))


def said_orientation(picture: ImageFile.ImageFile) -> int:
    try:
        said = picture.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:
        return 1
    return said if said in TURNS else 1


TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a[::-1].swapaxes(0, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a[:, ::-1].swapaxes(0, 1),
}
"""By EXIF's orientation: first row and column of the file are upright's left, top, right or bottom."""


def rgb_and_alpha(picture: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    values = np.asarray(picture)
    opaque = np.full(values.shape[:2], 255, np.uint8)
    transparent = picture.info.get("transparency")
    if picture.mode == "1":
        return np.repeat(values[..., None] * np.uint8(255), 3, 2), opaque
    if picture.mode.startswith("I"):
        return np.repeat(np.rint(np.clip(values / 257, 0, 255)).astype(np.uint8)[..., None], 3, 2), opaque
    if picture.mode == "L":
        alpha = opaque if transparent is None else np.where(values == transparent, 0, opaque)
        return np.repeat(values[..., None], 3, 2), alpha
    if picture.mode == "LA":
        return np.repeat(values[..., :1], 3, 2), values[..., 1]
    if picture.mode == "P":
        return of_palette(picture, values, transparent)
    if picture.mode == "RGB":
        alpha = opaque if transparent is None else np.where((values == transparent).all(2), 0, opaque)
        return values, alpha
    if picture.mode == "CMYK":
        inks = 255 - values.astype(float)
        return np.rint(inks[..., :3] * inks[..., 3:] / 255).astype(np.uint8), opaque
    if picture.mode == "YCbCr":
        y, cb, cr = np.moveaxis(values.astype(float), 2, 0)
        r, g, b = y + 1.402 * (cr - 128), y - 0.344136 * (cb - 128) - 0.714136 * (cr - 128), y + 1.772 * (cb - 128)
        return np.rint(np.clip(np.stack([r, g, b], 2), 0, 255)).astype(np.uint8), opaque
    if picture.mode == "LAB":
        return np.asarray(picture.convert("RGB")), opaque  # by LittleCMS
    values = np.asarray(picture.convert("RGBA"))
    return values[..., :3], values[..., 3]


def of_palette(
    picture: Image.Image, values: np.ndarray, transparent: int | bytes | None
) -> tuple[np.ndarray, np.ndarray]:
    colours = np.zeros((256, 4), np.uint8)
    colours[:, 3] = 255
    known = np.array(picture.getpalette("RGBA"), np.uint8).reshape(-1, 4)
    colours[: len(known)] = known
    if isinstance(transparent, int):
        colours[transparent, 3] = 0
    elif transparent is not None:
        colours[: len(transparent), 3] = np.frombuffer(transparent, np.uint8)
    return colours[values][..., :3], colours[values][..., 3]

"""Photos to upload, and what became of them."""

import numpy as np
from PIL import ExifTags, Image

from tests.toys import PORTRAIT


def with_exif(path):
    """The portrait, with a camera and a place."""
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "N"
    exif[ExifTags.Base.Model] = "camera"
    with Image.open(PORTRAIT) as portrait:
        portrait.save(path, exif=exif)
    return path


def two_faces(path):
    """The portrait, and to its right the portrait at three quarters of its size."""
    portrait = Image.open(PORTRAIT)
    canvas = Image.new("RGB", (900, 512), "gray")
    canvas.paste(portrait, (0, 0))
    canvas.paste(portrait.resize((384, 384)), (512, 0))
    canvas.save(path)
    return path


def difference(path, photo=PORTRAIT):
    return np.asarray(Image.open(path)).astype(int) - np.asarray(Image.open(photo).convert("RGB"))

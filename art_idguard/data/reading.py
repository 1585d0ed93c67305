"""Faces: CelebAMask-HQ, CelebA, LFW, FFHQ, any folder or tar of pictures, decoded once and kept as uint8.

Most sets of faces are small enough to keep whole (10,000 of 128 px are 0.5 GB), so there is no loader: a batch is
an index into tensors that may live on the GPU, or in a file.
"""

import hashlib
import io
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps
from torch import Tensor
from tqdm import tqdm

from art_idguard.data.faces import Faces
from art_idguard.data.pixels import Decoded, decoded, on_disk
from art_idguard.data.sources import Entry, entries
from art_idguard.errors import IDGuardError
from art_idguard.faces.alignment import CELEBA_TEMPLATE, align, template_frame
from art_idguard.faces.detection import FaceDetector
from art_idguard.files.formats import open_picture
from art_idguard.files.photo import Pixels, read_photo
from art_idguard.files.tensors import cached_rows
from art_idguard.images import from_array, to_array
from art_idguard.types import ATTRIBUTES, Attributes, Landmarks

Framing = Literal["resize", "align"]
"""How a picture becomes a square face: its central square resized, or the face warped to CelebA's framing.

Deviates: the official code squashes an oblong picture. The manipulators learn from central squares, as StarGAN's does.
"""


def read_faces(
    source: str | Path,
    *,
    size: int,
    split: str = "train",
    limit: int | None = None,
    framing: Framing = "resize",
    cache: str | Path | None = None,
    decoded_in: str | Path | None = None,
    verbose: bool = True,
) -> Faces:
    """Decode a set of faces and find their five points.

    Examples:
        >>> faces = read_faces("astronaut", size=128)
        >>> faces.batch(slice(1)).images.shape
        torch.Size([1, 3, 128, 128])

    Args:
        source: a folder or tar of pictures (recursively; `<picture>.mask.png` beside a picture is its
            annotation), a data set folder with `<split>*.tar` and perhaps `<split>.csv`, a folder whose
            pictures `<split>.csv` lists (columns file, a path inside the folder or a file name, and attributes
            as 0/1), or CelebA as its site or Kaggle ships it, or CelebAMask-HQ: list_attr_celeba.txt (or .csv),
            list_eval_partition.txt (or .csv) and the pictures, wherever in the folder; or "astronaut", where there is
            no folder of that name: NASA's portrait of Eileen Collins, in the public domain.
        size: side of the faces in pixels.
        split: which part of a data set: train, val, test or what its files are named after. CelebA is split by its
            list_eval_partition.txt, without one as StarGAN does (shuffled, 1,999 rows are test). Folders named
            train, val or test are parts. Else a folder or tar has none: train, val and test are all of it, which a
            line on standard error says of val and test.
        limit: use this many pictures at most, in the order of the source.
        framing: resize the central square of each picture, or warp the face to CelebA's framing at full resolution,
            which leaves annotations out.
        cache: file that keeps the landmarks, so that the next start needs no detector.
        decoded_in: folder that keeps the faces as bytes, of which a batch reads its own, so that a set may be larger
            than memory, and the next start decodes nothing.
        verbose: show a progress bar of the search for faces, where they are many.

    Faces that the detector does not find are left out, with a warning.

    Raises:
        IDGuardError: there is no picture, none with a face, or one that cannot be read; see also `sources.entries`.
    """
    found = entries(Path(source), split, limit)
    kept = decoded(decoded_in, [entry.name for entry in found], size, framing)
    annotated = framing == "resize" and all(entry.mask is not None for entry in found)
    annotation = torch.zeros(len(found), size, size, dtype=torch.uint8) if annotated else None

    def decode(i: int, entry: Entry) -> str:
        content = _content(entry)
        oblong = _decode(entry, content, kept, i, framing)
        if annotation is not None:
            annotation[i] = _classes(entry, size)
        # Points of oblong pictures may be kept from versions that squashed them.
        shape = "-square" if framing == "resize" and oblong else ""
        return f"{hashlib.sha256(content).hexdigest()[:16]}-{size}-{framing}{shape}"

    files = _each(found, decode)
    return _with_landmarks(
        Faces(
            names=tuple(entry.name for entry in found),
            images=kept.images,
            attributes=torch.tensor([entry.attributes for entry in found]),
            landmarks=torch.zeros(len(found), 5, 2),
            annotation=annotation,
            files=tuple(files),
            rows=torch.arange(len(found)) if on_disk(kept.images) else None,
        ),
        cache,
        verbose=verbose,
    )


def faces_of(images: UInt8[Tensor, "N 3 S S"], attributes: Attributes | None = None) -> Faces:
    """Square pictures in memory as a set of faces; those in which no face is found are left out, with a warning.

    Raises:
        IDGuardError: no picture has a face.
    """
    names = tuple(f"picture {i}" for i in range(len(images)))
    labels = images.new_zeros(len(images), len(ATTRIBUTES), dtype=torch.float32) if attributes is None else attributes
    return _with_landmarks(Faces(names, images, labels, landmarks=torch.zeros(len(images), 5, 2)), None, verbose=False)


def read_labelled(
    source: str | Path,
    *,
    attributes: Sequence[str],
    size: int,
    split: str = "train",
    limit: int | None = None,
    decoded_in: str | Path | None = None,
) -> tuple[UInt8[Tensor, "N 3 S S"], Float[Tensor, "N A"]]:
    """Pictures, the central square of each, and their labels; needs no detector.

    Args:
        source: as for `read_faces`.
        attributes: what the labels (0/1) say, in this order.
        size: side of the pictures in pixels.
        split: which part of a data set, as for `read_faces`.
        limit: use this many pictures at most, in the order of the source.
        decoded_in: folder that keeps the pictures as bytes, as for `read_faces`; see `pixels.taken`.

    Raises:
        IDGuardError: there is no picture, or one without labels or that cannot be read; see also `sources.entries`.
    """
    found = entries(Path(source), split, limit, required=attributes)
    kept = decoded(decoded_in, [entry.name for entry in found], size, "resize")
    _each(found, lambda i, entry: _decode(entry, _content(entry), kept, i, "resize"))
    return kept.images, torch.tensor([entry.attributes for entry in found])


Result = TypeVar("Result")


def _each(found: Sequence[Entry], decode: Callable[[int, Entry], Result]) -> list[Result]:
    with ThreadPoolExecutor() as pool:
        return list(pool.map(decode, range(len(found)), found))


def _decode(entry: Entry, content: bytes, kept: Decoded, i: int, framing: Framing) -> bool:
    """Put the face in its place, unless it is there; whether the picture is oblong."""
    number = 2 * int.from_bytes(hashlib.sha256(content).digest()[:7], "little")  # and 1 for an oblong picture
    if (known := int(kept.of[i])) not in (number, number + 1):
        pixels = _pixels(entry, content)
        face = _framed(pixels, kept.images.shape[-1], framing)
        kept.images[i] = 0 if face is None else face  # black, wherein no face is found
        kept.of[i] = known = number + (pixels.shape[0] != pixels.shape[1])
    return known != number


def _square(picture: Image.Image, size: int, method: Image.Resampling = Image.Resampling.BILINEAR) -> Image.Image:
    """The central square, resized: the one geometry of oblong pictures."""
    return ImageOps.fit(picture, (size, size), method)


def _channels_first(picture: Image.Image) -> UInt8[Tensor, "3 S S"]:
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def _content(entry: Entry) -> bytes:
    try:
        return entry.read()
    except OSError as error:
        raise IDGuardError(f"cannot read {entry.name}: {error}") from error


def _pixels(entry: Entry, content: bytes) -> Pixels:
    try:
        return read_photo(Path(entry.name), content).pixels
    except IDGuardError as error:
        raise IDGuardError(f"{error}, or take it out of the data set") from error


def _framed(pixels: Pixels, size: int, framing: Framing) -> UInt8[Tensor, "3 S S"] | None:
    """The square face, or None where aligning needs a face and there is none."""
    if framing == "align":
        if (face := FaceDetector().largest(pixels)) is None:
            return None
        landmarks = torch.from_numpy(face.landmarks)[None]
        frame = template_frame(landmarks, (pixels.shape[0], pixels.shape[1]), CELEBA_TEMPLATE)
        pixels = to_array(align(from_array(pixels[None]), frame, size, antialias=True))[0]
    return _channels_first(_square(Image.fromarray(pixels), size))


def _classes(entry: Entry, size: int) -> UInt8[Tensor, "S S"]:
    """The annotation of a picture that has one."""
    assert entry.mask is not None
    try:
        picture = open_picture(io.BytesIO(entry.mask()), Path(entry.name))
        index = _square(picture, size, Image.Resampling.NEAREST)
        return torch.from_numpy(np.array(index)).reshape(size, size).to(torch.uint8)
    except Exception as error:  # as for photos, damaged files make decoders raise anything
        raise IDGuardError(
            f"the annotation of {entry.name} is no readable index picture ({error}); mend it, or take both out"
        ) from error


def _with_landmarks(faces: Faces, cache: str | Path | None, *, verbose: bool) -> Faces:
    def found(missing: list[int]) -> Landmarks:
        detector = FaceDetector()
        shown = tqdm(missing, "finding faces", disable=not verbose or len(missing) < BAR_FROM)
        # One by one: they may be more than memory holds.
        return torch.stack([_points(faces.pixels(torch.tensor([i]))[0], detector) for i in shown])

    landmarks = cached_rows(cache, "points", faces.content_ids(), found)
    has_face = landmarks.isfinite().all(dim=(1, 2)).tolist()
    lost = [name for name, known in zip(faces.names, has_face, strict=True) if not known]
    if len(lost) == len(faces):
        raise IDGuardError(f"no face found in the {len(faces)} pictures, {faces.names[0]} the first")
    if lost:
        names = ", ".join(lost[:3]) + (", ..." if len(lost) > 3 else "")
        warnings.warn(f"{len(lost)} of {len(faces)} pictures left out: no face found ({names})", stacklevel=3)
    return replace(faces, landmarks=landmarks).select([i for i, known in enumerate(has_face) if known])


BAR_FROM = 500
"""Pictures from which on the search for faces takes long enough for a progress bar."""


def find_landmarks(images: UInt8[Tensor, "N 3 H W"]) -> Landmarks:
    """The five points of the largest face of each picture; NaN where there is none."""
    detector, found = FaceDetector(), torch.full((len(images), 5, 2), torch.nan)
    for i, image in enumerate(images):
        found[i] = _points(image, detector)
    return found


def _points(image: UInt8[Tensor, "3 H W"], detector: FaceDetector) -> Float[Tensor, "5 2"]:
    face = detector.largest(image.permute(1, 2, 0).numpy())
    return torch.from_numpy(face.landmarks) if face else torch.full((5, 2), torch.nan)

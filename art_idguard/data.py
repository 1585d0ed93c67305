"""Faces: CelebAMask-HQ, CelebA, LFW, FFHQ, any folder or tar of pictures, decoded once and kept as uint8.

A set of faces is small enough to keep whole (10,000 of 128 px are 0.5 GB), so there is no loader: a batch is
an index into tensors that may live on the GPU.
"""

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps
from safetensors.torch import load_file
from torch import Tensor
from tqdm import tqdm

from art_idguard.errors import IDGuardError
from art_idguard.faces import CELEBA_TEMPLATE, FaceDetector, align, template_frame
from art_idguard.hub import save_atomically
from art_idguard.images import from_array, from_uint8, to_array
from art_idguard.sources import SUFFIXES, Entry, entries
from art_idguard.types import ATTRIBUTES, Attributes, Images, Points

Framing = Literal["resize", "align"]
"""How a picture becomes a square face: resized whole (official code), or warped to CelebA's framing."""


class FaceBatch(NamedTuple):
    """Some faces on the [-1, 1] scale with what training and evaluation know of them."""

    images: Images
    attributes: Attributes
    points: Points
    heat: Float[Tensor, "B 1 h w"] | None
    """Heat map on the recogniser's own grid, see regions.heat_map."""
    annotation: UInt8[Tensor, "B H W"] | None
    """CelebAMask-HQ classes of the pixels, where the data set has them."""


@dataclass(frozen=True)
class Faces:
    """A set of N square faces in memory."""

    names: tuple[str, ...]
    images: UInt8[Tensor, "N 3 S S"]
    attributes: Attributes
    points: Points
    heat: Float[Tensor, "N 1 h w"] | None = None
    annotation: UInt8[Tensor, "N S S"] | None = None
    files: tuple[str, ...] = ()
    """What each picture was made from: unlike pixels, the same under every version of the JPEG decoder."""

    def __len__(self) -> int:
        return len(self.names)

    @property
    def size(self) -> int:
        """Side of the faces in pixels."""
        return self.images.shape[-1]

    def batch(self, index: Tensor | slice) -> FaceBatch:
        """The faces at `index`, on the device of the set."""
        return FaceBatch(
            from_uint8(self.images[index]),
            self.attributes[index],
            self.points[index],
            None if self.heat is None else self.heat[index],
            None if self.annotation is None else self.annotation[index],
        )

    def batches(self, size: int) -> Iterator[FaceBatch]:
        """All faces in order, `size` at a time."""
        for start in range(0, len(self), size):
            yield self.batch(slice(start, start + size))

    def select(self, keep: list[int]) -> "Faces":
        """The faces at these positions."""
        texts = {f: tuple(getattr(self, f)[i] for i in keep) for f in ("names", "files") if getattr(self, f)}
        return self._each(lambda t: t[keep], **texts)

    def digest(self) -> str:
        """A name for these very faces, in this order."""
        content = " ".join(self.files).encode() or self.images.cpu().numpy().tobytes()
        return hashlib.sha256(content).hexdigest()[:16]

    def to(self, device: torch.device | str) -> "Faces":
        """The set on another device."""
        return self._each(lambda t: t.to(device))

    def _each(self, change: Callable[[Tensor], Tensor], **others: Any) -> "Faces":
        tensors = ((f.name, getattr(self, f.name)) for f in fields(self) if f.name not in ("names", "files"))
        changed: dict[str, Any] = {name: None if t is None else change(t) for name, t in tensors}
        return replace(self, **changed, **others)


def read_faces(
    source: str | Path,
    *,
    size: int,
    split: str = "train",
    limit: int | None = None,
    framing: Framing = "resize",
    regions: str | Path | None = None,
) -> Faces:
    """Decode a set of faces and find their five points.

    Args:
        source: a folder or tar of pictures (recursively; `<picture>.mask.png` beside a picture is its
            annotation), a data set folder with `<split>*.tar` and perhaps `<split>.csv` (columns file,
            and attributes as 0/1), or CelebA's or CelebAMask-HQ's own layout.
        size: side of the faces in pixels.
        split: which part of a data set folder.
        limit: use this many pictures at most, in the order of the source.
        framing: resize the whole picture, or warp the face to CelebA's framing at full resolution.
        regions: file that keeps the points, so that the next start needs no detector.

    Faces that the detector does not find are left out.

    Raises:
        IDGuardError: there is no picture, or none with a face.
    """
    found = list(entries(Path(source), split, limit))
    if not found:
        raise IDGuardError(f"no pictures in {source} (split {split!r}); expected {', '.join(SUFFIXES)} files")
    with ThreadPoolExecutor() as pool:
        decoded = list(pool.map(lambda e: _decode(e, size, framing), found))
    faces = [(entry, *face) for entry, face in zip(found, decoded, strict=True) if face is not None]
    if not faces:
        raise IDGuardError(f"no face found in the {len(found)} pictures of {source}")
    chosen, images, masks = zip(*faces, strict=True)
    return _with_points(
        Faces(
            names=tuple(entry.name for entry in chosen),
            images=torch.stack(images),
            attributes=torch.tensor([entry.attributes for entry in chosen]),
            points=torch.zeros(len(faces), 5, 2),
            annotation=torch.stack(masks) if all(mask is not None for mask in masks) else None,
            files=tuple(_fingerprint(entry, size, framing) for entry in chosen),
        ),
        regions,
    )


def faces_of(images: UInt8[Tensor, "N 3 S S"], attributes: Attributes | None = None) -> Faces:
    """Square pictures in memory as a set of faces; those in which no face is found are left out.

    Raises:
        IDGuardError: no picture has a face.
    """
    names = tuple(f"picture {i}" for i in range(len(images)))
    labels = images.new_zeros(len(images), len(ATTRIBUTES), dtype=torch.float32) if attributes is None else attributes
    return _with_points(Faces(names, images, labels, points=torch.zeros(len(images), 5, 2)), regions=None)


def read_labelled(
    source: str | Path, *, attributes: Sequence[str], size: int, split: str = "train", limit: int | None = None
) -> tuple[UInt8[Tensor, "N 3 S S"], Float[Tensor, "N A"]]:
    """Pictures, cropped to their central square, and their labels; needs no detector.

    Args:
        source: as for `read_faces`.
        attributes: what the labels (0/1) say, in this order.
        size: side of the pictures in pixels.
        split: which part of a data set folder.
        limit: use this many pictures at most, in the order of the source.

    Raises:
        IDGuardError: there is no picture, or one without labels.
    """
    found = list(entries(Path(source), split, limit, required=attributes, masks=False))
    if not found:
        raise IDGuardError(f"no pictures in {source} (split {split!r}); expected {', '.join(SUFFIXES)} files")
    with ThreadPoolExecutor() as pool:
        images = list(pool.map(lambda entry: _square(_open(entry), size), found))
    return torch.stack(images), torch.tensor([entry.attributes for entry in found])


def _square(picture: Image.Image, size: int) -> UInt8[Tensor, "3 S S"]:
    array = np.array(ImageOps.fit(picture, (size, size), Image.Resampling.BILINEAR))
    return torch.from_numpy(array).permute(2, 0, 1)


def _fingerprint(entry: Entry, size: int, framing: Framing) -> str:
    return f"{hashlib.sha256(entry.picture).hexdigest()[:16]}-{size}-{framing}"


def _decode(entry: Entry, size: int, framing: Framing) -> tuple[Tensor, Tensor | None] | None:
    """Picture and annotation as uint8, or None where aligning needs a face and there is none."""
    picture = _open(entry)
    if framing == "align":
        array = np.asarray(picture)
        if not (found := FaceDetector().detect(array)):
            return None
        points = torch.from_numpy(found[0].points)[None]
        frame = template_frame(points, (array.shape[0], array.shape[1]), CELEBA_TEMPLATE)
        face = align(from_array(array[None]), frame, size, antialias=True)
        picture = Image.fromarray(to_array(face)[0])
    image = torch.from_numpy(np.array(picture.resize((size, size), Image.Resampling.BILINEAR)))
    mask = None
    if entry.mask is not None:
        labels = Image.open(io.BytesIO(entry.mask)).resize((size, size), Image.Resampling.NEAREST)
        mask = torch.from_numpy(np.array(labels))
    return image.permute(2, 0, 1), mask


def _open(entry: Entry) -> Image.Image:
    try:
        return ImageOps.exif_transpose(Image.open(io.BytesIO(entry.picture))).convert("RGB")
    except (OSError, ValueError) as error:
        raise IDGuardError(f"{entry.name} is no readable picture: {error}") from error


def _with_points(faces: Faces, regions: str | Path | None) -> Faces:
    points = cached(regions, f"points.{faces.digest()}", lambda: find_points(faces.images))
    keep = points.isfinite().all(dim=(1, 2)).nonzero().flatten().tolist()
    if not keep:
        raise IDGuardError(f"no face found in the {len(faces)} pictures, {faces.names[0]} the first")
    return replace(faces, points=points).select(keep)


def find_points(images: UInt8[Tensor, "N 3 H W"]) -> Points:
    """The five points of the most certain face of each picture; NaN where there is none."""
    detector = FaceDetector()
    points = torch.full((len(images), 5, 2), torch.nan)
    for i, image in enumerate(tqdm(images, desc="finding faces", disable=len(images) < 500)):
        if found := detector.detect(image.permute(1, 2, 0).numpy()):
            points[i] = torch.from_numpy(found[0].points)
    return points


def cached(path: str | Path | None, key: str, compute: Callable[[], Tensor]) -> Tensor:
    """`compute()`, or what an earlier call kept under `key` in the safetensors file at `path`."""
    path = None if path is None else Path(path)
    kept = load_file(path) if path is not None and path.is_file() else {}
    if key not in kept:
        kept[key] = compute()
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_atomically(kept, path)
    return kept[key]

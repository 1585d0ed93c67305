"""Faces as tensors, and a batch of them."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from art_idguard.images import from_uint8
from art_idguard.types import Attributes, Images, Landmarks


class FaceBatch(NamedTuple):
    """Some faces on the [-1, 1] scale with what training and evaluation know of them."""

    images: Images
    attributes: Attributes
    landmarks: Landmarks
    heat: Float[Tensor, "B 1 h w"] | None
    """Heat map on the recogniser's own grid, see regions.heat_map."""
    annotation: UInt8[Tensor, "B H W"] | None
    """CelebAMask-HQ classes of the pixels, where the data set has them."""

    def at(self, rows: Int64[Tensor, " R"]) -> "FaceBatch":
        """Some of the faces."""
        heat, annotation = (None if known is None else known[rows] for known in (self.heat, self.annotation))
        return FaceBatch(self.images[rows], self.attributes[rows], self.landmarks[rows], heat, annotation)


@dataclass(frozen=True)
class Faces:
    """A set of N square faces."""

    names: tuple[str, ...]
    images: UInt8[Tensor, "M 3 S S"]
    attributes: Attributes
    landmarks: Landmarks
    heat: Float[Tensor, "N 1 h w"] | None = None
    annotation: UInt8[Tensor, "N S S"] | None = None
    files: tuple[str, ...] = ()
    """What each picture was made from: unlike pixels, the same under every version of the JPEG decoder."""
    rows: Int64[Tensor, " N"] | None = None
    """Where in `images` each face is, which are on disk then and stay there; None: face i is row i, and M is N."""

    def __len__(self) -> int:
        return len(self.names)

    @property
    def size(self) -> int:
        """Side of the faces in pixels."""
        return self.images.shape[-1]

    @property
    def device(self) -> torch.device:
        """Where batches are."""
        return self.attributes.device

    def pixels(self, index: Tensor | slice) -> UInt8[Tensor, "B 3 S S"]:
        """The bytes of the faces at `index`, on the device of the set."""
        if self.rows is None:
            return self.images[index]
        rows = self.rows[index if isinstance(index, slice) else index.cpu()]
        return self.images[rows].to(self.device)

    def batch(self, index: Tensor | slice) -> FaceBatch:
        """The faces at `index`, on the device of the set."""
        return FaceBatch(
            from_uint8(self.pixels(index)),
            self.attributes[index],
            self.landmarks[index],
            None if self.heat is None else self.heat[index],
            None if self.annotation is None else self.annotation[index],
        )

    def batches(self, size: int) -> Iterator[FaceBatch]:
        """All faces in order, `size` at a time."""
        for start in range(0, len(self), size):
            yield self.batch(slice(start, start + size))

    def select(self, keep: list[int]) -> "Faces":
        """The faces at these positions; the set itself, and no copy, where these are all."""
        if keep == list(range(len(self))):
            return self
        others: dict[str, Any] = {
            f: tuple(getattr(self, f)[i] for i in keep) for f in ("names", "files") if getattr(self, f)
        }
        if self.rows is not None:
            others["rows"] = self.rows[keep]
        return self._each(lambda t: t[keep], **others)

    def digest(self) -> str:
        """A name for these very faces, in this order."""
        content = " ".join(self.files).encode() or self.images.cpu().numpy().tobytes()
        return hashlib.sha256(content).hexdigest()[:16]

    def labelled_digest(self) -> str:
        """The same of faces and their labels, on which edits depend."""
        labels = self.attributes.cpu().numpy().tobytes()
        return hashlib.sha256(self.digest().encode() + labels).hexdigest()[:16]

    def content_ids(self) -> list[int]:
        """A number of 64 bits for each face, the same wherever the same picture is read with the same settings."""
        texts = (file.encode() for file in self.files)
        contents = texts if self.files else (image.cpu().numpy().tobytes() for image in self.images)
        return [int.from_bytes(hashlib.sha256(c).digest()[:8], "little", signed=True) for c in contents]

    def to(self, device: torch.device | str) -> "Faces":
        """The set on another device."""
        return self._each(lambda t: t.to(device))

    def _each(self, change: Callable[[Tensor], Tensor], **others: Any) -> "Faces":
        stays = ("names", "files", "rows", *(() if self.rows is None else ("images",)))
        tensors = ((f.name, getattr(self, f.name)) for f in fields(self) if f.name not in stays)
        changed: dict[str, Any] = {name: None if t is None else change(t) for name, t in tensors}
        return replace(self, **changed, **others)

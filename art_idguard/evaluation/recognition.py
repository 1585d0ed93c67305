"""Fig. 11: whether recognition systems still find the person in a forgery (section IV-D1)."""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from art_idguard.baselines.base import Protection
from art_idguard.data.faces import FaceBatch, Faces
from art_idguard.evaluation.config import Edits
from art_idguard.evaluation.turns import forgeries
from art_idguard.faces.alignment import arcface_frame
from art_idguard.manipulators.base import Manipulator
from art_idguard.recognizers.base import Recognizer
from art_idguard.types import Images, Landmarks

UNPROTECTED = "no protection"
"""The row of forgeries of the photos themselves: what a system misses by itself."""

IDENTIFIED = "identification"
"""The nearest of all who are enrolled is the person."""

Cell = tuple[str, str, str]
"""Protection, manipulator, and system with its way."""


@runtime_checkable
class RecognitionSystem(Protocol):
    """Who recognises people: a recogniser of this package (`LocalSystem`), or a service behind these two methods.

    No service is called by this package; whoever has access to one writes a class with `name`, `enrol` and
    `recognised`, and gives it to `misdirections`.
    """

    name: str

    def enrol(self, faces: Images, landmarks: Landmarks, names: Sequence[str]) -> None:
        """Take photos, on the [-1, 1] scale, of people of these names into the gallery."""

    def recognised(self, faces: Images, landmarks: Landmarks, names: Sequence[str]) -> Mapping[str, Bool[Tensor, " B"]]:
        """By way of recognising, such as identification, whether each face is taken for the person of that name."""


class LocalSystem:
    """Identification by the nearest of a gallery, and verification at thresholds, by a recogniser's cosine.

    Args:
        name: of the system.
        recognizer: frozen.
        thresholds: by false accept rate, the cosine from which on two faces are one person; see `calibration`.
    """

    def __init__(self, name: str, recognizer: Recognizer, thresholds: Mapping[str, float]) -> None:
        self.name, self.recognizer, self.thresholds = name, recognizer, thresholds
        self.names: list[str] = []
        self.gallery: list[Tensor] = []

    def enrol(self, faces: Images, landmarks: Landmarks, names: Sequence[str]) -> None:
        """One photo for each name."""
        self.gallery.append(self._embedded(faces, landmarks))
        self.names += names

    def recognised(self, faces: Images, landmarks: Landmarks, names: Sequence[str]) -> Mapping[str, Bool[Tensor, " B"]]:
        """By identification, and by verification at each false accept rate."""
        alike = self._embedded(faces, landmarks) @ torch.cat(self.gallery).T
        own = torch.tensor([self.names.index(name) for name in names], device=alike.device)
        similarity = alike.gather(1, own[:, None])[:, 0]
        found = {IDENTIFIED: alike.argmax(dim=1) == own}
        return found | {f"verification, FAR {far}": similarity >= limit for far, limit in self.thresholds.items()}

    def _embedded(self, faces: Images, landmarks: Landmarks) -> Float[Tensor, "B D"]:
        frame = arcface_frame(landmarks, (faces.shape[-2], faces.shape[-1]))
        return F.normalize(self.recognizer(faces, frame))


def misdirections(
    protections: Mapping[str, Protection],
    manipulators: Mapping[str, Manipulator],
    faces: Faces,
    systems: Sequence[RecognitionSystem],
    *,
    strangers: Faces | None = None,
    edits: Edits = "cycle",
    batch_size: int = 16,
    verbose: bool = False,
) -> dict[Cell, Float[Tensor, "N E"]]:
    """1 where a system does not take the forgery for the person whose photo was forged, 0 where it does.

    Args:
        protections: by row, as `evaluate` takes them; the row `UNPROTECTED` comes first by itself.
        manipulators: frozen, by name.
        faces: on the device of the networks; each is a person of its own, and enrolled as the photo is.
        systems: with empty galleries.
        strangers: enrolled as well, each a person of its own.
        edits: every edit for every face, or one: face i, edit i modulo their number.
        batch_size: faces at a time.
        verbose: show a progress bar.
    """
    for group, people in (("face", faces), ("stranger", strangers)):
        for start in range(0, 0 if people is None else len(people), batch_size):
            batch = people.batch(slice(start, start + batch_size))  # type: ignore[union-attr]  # no turn without
            names = [f"{group} {start + i}" for i in range(len(batch.images))]
            with torch.no_grad():
                for system in systems:
                    system.enrol(batch.images, batch.landmarks, names)
    rows = {UNPROTECTED: _itself, **protections}
    found: dict[Cell, list[Tensor]] = {}
    for start in tqdm(range(0, len(faces), batch_size), "batches of faces", disable=not verbose):
        batch = faces.batch(slice(start, start + batch_size))
        for row, protect in rows.items():
            images = protect(batch).detach()
            for name, manipulator in manipulators.items():
                for way, missed in _missed(images, manipulator, batch, systems, start, edits).items():
                    found.setdefault((row, name, way), []).append(missed.cpu())
    return {cell: torch.cat(parts) for cell, parts in found.items()}


def _itself(batch: FaceBatch) -> Images:
    return batch.images


@torch.no_grad()
def _missed(
    images: Images,
    manipulator: Manipulator,
    batch: FaceBatch,
    systems: Sequence[RecognitionSystem],
    start: int,
    edits: Edits,
) -> dict[str, Float[Tensor, "B E"]]:
    """Of each system and way: 1 for each face and edit whose forgery it does not recognise."""
    forged = forgeries(manipulator, images, batch.attributes, start, edits)
    times = forged.shape[1]
    names = [f"face {start + i}" for i in range(len(images)) for _ in range(times)]
    landmarks = batch.landmarks.repeat_interleave(times, dim=0)
    return {
        f"{system.name}, {way}": (~found).float().unflatten(0, (len(images), times))
        for system in systems
        for way, found in system.recognised(forged.flatten(0, 1), landmarks, names).items()
    }

"""Pictures beside tables: forgeries of clean, protected and attacked faces."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from art_idguard.baselines.base import Protection
from art_idguard.baselines.disrupting import white_box
from art_idguard.data.faces import FaceBatch, Faces
from art_idguard.faces.alignment import celeba_landmarks
from art_idguard.files.grid import save_grid
from art_idguard.manipulators.base import Manipulator
from art_idguard.types import ATTRIBUTES, Edit, Images


@torch.no_grad()
def forged_pictures(
    protected: Mapping[str, Images], manipulators: Mapping[str, Manipulator], batch: FaceBatch
) -> dict[str, list[Float[Tensor, "3 S S"]]]:
    """One row for each manipulator, face and edit in turn, by what it shows; `columns` are the row's pictures."""
    rows = {}
    for k, (name, manipulator) in enumerate(manipulators.items()):
        i = k % len(batch.images)
        edits = manipulator.edits(batch.attributes[i : i + 1])
        photos = torch.stack([batch.images[i], *(images[i] for images in protected.values())])
        edit = edits[k % len(edits)]
        forged = manipulator(photos, Edit(edit.name, edit.condition.expand(len(photos), -1))).output
        rows[f"{name}, {edit.name}"] = [photos[0], *forged, 10 * (photos[1] - photos[0])]
    return rows


def columns(protected: Iterable[str]) -> list[str]:
    """Photo, its forgery, that of each protected photo, and the first protection's perturbation x10."""
    names = list(protected)
    return ["photo", "forged", *(f"forged under {name}" for name in names), f"perturbation of {names[0]} x10"]


def save_pictures(
    path: Path,
    protections: Mapping[str, Protection],
    manipulators: Mapping[str, Manipulator],
    faces: Faces,
) -> None:
    """Write `forged_pictures` of the first faces as one PNG."""
    batch = faces.batch(slice(len(manipulators)))
    protected = {name: protect(batch).detach() for name, protect in protections.items()}
    rows = forged_pictures(protected, manipulators, batch)
    save_grid(path, list(rows.values()), captions=list(rows), columns=columns(protected))


def save_edits(path: Path, manipulator: Manipulator, face: Images) -> None:
    """Write one face of unknown labels and its forgery by every edit; below, the same of the face under PGD.

    PGD is a white box of 10 steps against that very edit.
    """
    attack = white_box(epsilon=0.05, steps=10)
    landmarks = celeba_landmarks((face.shape[-2], face.shape[-1])).to(face)
    batch = FaceBatch(face, face.new_zeros(1, len(ATTRIBUTES)), landmarks, None, None)
    edits = manipulator.edits(batch.attributes)
    attacked = [attack(manipulator, edit, batch) for edit in edits]
    with torch.no_grad():
        rows = [
            [face, *(manipulator(face, edit).output for edit in edits)],
            [attacked[0], *(manipulator(x, edit).output for x, edit in zip(attacked, edits, strict=True))],
        ]
    names = " | ".join(edit.name for edit in edits)
    captions = [f"photo | {names}", "the same under PGD against each edit (white box, epsilon 0.05, 10 steps)"]
    save_grid(path, [[picture[0] for picture in row] for row in rows], captions=captions)

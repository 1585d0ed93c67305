"""The picture beside an evaluation's table: what the manipulators make of photos and of protected photos."""

from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from art_idguard.baselines import Protection
from art_idguard.data import FaceBatch, Faces
from art_idguard.grid import save_grid
from art_idguard.manipulators.base import Manipulator
from art_idguard.types import Edit, Images


@torch.no_grad()
def forged_pictures(
    protected: Mapping[str, Images], manipulators: Mapping[str, Manipulator], batch: FaceBatch
) -> list[list[Float[Tensor, "3 S S"]]]:
    """One row for each manipulator, face and edit in turn.

    Photo, forged, disrupted by each protection, and the first protection's perturbation x10.
    """
    rows = []
    for k, manipulator in enumerate(manipulators.values()):
        i = k % len(batch.images)
        edits = manipulator.edits(batch.attributes[i : i + 1])
        photos = torch.stack([batch.images[i], *(images[i] for images in protected.values())])
        edit = edits[k % len(edits)]
        forged = manipulator(photos, Edit(edit.name, edit.condition.expand(len(photos), -1))).output
        rows.append([photos[0], *forged, 10 * (photos[1] - photos[0])])
    return rows


def save_pictures(
    path: Path,
    protections: Mapping[str, Protection],
    manipulators: Mapping[str, Manipulator],
    faces: Faces,
) -> None:
    """Write `forged_pictures` of the first faces as one PNG."""
    batch = faces.batch(slice(len(manipulators)))
    protected = {name: protect(batch).detach() for name, protect in protections.items()}
    save_grid(path, forged_pictures(protected, manipulators, batch))

"""The paper's figures that show faces: Fig. 12 and 17."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from art_idguard import manipulators
from art_idguard.data.faces import FaceBatch
from art_idguard.evaluation.document import Picture
from art_idguard.files.grid import save_grid
from art_idguard.perturbation import Protector
from art_idguard.restorers import Restored
from art_idguard.restorers import find as find_restorer


@torch.no_grad()
def save_perturbations(path: Path, guards: Mapping[str, Path], face: FaceBatch) -> Picture:
    """Fig. 17: what each protector adds to a face."""
    lines = []
    for folder in guards.values():
        protected = Protector.from_pretrained(folder).eval()(face.images).specific
        lines.append([face.images[0], protected[0], 10 * (protected - face.images)[0]])
    save_grid(path, lines, captions=list(guards), columns=["photo", "protected", "perturbation x10"])
    return Picture(path, "Of the first face, what each protector adds to it.")


@torch.no_grad()
def save_inpainted(
    path: Path, guard: Path, targets: Sequence[str], restorers: Sequence[str], face: FaceBatch
) -> Picture:
    """Fig. 12: forgeries of a face, of the protected face, and the latter inpainted; a manipulator a row."""
    protected = Protector.from_pretrained(guard).eval()(face.images).specific
    lines = {}
    for target in targets:
        manipulator = manipulators.load(target)
        edit = manipulator.edits(face.attributes)[0]
        restored = [Restored(manipulator, find_restorer(name)) for name in restorers]
        forged = [manipulator(face.images, edit), *(model(protected, edit) for model in (manipulator, *restored))]
        lines[f"{manipulator.name}, {edit.name}"] = [face.images[0], *(of.output[0] for of in forged)]
    columns = ["photo", "forged", "protected, forged", *restorers]
    save_grid(path, list(lines.values()), captions=list(lines), columns=columns)
    return Picture(path, "Fig. 12: the first face, protected by the last row's protector, forged, and inpainted.")

"""Which edit each manipulator makes of each face of a step."""

from collections.abc import Sequence

import torch
from jaxtyping import Int64
from torch import Tensor

from art_idguard.manipulators.base import Manipulator
from art_idguard.types import Attributes, Edit, sent


def edits_of(
    targets: Sequence[Manipulator], attributes: Attributes, step: int, places: Int64[Tensor, " B"]
) -> tuple[list[Edit], list[Int64[Tensor, " B"]]]:
    """An edit for each face and manipulator, in turn from face to face and from step to step, and its number.

    Deviates: the official code gives all faces of a step the same edit, as is done here where a manipulator can do no
    other (`Manipulator.mixes_edits`).

    Args:
        targets: the manipulators.
        attributes: of this process's faces.
        step: of the training.
        places: of the faces in the step's whole batch.
    """
    chosen, choices = [], []
    for target in targets:
        edits = target.edits(attributes)
        if target.mixes_edits:
            choice = sent((step + places) % len(edits), attributes.device)
            conditions = torch.stack([edit.condition for edit in edits])
            chosen.append(Edit("mixed", conditions[choice, torch.arange(len(choice), device=choice.device)]))
        else:
            choice = torch.full((len(places),), step % len(edits))
            chosen.append(edits[step % len(edits)])
        choices.append(choice)
    return chosen, choices

"""Forgeries of faces under every edit, or each face under the edit whose turn it is."""

import torch
from jaxtyping import Float
from torch import Tensor

from art_idguard.evaluation.config import Edits
from art_idguard.manipulators.base import Manipulator
from art_idguard.types import Attributes, Edit, Images

Forgeries = Float[Tensor, "B E 3 H W"]


def forgeries(manipulator: Manipulator, images: Images, attributes: Attributes, first: int, edits: Edits) -> Forgeries:
    """What a manipulator makes of faces: of all their edits, or of face i under edit i modulo their number, alone.

    Args:
        manipulator: frozen.
        images: some faces of a set.
        attributes: their labels.
        first: place of the first of them in the set.
        edits: all, or one a face.
    """
    every = manipulator.edits(attributes)
    if edits == "all":
        return torch.stack([manipulator(images, edit).output for edit in every], dim=1)
    turn = (first + torch.arange(len(images), device=images.device)) % len(every)
    forged = torch.empty_like(images)
    for e, edit in enumerate(every):
        met = (turn == e).nonzero().flatten()
        if len(met):
            forged[met] = manipulator(images[met], Edit(edit.name, edit.condition[met])).output
    return forged[:, None]

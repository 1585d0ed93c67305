"""Effect of a protection on the forgeries of a photo's faces: L2_face and identity similarity."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from art_idguard.distortions import parse
from art_idguard.faces.alignment import celeba_landmarks
from art_idguard.manipulators.base import Manipulator
from art_idguard.metrics import forgery_distance
from art_idguard.recognizers.base import Recognizer
from art_idguard.types import ATTRIBUTES, Attributes, Edit, Images

AS_IT_IS = "nothing"
OPERATIONS = {AS_IT_IS: "none", "JPEG": "jpeg=75", "halving its size": "resize=0.5", "a blur": "blur=1"}
"""What a face may go through on its way to a manipulator, in words, and as `distortions.parse` takes it."""


class Effect(NamedTuple):
    """What one manipulator makes of the protected face, compared with what it makes of the photo's."""

    l2_face: float
    similarity: float


def edit_named(name: str, manipulator: Manipulator, crops: Images) -> Edit:
    """A manipulator's edit of that name for crops whose labels are unknown; its first where it has none such."""
    edits = manipulator.edits(crops.new_zeros(len(crops), len(ATTRIBUTES)))
    return next((edit for edit in edits if edit.name == name), edits[0])


@torch.no_grad()
def forge(manipulator: Manipulator, crops: Images, edit: str = "Blond_Hair") -> Images:
    """What a manipulator makes of crops, see `edit_named`."""
    return manipulator(crops, edit_named(edit, manipulator, crops)).output


def effects(
    clean: Images, protected: Sequence[Images], manipulator: Manipulator, recognizer: Recognizer
) -> list[Effect]:
    """Section IV-A4 for one crop in CelebA's framing: L2_face and identity similarity of each protected version."""
    forged = torch.cat([forge(manipulator, crop) for crop in (clean, *protected)])  # memory is that of one
    l2, similarity = distance(forged[:1].expand(len(protected), -1, -1, -1), forged[1:], recognizer)
    return [Effect(*pair) for pair in zip(l2.tolist(), similarity.tolist(), strict=True)]


@torch.no_grad()
def effects_left(
    clean: Images, protected: Images, manipulator: Manipulator, recognizer: Recognizer, attributes: Attributes
) -> dict[str, Effect]:
    """What is left of the effect after each of `OPERATIONS`.

    As the face is, L2_face and similarity are each of the edit with the least effect; after the other operations, for
    the sake of time, both are of the edit with the largest similarity.

    Args:
        clean: one crop in CelebA's framing; the operations are done to it, too.
        protected: the same, protected.
        manipulator: forges both.
        recognizer: compares the forgeries.
        attributes: what the face shows, one row, which says the edits.
    """

    def left(edit: int, *operations: str) -> Float[Tensor, "2 B"]:
        crops = torch.cat([parse(operation)(x) for x in (clean, protected) for operation in operations])
        edits = manipulator.edits(attributes.expand(len(crops), -1))
        before, after = manipulator(crops, edits[edit]).output.chunk(2)
        return torch.stack(distance(before, after, recognizer))

    first, *others = OPERATIONS.values()
    l2, similarity = torch.cat([left(i, first) for i in range(len(manipulator.edits(attributes)))], dim=1)
    after = left(int(similarity.argmax()), *others)
    pairs = torch.cat([torch.stack([l2.min(), similarity.max()])[:, None], after], dim=1).T.tolist()
    return {name: Effect(*pair) for name, pair in zip(OPERATIONS, pairs, strict=True)}


def distance(clean: Images, other: Images, recognizer: Recognizer) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
    """`forgery_distance` in CelebA's framing."""
    landmarks = celeba_landmarks((clean.shape[-2], clean.shape[-1])).expand(len(clean), -1, -1)
    return forgery_distance(clean, other, landmarks, recognizer)

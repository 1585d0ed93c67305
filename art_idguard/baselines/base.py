"""Types of protections and attacks, and the distance between forgeries that attacks maximise.

A published photo is protected once, whatever a forger will do to it. So the attacks that know their
model (Disrupting, CMUA) take its edits in turn, one a step, and know no face's later edit. The
white-box references alone do: `disrupting.white_box` and `criterion.criterion_white_box`.

Every epsilon and step size is on the [-1, 1] scale.
"""

import zlib
from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from art_idguard.data.faces import FaceBatch
from art_idguard.images import project, resize
from art_idguard.losses import to_float32
from art_idguard.manipulators.base import Manipulator
from art_idguard.perturbation.precision import Precision, autocast
from art_idguard.types import Edit, Images

Protection = Callable[[FaceBatch], Images]
"""Protects a batch of faces: [-1, 1] in and out, inside the ball."""

Attack = Callable[[Manipulator, Edit, FaceBatch], Images]
"""Protects a batch of faces against one edit of one manipulator."""

Forge = Callable[[Images], Images]
"""A manipulator with its edit fixed, M_k of Eq. (1): faces to forged faces, [-1, 1] in and out."""


def universal(perturbation: Float[Tensor, "1 3 S S"], epsilon: float) -> Protection:
    """Adds one perturbation, clamped to the ball after bilinear resizing, to every face."""

    def protect(batch: FaceBatch) -> Images:
        height, width = batch.images.shape[-2:]
        return project(
            batch.images + resize(perturbation, (height, width)).to(batch.images),
            batch.images,
            epsilon,
        )

    return protect


def forgery_distance(
    forges: Sequence[Forge], x: Images, *, joint: bool = False, target: Images | None = None
) -> Callable[[Images], Float[Tensor, ""]]:
    """What attacks on the forged faces maximise: mean squared distance from the clean forged faces.

    Args:
        forges: the manipulator with each of its edits.
        x: clean faces on the [-1, 1] scale.
        joint: the sum over the edits at each call; otherwise another edit at each call.
        target: to be approached instead; minus the distance from it is returned (TAFIM, Aneja et al. 2022: white).
    """
    with torch.no_grad():
        references = [forge(x) if target is None else target.expand_as(x) for forge in forges]
    turns = cycle(zip(forges, references, strict=True))
    sign = 1 if target is None else -1

    def distance(attacked: Images) -> Float[Tensor, ""]:
        now = [next(turns) for _ in forges] if joint else [next(turns)]
        return sign * torch.stack([F.mse_loss(forge(attacked), reference) for forge, reference in now]).sum()

    return distance


def forgeries(manipulator: Manipulator, edits: Sequence[Edit], precision: Precision = "no") -> list[Forge]:
    """The manipulator with each of the edits fixed; its network runs in that precision, its pictures are float32."""
    return [partial(_forged, manipulator, edit, precision) for edit in edits]


def _forged(manipulator: Manipulator, edit: Edit, precision: Precision, x: Images) -> Images:
    with autocast(precision, x.device):
        return to_float32(manipulator(x, edit).output)


def face_generator(x: Images, seed: int) -> torch.Generator:
    """Seeded by the faces themselves, so that a resumed evaluation repeats an unbroken one."""
    return torch.Generator().manual_seed(zlib.crc32(x.cpu().numpy().tobytes(), seed))

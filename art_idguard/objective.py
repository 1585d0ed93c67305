"""Eq. (14) for one manipulator: the sum of Eq. (9) over the protected versions of the faces."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from art_idguard.distortions import Distortion
from art_idguard.losses import LossConfig, Objective, adversarial_loss, to_float32
from art_idguard.manipulators.base import Manipulator
from art_idguard.recognizers.base import Recognizer
from art_idguard.regions import MaskedFaces
from art_idguard.types import Edit, Frames, Images, Manipulation, Region


class Reference(NamedTuple):
    """What a manipulator makes of clean faces, and whom each recogniser sees in it."""

    clean: Manipulation
    identities: tuple[Float[Tensor, "B _ ..."], ...]


@torch.no_grad()
def reference(
    manipulator: Manipulator, edit: Edit, recognizers: Sequence[Recognizer], masked: MaskedFaces, loss: LossConfig
) -> Reference:
    """M_k(x), E_k(x) and ID(M_k(x)) of Eq. (5)-(8)."""
    clean = Manipulation(*map(to_float32, manipulator(masked.images, edit)))
    return Reference(clean, _identities(recognizers, loss, clean.output, masked.frame))


def distorted(masked: MaskedFaces, distortion: Distortion) -> MaskedFaces:
    """The faces as a manipulator sees them after the distortion; masks and frame follow the face."""
    return MaskedFaces(
        distortion.images(masked.images),
        Region(*map(distortion.maps, masked.region)),
        None if masked.frame is None else distortion.frame(masked.frame),
    )


def objective(
    manipulator: Manipulator,
    edit: Edit,
    recognizers: Sequence[Recognizer],
    masked: MaskedFaces,
    protected: Sequence[Images],
    loss: LossConfig,
    clean: Reference | None = None,
) -> Objective:
    """Eq. (14) for one manipulator: the sum of Eq. (9) over protected versions of the faces.

    Those are the generator's and the prior's, or one alone; the KPI is their mean, literally (`LossConfig.kpi`) their
    sum, as in the official code. `clean` spares making the `reference` again.
    """
    clean = clean or reference(manipulator, edit, recognizers, masked, loss)
    # All versions in one pass: one kernel launch instead of two.
    n = len(protected)
    repeated = Edit(edit.name, edit.condition.repeat(n, 1))
    forged = Manipulation(*map(to_float32, manipulator(torch.cat(list(protected)), repeated)))
    frame = None if masked.frame is None else masked.frame.repeat(n, 1, 1)
    disrupted = [who.chunk(n) for who in _identities(recognizers, loss, forged.output, frame)]
    parts = [
        adversarial_loss(
            clean.clean,
            Manipulation(output, features),
            [(before, after[i]) for before, after in zip(clean.identities, disrupted, strict=True)],
            masked.region,
            loss,
        )
        for i, (output, features) in enumerate(zip(forged.output.chunk(n), forged.features.chunk(n), strict=True))
    ]
    kpi = torch.stack([part.kpi for part in parts])
    return Objective(
        torch.stack([part.terms for part in parts]).sum(0), kpi.sum() if loss.kpi == "literal" else kpi.mean()
    )


def _identities(
    recognizers: Sequence[Recognizer], loss: LossConfig, images: Images, frame: Frames | None
) -> tuple[Float[Tensor, "B _ ..."], ...]:
    """ID(.) of each recogniser."""

    def identity(recognizer: Recognizer) -> Callable[[Images, Frames | None], Tensor]:
        return recognizer if loss.identity == "embedding" else recognizer.feature_map

    return tuple(to_float32(identity(recognizer)(images, frame)) for recognizer in recognizers)

"""What a protected face is judged by: Eq. (9) of one manipulator, with what it made of the clean face beside it."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from art_idguard.losses import LossConfig, Objective, adversarial_loss, single
from art_idguard.manipulators.base import Manipulator
from art_idguard.recognizers.base import Recognizer
from art_idguard.regions import Scene
from art_idguard.robustness import Distortion
from art_idguard.types import Edit, Frames, Images, Manipulation, Region


class Reference(NamedTuple):
    """What a manipulator makes of clean faces, and whom a recogniser sees in it."""

    clean: Manipulation
    identity: Float[Tensor, "B C *s"]


@torch.no_grad()
def reference(
    manipulator: Manipulator, edit: Edit, recognizer: Recognizer, scene: Scene, loss: LossConfig
) -> Reference:
    """M_k(x), E_k(x) and ID(M_k(x)) of Eq. (5)-(8)."""
    clean = Manipulation(*map(single, manipulator(scene.images, edit)))
    return Reference(clean, single(_identify(recognizer, loss)(clean.output, scene.frame)))


def distorted(scene: Scene, distortion: Distortion) -> Scene:
    """The scene as a manipulator sees it after the distortion; masks and frame follow the face."""
    return Scene(
        distortion.images(scene.images),
        Region(*map(distortion.maps, scene.region)),
        None if scene.frame is None else distortion.frame(scene.frame),
    )


def objective(
    manipulator: Manipulator,
    edit: Edit,
    recognizer: Recognizer,
    scene: Scene,
    protected: Sequence[Images],
    loss: LossConfig,
    known: Reference | None = None,
) -> Objective:
    """Eq. (14) for one manipulator: the sum of Eq. (9) over protected versions of the scene's faces.

    Those are the generator's and the prior's, or one alone. `known` spares making the `reference` again.
    """
    clean, identity = known or reference(manipulator, edit, recognizer, scene, loss)
    # All versions in one pass: one kernel launch instead of two.
    n = len(protected)
    repeated = Edit(edit.name, edit.condition.repeat(n, 1))
    forged = Manipulation(*map(single, manipulator(torch.cat(list(protected)), repeated)))
    frame = None if scene.frame is None else scene.frame.repeat(n, 1, 1)
    seen = single(_identify(recognizer, loss)(forged.output, frame))
    parts = [
        adversarial_loss(clean, Manipulation(output, features), (identity, who), scene.region, loss)
        for output, features, who in zip(forged.output.chunk(n), forged.features.chunk(n), seen.chunk(n), strict=True)
    ]
    return Objective(*(torch.stack(terms).sum() for terms in zip(*parts, strict=True)))


def _identify(recognizer: Recognizer, loss: LossConfig) -> Callable[[Images, Frames | None], Tensor]:
    return recognizer if loss.identity == "embedding" else recognizer.feature_map

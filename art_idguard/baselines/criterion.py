"""The white box aimed at the criterion of section IV-A4: how far one forgery can be disrupted at all.

PGD on the whole picture's error moves what moves most easily, which is the background, and is then judged by the face.
Here the face's L2_face and the identity that recognisers see are what is maximised, each only up to where its threshold
is safely met: further effort goes to the other.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from art_idguard.baselines.base import Attack, Forge, face_generator, forgeries
from art_idguard.data.faces import FaceBatch
from art_idguard.faces.alignment import arcface_frame
from art_idguard.losses import LOG, to_float32
from art_idguard.manipulators.base import Manipulator
from art_idguard.metrics import disrupted, identity_similarity, l2_face
from art_idguard.perturbation import pgd
from art_idguard.perturbation.precision import Precision, autocast
from art_idguard.recognizers.base import Recognizer
from art_idguard.regions import face_mask
from art_idguard.types import Edit, Images, Landmarks

CAP, FLOOR = LOG.l2_cap, LOG.similarity_floor
"""L2_face above the one and similarity below the other are worth nothing more.

On 2 faces of CelebA's training split, 40 steps, a floor of 0.3 in place of 0 brings AttentionGAN's L2_face from 0.034
to 0.040 and RelGAN's from 0.0127 to 0.0147, at a similarity of 0.3; that of a recogniser that is not attacked is 0.61,
not 0.51.
"""

IDENTITY_WEIGHT = LOG.identity_weight
"""A similarity lower by this weight's inverse is worth as much as e times the L2_face."""

STEP_SIZE, MOMENTUM = 0.08, 0.4
"""On the same faces the mean objective of the two models is -4.51 with steps from 0.01 and a momentum of 0.7, -4.17
from 0.02, -4.07 from 0.04; with a momentum of 0.4 -4.11 from 0.02, -4.05 from 0.04. AttentionGAN's alone: -3.53 from
0.04, -3.51 from 0.08. The ball is 0.1 wide."""

STEPS = 100
"""Of a restart. Two restarts of half as many reach less: AttentionGAN's L2_face is 0.046, not 0.050."""


def criterion_white_box(
    recognizers: Sequence[Recognizer],
    *,
    epsilon: float,
    steps: int = STEPS,
    restarts: int = 1,
    seed: int = 0,
    precision: Precision = "no",
) -> Attack:
    """`attack_criterion` as a reference of `evaluation.evaluate`: it knows manipulator, face and edit.

    Args:
        recognizers: frozen; those that it knows. One that judges and is not among them tells what transfers.
        epsilon: bound on the [-1, 1] scale.
        steps: of a restart.
        restarts: see `attack_criterion`.
        seed: of the random starts, together with the faces.
        precision: of the networks.
    """

    def attack(manipulator: Manipulator, edit: Edit, batch: FaceBatch) -> Images:
        (forge,) = forgeries(manipulator, (edit,), precision)
        return attack_criterion(
            forge,
            batch.images,
            batch.landmarks,
            recognizers,
            epsilon=epsilon,
            steps=steps,
            restarts=restarts,
            generator=face_generator(batch.images, seed),
            precision=precision,
        )

    return attack


def attack_criterion(
    forge: Forge,
    x: Images,
    landmarks: Landmarks,
    recognizers: Sequence[Recognizer],
    *,
    epsilon: float,
    steps: int = STEPS,
    step_size: float = STEP_SIZE,
    momentum: float = MOMENTUM,
    restarts: int = 1,
    generator: torch.Generator | None = None,
    precision: Precision = "no",
) -> Images:
    """Sign ascent on log(min(L2_face, `CAP`)) - `IDENTITY_WEIGHT` * mean of max(cosine, `FLOOR`) of each face.

    The mean is over the recognisers. Of several restarts each face keeps the one that meets the criterion by all
    recognisers, and among those the one of the highest objective.

    Args:
        forge: the manipulator with its edit fixed, differentiable.
        x: faces on the [-1, 1] scale.
        landmarks: the faces' five points, in pixels; they place face mask and recognition frame.
        recognizers: frozen, at least one.
        epsilon: bound on the [-1, 1] scale.
        steps: of a restart.
        step_size: length of the first step in every pixel, on the [-1, 1] scale; it falls linearly to 0.
        momentum: what a step keeps of the directions before it.
        restarts: random starts in the ball.
        generator: source of the starts, on the CPU.
        precision: of the recognisers.

    Returns:
        Faces in the ball and in [-1, 1], detached. A `NullAttackWarning` says where no step found a gradient.

    Raises:
        IDGuardError: the forgeries have no gradient at all.
    """
    measure = _aim(forge, x, landmarks, recognizers, precision)
    best, *others = (
        pgd(
            lambda z: measure(z)[1],
            x,
            epsilon=epsilon,
            steps=steps,
            step_size=step_size,
            momentum=momentum,
            falling=True,
            generator=generator,
        )
        for _ in range(restarts)
    )
    if not others:
        return best
    with torch.no_grad():
        met, value = measure(best)
        for other in others:
            of_other = measure(other)
            better = torch.where(of_other[0] == met, of_other[1] > value, of_other[0])
            best = torch.where(better[:, None, None, None], other, best)
            met, value = (new.where(better, old) for new, old in zip(of_other, (met, value), strict=True))
    return best


def _aim(
    forge: Forge, x: Images, landmarks: Landmarks, recognizers: Sequence[Recognizer], precision: Precision
) -> Callable[[Images], tuple[Bool[Tensor, " B"], Float[Tensor, " B"]]]:
    """From attacked faces to whether they meet the criterion by every recogniser, and to the objective."""
    size = (x.shape[-2], x.shape[-1])
    frame, mask = arcface_frame(landmarks, size), face_mask(landmarks, size)

    def seen(images: Images) -> list[Float[Tensor, "B _"]]:
        with autocast(precision, images.device):
            return [to_float32(recognizer(images, frame)) for recognizer in recognizers]

    with torch.no_grad():
        clean = forge(x)
        identities = seen(clean)

    def measure(attacked: Images) -> tuple[Bool[Tensor, " B"], Float[Tensor, " B"]]:
        forged = forge(attacked)
        distance = l2_face(clean, forged, mask)
        similarity = torch.stack([identity_similarity(*pair) for pair in zip(identities, seen(forged), strict=True)])
        value = distance.clamp(1e-12, CAP).log() - IDENTITY_WEIGHT * similarity.clamp_min(FLOOR).mean(dim=0)
        return disrupted(distance, similarity.amax(dim=0)), value

    return measure

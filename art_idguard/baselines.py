"""ID-Guard and what it is measured against, as functions from faces to protected faces.

A published photo is protected once, whatever a forger will do to it. So the attacks that know their
model (Disrupting, CMUA) take its five edits in turn, one a step, and know no face's later edit. The
white-box references alone do: `white_box` here, and `criterion.criterion_white_box`.

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
from tqdm import tqdm

from art_idguard.data.faces import FaceBatch, Faces
from art_idguard.images import project, resize
from art_idguard.manipulators.base import Manipulator
from art_idguard.perturbation import Protector, pgd
from art_idguard.types import Edit, Images

Protection = Callable[[FaceBatch], Images]
"""Protects a batch of faces: [-1, 1] in and out, inside the ball."""

Attack = Callable[[Manipulator, Edit, FaceBatch], Images]
"""Protects a batch of faces against one edit of one manipulator."""

Forge = Callable[[Images], Images]
"""A manipulator with its edit fixed, M_k of Eq. (1): faces to forged faces, [-1, 1] in and out."""


def id_guard(protector: Protector) -> Protection:
    """ID-Guard: the perturbation that the generator makes for each face."""
    protector = protector.eval()

    @torch.no_grad()
    def protect(batch: FaceBatch) -> Images:
        return protector(batch.images).specific

    return protect


def p_pert(protector: Protector) -> Protection:
    """P-Pert: the jointly trained prior alone, the same for every face; runs no generator."""
    protector = protector.eval()

    @torch.no_grad()
    def protect(batch: FaceBatch) -> Images:
        return (batch.images + protector.universal(batch.images)).clamp(-1, 1)

    return protect


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


def uniform_noise(*, epsilon: float, seed: int = 0) -> Protection:
    """Uniform noise in the ball: what a perturbation of this size does without an aim."""

    def protect(batch: FaceBatch) -> Images:
        noise = torch.rand(batch.images.shape, generator=face_generator(batch.images, seed))
        return project(batch.images + epsilon * (2 * noise - 1).to(batch.images), batch.images, epsilon)

    return protect


def brightness(*, epsilon: float) -> Protection:
    """Every pixel brighter by epsilon, clamped: what a tint does that any manipulator passes on."""

    def protect(batch: FaceBatch) -> Images:
        return project(batch.images + epsilon, batch.images, epsilon)

    return protect


def sign_noise(*, epsilon: float, seed: int = 0) -> Protection:
    """Epsilon with a random sign at every pixel and channel, clamped: the strongest noise in the ball."""

    def protect(batch: FaceBatch) -> Images:
        signs = 2 * torch.randint(2, batch.images.shape, generator=face_generator(batch.images, seed)) - 1
        return project(batch.images + epsilon * signs.to(batch.images), batch.images, epsilon)

    return protect


def disrupting(
    manipulator: Manipulator,
    *,
    epsilon: float,
    steps: int = 10,
    step_size: float = 0.01,
    seed: int = 0,
) -> Protection:
    """PGD from the clean output of one manipulator (Ruiz et al. 2020, "Disrupting Deepfakes").

    Deviates: the official evaluation attacks each edit by itself; this is the same paper's
    iterative class transferable attack (the edits in turn), because one photo meets all of them.
    """

    def protect(batch: FaceBatch) -> Images:
        forges = forgeries(manipulator, manipulator.edits(batch.attributes))
        return _pgd(forges, batch.images, epsilon, steps, step_size, seed)

    return protect


def white_box(*, epsilon: float, steps: int = 40, step_size: float = 0.01, seed: int = 0) -> Attack:
    """PGD that knows manipulator, face and edit, on the mean squared error of the whole picture.

    It takes the background where that is moved most easily; `criterion.criterion_white_box` aims at the face.
    """

    def attack(manipulator: Manipulator, edit: Edit, batch: FaceBatch) -> Images:
        return _pgd(forgeries(manipulator, (edit,)), batch.images, epsilon, steps, step_size, seed)

    return attack


def cmua(
    manipulators: Sequence[Manipulator],
    faces: Faces,
    *,
    epsilon: float,
    steps: int = 10,
    step_size: float = 0.01,
    batch_size: int = 64,
    factors: Sequence[float] | None = None,
    each_edit: bool = False,
    seed: int = 0,
    verbose: bool = False,
) -> Float[Tensor, "1 3 S S"]:
    """CMUA-Watermark (Huang et al. 2022): one perturbation for all faces and manipulators.

    For each batch and each manipulator in turn, PGD steps from a random start; after each step the
    batch's mean perturbation eta is averaged in: up = (up + eta) / 2. One pass is made.

    Deviates: the edits take turns in the steps, a fifth of the work. The official code runs `steps` from a random start
    for each edit, on 128 faces: `each_edit`.

    Args:
        manipulators: frozen, in the order in which they are attacked.
        faces: what the perturbation is averaged over.
        epsilon: bound on the [-1, 1] scale.
        steps: for each batch and manipulator; with `each_edit` for each of its edits.
        step_size: length of a step, on the [-1, 1] scale.
        batch_size: faces at a time.
        factors: of each manipulator, by which its steps are multiplied before they are averaged in; its paper
            searches them. Ones by default.
        each_edit: the official budget, see above.
        seed: of the random starts.
        verbose: show a progress bar.
    """
    perturbation: Tensor | None = None
    factors = factors or (1.0,) * len(manipulators)
    attacks: list[tuple[Images, float, list[Forge]]] = []
    for batch in faces.batches(batch_size):
        for manipulator, factor in zip(manipulators, factors, strict=True):
            forges = forgeries(manipulator, manipulator.edits(batch.attributes))
            attacks += [(batch.images, factor, each) for each in ([[f] for f in forges] if each_edit else [forges])]
    with tqdm(desc="CMUA", total=len(attacks) * steps, unit="step", disable=not verbose) as bar:
        for x, factor, forges in attacks:
            distance = forgery_distance(forges, x)
            start = torch.rand(x.shape, generator=face_generator(x, seed)).to(x)
            attacked = project(x + epsilon * (2 * start - 1), x, epsilon)
            for _ in range(steps):
                attacked.requires_grad_()
                (gradient,) = torch.autograd.grad(distance(attacked), attacked)
                moved = attacked.detach() + step_size * gradient.sign()
                eta = (factor * (moved - x)).clamp(-epsilon, epsilon).mean(dim=0, keepdim=True)
                perturbation = eta if perturbation is None else (perturbation + eta) / 2
                attacked = (x + perturbation).clamp(-1, 1)
                bar.update()
    if perturbation is None:
        raise ValueError("no faces to average over")
    return perturbation


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


def forgeries(manipulator: Manipulator, edits: Sequence[Edit]) -> list[Forge]:
    """The manipulator with each of the edits fixed."""
    return [partial(_forged, manipulator, edit) for edit in edits]


def _forged(manipulator: Manipulator, edit: Edit, x: Images) -> Images:
    return manipulator(x, edit).output


def _pgd(forges: Sequence[Forge], x: Images, epsilon: float, steps: int, step_size: float, seed: int) -> Images:
    distance, generator = forgery_distance(forges, x), face_generator(x, seed)
    return pgd(distance, x, epsilon=epsilon, steps=steps, step_size=step_size, generator=generator)


def face_generator(x: Images, seed: int) -> torch.Generator:
    """Seeded by the faces themselves, so that a resumed evaluation repeats an unbroken one."""
    return torch.Generator().manual_seed(zlib.crc32(x.cpu().numpy().tobytes(), seed))

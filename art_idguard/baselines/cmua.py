"""CMUA-Watermark (Huang et al. 2022): one perturbation for all faces."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from art_idguard.baselines.base import Forge, face_generator, forgeries, forgery_distance, universal
from art_idguard.baselines.setting import Baseline, BaselineSetting, Rows
from art_idguard.data.faces import Faces
from art_idguard.files.tensors import cached
from art_idguard.images import project
from art_idguard.manipulators.base import Manipulator
from art_idguard.types import Images


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


STEPS = 10
"""For each batch and manipulator, its edits in turn; in the official budget for each edit."""


def _rows(setting: BaselineSetting) -> Rows:
    faces, each_edit = setting.learnt_from(), setting.each_edit
    perturbation = cached(
        setting.folder / "cmua.safetensors",
        f"cmua.{setting.key(setting.targets, each_edit=each_edit)}",
        lambda: cmua(
            list(setting.targets.values()),
            faces,
            epsilon=setting.epsilon,
            steps=STEPS,
            each_edit=each_edit,
            seed=setting.seed,
            verbose=setting.verbose,
        ),
    )
    return {"CMUA": universal(perturbation, setting.epsilon)}


def _budget(setting: BaselineSetting) -> dict[str, Any]:
    faces = setting.learnt_from()
    edits = "each" if setting.each_edit else "in turn"
    return {"steps": STEPS, "edits": edits, "faces": len(faces), "digest": faces.digest()}


BASELINE = Baseline(_rows, _budget, learns=True)

"""The small-sample heuristic of section III-C2: prior weights, and the PGD distance that scales the KPIs."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from art_idguard.data.faces import Faces
from art_idguard.losses import masked_mean_square
from art_idguard.manipulators.base import Manipulator
from art_idguard.perturbation import pgd
from art_idguard.recognizers.base import Recognizer
from art_idguard.regions import MaskedFaces, masked_faces
from art_idguard.training.protector.config import ProtectorConfig
from art_idguard.training.protector.run import loss_config
from art_idguard.types import Edit, Images
from art_idguard.weighting import WEIGHTINGS, TaskWeighting, make_weighting, prior_weights, takes_alpha

PROBE_FACES = 8  # of the small-sample heuristic


def weighting_and_scale(
    config: ProtectorConfig,
    targets: list[Manipulator],
    faces: Faces,
    recognizers: list[Recognizer],
    epsilon: float,
    *,
    resumed: bool,
) -> tuple[TaskWeighting, Float[Tensor, " K"]]:
    """The weighting, and what K_k is a share of; a resumed run takes both from its checkpoint."""
    scale = torch.ones(len(targets))
    alpha = config.alpha or (1.0,) * len(targets)
    find_alpha = config.alpha is None and takes_alpha(config.weighting)
    find_scale = loss_config(config).kpi == "share" and WEIGHTINGS[config.weighting].reads_kpi
    if (find_alpha or find_scale) and not resumed:
        probed = probe(targets, masked_faces(faces.batch(slice(PROBE_FACES)), aligned=config.aligned), faces, epsilon)
        alpha = tuple(prior_weights(probed.distance).tolist()) if find_alpha else alpha
        scale = probed.kpi if find_scale else scale
    return build_weighting(config, alpha), scale


def build_weighting(config: ProtectorConfig, alpha: tuple[float, ...]) -> TaskWeighting:
    """The weighting that the settings name."""
    return make_weighting(config.weighting, alpha=alpha, space=config.mgda_space, solver=config.mgda_solver)


class Probe(NamedTuple):
    """What a slight PGD does to each model: mean squared distance over the picture, and under the heat map."""

    distance: Float[Tensor, " K"]
    kpi: Float[Tensor, " K"]


def probe(targets: list[Manipulator], view: MaskedFaces, faces: Faces, epsilon: float) -> Probe:
    """The small-sample heuristic of section III-C2: each model under the same slight PGD, its first edit."""
    moved = []
    for target in targets:
        edit = target.edits(faces.attributes[: len(view.images)])[0]
        with torch.no_grad():
            clean = target(view.images, edit).output

        def distance(x: Images, target: Manipulator = target, edit: Edit = edit, clean: Images = clean) -> Tensor:
            return F.mse_loss(target(x, edit).output, clean)

        generator = torch.Generator().manual_seed(0)
        attacked = pgd(distance, view.images, epsilon=epsilon, steps=5, generator=generator)
        with torch.no_grad():
            change = target(attacked, edit).output - clean
        moved.append((change.square().mean(), masked_mean_square(change, view.region.heat).mean()))
    return Probe(*(torch.stack(values) for values in zip(*moved, strict=True)))

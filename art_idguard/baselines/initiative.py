"""Initiative Defense (Huang et al. 2021): the objective of its perturbation generator, PG."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from art_idguard.baselines.generator import GeneratorObjective, budget, trained
from art_idguard.baselines.setting import Baseline, BaselineSetting, Rows
from art_idguard.manipulators.base import Manipulator
from art_idguard.perturbation import FaceReconstructor
from art_idguard.types import ATTRIBUTES, Attributes, Images


def initiative(manipulator: Manipulator, *, seed: int) -> GeneratorObjective:
    """Initiative Defense (PG; Huang et al., AAAI 2021): against a surrogate that learns in turn with the generator.

    The generator maximises the L1 distance of the surrogate's outputs on protected and clean faces. The edits take
    turns, each weighted by how much it changes the face.

    Deviates: the surrogate learns to imitate the manipulator's outputs, so that the manipulator is only asked, never
    differentiated; the published code trains a StarGAN of its own as surrogate, and adds discriminator and cycle terms.
    Its generator is a U-Net; here it is whatever protector is trained, by default our ResNet.
    """
    place = next(manipulator.parameters())
    edits = len(manipulator.edits(place.new_zeros(1, len(ATTRIBUTES))))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        surrogates = nn.ModuleList(FaceReconstructor(channels=16) for _ in range(edits)).to(place.device)
    optimizer = torch.optim.Adam(surrogates.parameters(), lr=1e-3)

    def objective(protected: Images, faces: Images, labels: Attributes, step: int) -> Float[Tensor, ""]:
        e = step % edits
        with torch.no_grad():
            forged = manipulator(faces, manipulator.edits(labels)[e]).output
        surrogate = surrogates[e].requires_grad_()
        optimizer.zero_grad()
        nn.functional.l1_loss(surrogate(faces), forged).backward()
        optimizer.step()
        surrogate.requires_grad_(False)
        return (forged - faces).abs().mean() * nn.functional.l1_loss(surrogate(protected), surrogate(faces))

    return objective


def _rows(setting: BaselineSetting) -> Rows:
    return setting.each(
        "PG",
        lambda name: trained(
            setting, f"pg-{name}", [name], lambda: initiative(setting.targets[name], seed=setting.seed)
        ),
    )


BASELINE = Baseline(_rows, budget, learns=True)

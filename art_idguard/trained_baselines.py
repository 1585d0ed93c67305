"""Perturbation generators that earlier work trains: Initiative Defense (PG) and IAP's disruption part.

Both are a `Protector` whose prior is zero and stays so, and protect in one forward pass. Faces are on the [-1, 1]
scale.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from tqdm import trange

from art_idguard.errors import IDGuardError
from art_idguard.manipulators.base import Manipulator
from art_idguard.perturbation import FaceReconstructor, Protector
from art_idguard.types import ATTRIBUTES, Attributes, Images

Objective = Callable[[Images, Images, Attributes, int], Float[Tensor, ""]]
"""What the generator maximises, of protected faces, faces, their labels and the step."""


def train_generator(
    protector: Protector,
    x: Images,
    attributes: Attributes,
    objective: Objective,
    *,
    steps: int,
    batch_size: int,
    lr: float,
    seed: int,
    verbose: bool,
    title: str = "training the generator",
) -> Protector:
    """Adam on the generator alone; `title` stands before the progress bar.

    Raises:
        IDGuardError: a loss that is not finite.
    """
    optimizer = torch.optim.Adam(protector.generator.parameters(), lr=lr, betas=(0.5, 0.999))
    protector.train().requires_grad_()
    chance = torch.Generator().manual_seed(seed)
    for step in trange(steps, desc=title, disable=not verbose):
        index = torch.randint(len(x), (min(batch_size, len(x)),), generator=chance)
        faces, labels = x[index], attributes[index]
        loss = -objective(protector(faces).specific, faces, labels, step)
        if not loss.isfinite():
            raise IDGuardError(f"step {step + 1}: the loss is not finite; lower the learning rate")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return protector.eval().requires_grad_(False)


def initiative(manipulator: Manipulator, *, seed: int) -> Objective:
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


def iap(manipulators: Sequence[Manipulator]) -> Objective:
    """The disruption part of IAP (Zhu et al., TIFS 2023): features of protected and clean faces shall not correlate.

    Inferred, since no code is public and the ID-Guard paper calls it "feature correlation measurement loss": the
    generator maximises 1 - Pearson correlation of E_k's features and of the forged faces, averaged over the
    manipulators with equal weights; the message that IAP hides is left out, as in the ID-Guard paper's comparison.
    """

    def objective(protected: Images, faces: Images, labels: Attributes, step: int) -> Float[Tensor, ""]:
        parts = []
        for manipulator in manipulators:
            edits = manipulator.edits(labels)
            edit = edits[step % len(edits)]
            with torch.no_grad():
                clean = manipulator(faces, edit)
            found = manipulator(protected, edit)
            parts += [2 - correlation(found.features, clean.features) - correlation(found.output, clean.output)]
        return torch.cat(parts).mean()

    return objective


def correlation(a: Float[Tensor, "B *s"], b: Float[Tensor, "B *s"]) -> Float[Tensor, " B"]:
    """Pearson's, of each pair of rows."""
    a, b = (t.flatten(1) - t.flatten(1).mean(dim=1, keepdim=True) for t in (a, b))
    return nn.functional.cosine_similarity(a, b, dim=1)

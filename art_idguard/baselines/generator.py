"""Perturbation generators that earlier work trains: Initiative Defense (PG) and IAP's disruption part.

Both are a `Protector` whose prior is zero and stays so, and protect in one forward pass. Faces are on the [-1, 1]
scale.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import trange

from art_idguard.errors import IDGuardError
from art_idguard.perturbation import Protector
from art_idguard.types import Attributes, Images

GeneratorObjective = Callable[[Images, Images, Attributes, int], Float[Tensor, ""]]
"""What the generator maximises, of protected faces, faces, their labels and the step."""


def train_generator(
    protector: Protector,
    x: Images,
    attributes: Attributes,
    objective: GeneratorObjective,
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

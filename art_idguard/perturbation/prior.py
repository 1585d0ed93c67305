"""The gradient prior perturbation (section III-D, Algorithm 1 lines 1-9)."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from tqdm import tqdm

from art_idguard.files.tensors import cached, checksum
from art_idguard.images import from_uint8
from art_idguard.perturbation.pgd import pgd
from art_idguard.types import Images

Kind = Literal["gradient", "zeros", "noise"]
"""Start of the prior perturbation: as the paper, or the two alternatives of its Fig. 9."""


class Residual(nn.Module):
    """x + conv(ReLU(conv(ReLU(x))))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """The input plus what the block learnt."""
        return x + self.main(x)


class FaceReconstructor(nn.Module):
    """The surrogate M_s: a small convolutional autoencoder, shaped like a manipulator without edit.

    Two strided convolutions, residual blocks at a quarter of the size, two transposed convolutions,
    tanh. Sides are multiples of 4. The paper does not say what its surrogate is.

    Args:
        channels: width of the first layer.
        blocks: residual blocks.
    """

    def __init__(self, *, channels: int = 16, blocks: int = 2) -> None:
        super().__init__()
        c = channels
        self.main = nn.Sequential(
            nn.Conv2d(3, c, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(c, 2 * c, 4, stride=2, padding=1),
            *(Residual(2 * c) for _ in range(blocks)),
            nn.ReLU(),
            nn.ConvTranspose2d(2 * c, c, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(c, 3, 4, stride=2, padding=1),
            nn.Tanh(),
        )

    def forward(self, x: Images) -> Images:
        """The face again, on the [-1, 1] scale."""
        return self.main(x)


def train_surrogate(
    images: UInt8[Tensor, "N 3 H W"],
    *,
    steps: int = 400,
    batch_size: int = 16,
    seed: int = 0,
    progress: bool = False,
) -> tuple[FaceReconstructor, float]:
    """Train M_s to reconstruct faces (L1, Adam 2e-3), on the device of the images.

    Returns:
        The frozen surrogate in eval mode, and the L1 error of its last batch on the [-1, 1] scale.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = FaceReconstructor().to(images.device)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in tqdm(range(steps), desc="training the surrogate", disable=not progress):
        index = torch.randint(len(images), (batch_size,), generator=generator)
        x = from_uint8(images[index.to(images.device)])
        loss = F.l1_loss(model(x), x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval().requires_grad_(False), loss.item()


def kept_surrogate(
    images: UInt8[Tensor, "N 3 H W"], *, seed: int, progress: bool, cache: str | Path | None, steps: int = 400
) -> FaceReconstructor:
    """`train_surrogate`, once for the same faces, seed and steps: the file `cache` keeps the weights."""
    with torch.random.fork_rng(devices=[]):
        model = FaceReconstructor()

    def train() -> Float[Tensor, " P"]:
        trained, _ = train_surrogate(images, steps=steps, seed=seed, progress=progress)
        return parameters_to_vector(trained.parameters()).cpu()

    key = checksum([images, seed, steps, str(model), images.device.type])
    vector_to_parameters(cached(cache, f"surrogate-{key[:16]}", train), model.parameters())
    return model.to(images.device).eval().requires_grad_(False)


def gradient_prior(
    model: nn.Module,
    batches: Iterable[Float[Tensor, "_ 3 H W"]],
    *,
    epsilon: float,
    steps: int = 10,
    step_size: float = 0.01,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "1 3 H W"]:
    """Algorithm 1, lines 1-9: the mean over faces of PGD against their reconstruction by `model`.

    Each PGD maximises the mean squared distance to the clean reconstruction. Where faces disagree
    the mean is small; as in the paper it is not scaled up again.
    """
    sums, count = [], 0
    for x in batches:
        with torch.no_grad():
            clean = model(x)

        def distance(attacked: Images, clean: Images = clean) -> Tensor:
            return F.mse_loss(model(attacked), clean)

        attacked = pgd(distance, x, epsilon=epsilon, steps=steps, step_size=step_size, generator=generator)
        sums.append((attacked - x).sum(0, keepdim=True))
        count += len(x)
    return torch.stack(sums).sum(0) / count


def initial_prior(
    kind: Kind,
    images: UInt8[Tensor, "N 3 H W"],
    *,
    epsilon: float,
    seed: int = 0,
    progress: bool = False,
    cache: str | Path | None = None,
) -> Float[Tensor, "1 3 H W"]:
    """The prior perturbation that training starts from, of the faces' size and on their device.

    Args:
        kind: how it is made.
        images: the faces.
        epsilon: its bound, on the [-1, 1] scale.
        seed: of what is random.
        progress: show progress bars.
        cache: file that keeps the surrogate of the gradient prior, whose training takes most of the time.

    Raises:
        IDGuardError: the cache is damaged, or not one of these.
    """
    shape = (1, *images.shape[1:])
    generator = torch.Generator().manual_seed(seed)
    if kind == "zeros":
        return torch.zeros(shape, device=images.device)
    if kind == "noise":
        return epsilon * (2 * torch.rand(shape, generator=generator) - 1).to(images.device)
    model = kept_surrogate(images, seed=seed, progress=progress, cache=cache)
    batches = tqdm(images.split(16), desc="averaging PGD", disable=not progress)
    return gradient_prior(model, map(from_uint8, batches), epsilon=epsilon, generator=generator)

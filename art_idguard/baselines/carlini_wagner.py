"""Carlini and Wagner's attack (S&P 2017) in the form in which Table VII uses it."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from art_idguard.images import project
from art_idguard.types import Images


def carlini_wagner(
    objective: Callable[[Images], Float[Tensor, " B"]],
    x: Images,
    *,
    epsilon: float | None = None,
    c: float = 0.05,
    steps: int = 10,
    restarts: int = 5,
    lr: float = 0.01,
    generator: torch.Generator | None = None,
) -> Images:
    """Adam on -objective + c * ||x_adv - x||_2, x_adv = tanh(w + x), as the paper's source writes it.

    Without a bound it is far stronger than PGD: at w = 0 the image is tanh(x), up to 0.24 away from x already. So a
    bounded form stands beside it.

    Deviates: distance and 2-norm are each image's own, so that an image's result does not depend on its batch; the
    published source takes both over the batch. Each restart begins at zero with fresh noise and the best is kept;
    the source's "binary search" is such a loop, without a search.

    Args:
        objective: what to maximise, a value for each face.
        x: faces on the [-1, 1] scale.
        epsilon: L-inf bound on the [-1, 1] scale: the image is then x + delta with delta projected after each step;
            None for the paper's unbounded form.
        c: weight of the 2-norm.
        steps: of Adam, in each restart.
        restarts: how often the search begins anew.
        lr: of Adam.
        generator: of the noise that it begins with, on the CPU.

    Returns:
        Attacked faces in [-1, 1], detached.
    """
    best, highest = x.clone(), torch.full((len(x),), -torch.inf, device=x.device)
    for _ in range(restarts):
        noise = 1e-3 if epsilon is not None else 1e-9
        w = (noise * (2 * torch.rand(x.shape, generator=generator) - 1)).to(x).requires_grad_()
        optimizer = torch.optim.Adam([w], lr=lr)
        for step in range(steps + 1):
            with torch.enable_grad():
                attacked = torch.tanh(w + x) if epsilon is None else project(x + w, x, epsilon)
                value = objective(attacked)
                size = (attacked - x).flatten(1).square().sum(dim=1).add(1e-12).sqrt()
                gain = value - c * size if epsilon is None else value
            better = gain.detach() > highest
            best[better], highest[better] = attacked.detach()[better], gain.detach()[better]
            if step < steps:
                optimizer.zero_grad()
                (-gain.sum()).backward(inputs=[w])
                optimizer.step()
                if epsilon is not None:
                    w.data.clamp_(-epsilon, epsilon)
    return best

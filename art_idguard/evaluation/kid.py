"""Kernel inception distance between two sets of features."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from art_idguard.evaluation.statistics import Estimate

SEED = 0
"""Of the bootstrap and of KID's random halves."""


def kernel_distance(a: Float[Tensor, "N D"], b: Float[Tensor, "M D"]) -> float:
    """KID (Binkowski et al., ICLR 2018): the unbiased squared MMD with the kernel (<x, y> / D + 1)^3.

    Deviates: features are not Inception's, whose weights come with torchvision, but embeddings, scaled to length
    sqrt(D), so that <x, y> / D is their cosine.
    """
    a, b = (normalize(x.double(), dim=1) for x in (a, b))
    within = [(((x @ x.T + 1) ** 3).sum() - 8 * len(x)) / (len(x) * (len(x) - 1)) for x in (a, b)]
    return float(sum(within) - 2 * ((a @ b.T + 1) ** 3).mean())


def kid_estimate(a: Float[Tensor, "N D"], b: Float[Tensor, "M D"]) -> Estimate:
    """KID of all, with a normal 95 % interval from random halves: their deviation is the standard error of the whole.

    Near zero, where the squared MMD is degenerate, the interval is up to twice as wide as need be.

    Deviates: the paper reports mean and deviation over subsets of 1,000, more faces than there are here. (Drawing with
    replacement, as the bootstrap does, would pair faces with themselves.)
    """
    generator = torch.Generator().manual_seed(SEED)
    kid = kernel_distance(a, b)
    if min(len(a), len(b)) < 4:  # halves of one have no distance
        return Estimate(kid, math.nan, math.nan)
    distances = [
        kernel_distance(*(x[torch.randperm(len(x), generator=generator)[: len(x) // 2]] for x in (a, b)))
        for _ in range(100)
    ]
    margin = 1.96 * torch.tensor(distances).std().item()
    return Estimate(kid, kid - margin, kid + margin)

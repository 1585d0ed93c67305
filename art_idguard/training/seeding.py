"""Seeds and the order of the faces: everything random in step t depends on (seed, t) alone."""

from functools import lru_cache

import torch
from jaxtyping import Int64
from torch import Tensor


def step_seed(seed: int, step: int) -> int:
    """A number for a step of a run, another for each."""
    return seed * 1_000_003 + step


@lru_cache(maxsize=1)
def _permutation(n: int, seed: int, epoch: int) -> Int64[Tensor, " N"]:
    return torch.randperm(n, generator=torch.Generator().manual_seed(step_seed(seed, epoch)))


def batch_index(step: int, n: int, batch_size: int, seed: int) -> Int64[Tensor, " B"]:
    """The faces of a step: every epoch is a new order, of which the incomplete last batch is dropped."""
    epoch, i = divmod(step, n // batch_size)
    return _permutation(n, seed, epoch)[i * batch_size : (i + 1) * batch_size]


def seed_step(seed: int, step: int, process: int) -> None:
    """Make all that is random in a step depend on (seed, step) and the process alone."""
    torch.manual_seed(step_seed(seed, step) * 1009 + process)

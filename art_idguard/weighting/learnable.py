"""Base of the weightings with a learnable weight: beta_k = -(1 - K_k) log K_k of Eq. (13), kept between steps."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from art_idguard.errors import IDGuardError
from art_idguard.weighting.base import TaskWeighting

SMALLEST_KPI = 1e-13
"""K_k is clamped to [this, 1], as in the official code; the paper says (0, 1]."""


def as_prior(alpha: Sequence[float]) -> Float[Tensor, " K"]:
    """alpha_k of Eq. (12) as a tensor.

    Raises:
        IDGuardError: a prior weight is not a positive finite number.
    """
    prior = torch.tensor(alpha, dtype=torch.get_default_dtype())
    if not bool((prior.isfinite() & (prior > 0)).all()):
        raise IDGuardError(f"prior weights must be positive and finite, found {tuple(alpha)}")
    return prior


def learnable_weights(kpi: Float[Tensor, "*K"]) -> Float[Tensor, "*K"]:
    """Eq. (13): beta = -(1 - K) log K, which falls from 30 at K = 1e-13 to 0 at K = 1 and above."""
    kpi = kpi.clamp(SMALLEST_KPI, 1)
    return (kpi - 1) * kpi.log()


class LearnableWeighting(TaskWeighting):
    """Keeps beta_k^t between iterations, in a buffer that starts at beta_k^0 = 1.

    With `lag` 1 (the paper) iteration t weighs with the KPI of iteration t - 1, with 0 (the
    official code) with its own.
    """

    beta: Float[Tensor, " K"]

    reads_kpi: ClassVar[bool] = True

    def __init__(self, tasks: int, *, lag: Literal[0, 1] = 1) -> None:
        super().__init__()
        self.lag = lag
        self.register_buffer("beta", torch.ones(tasks))

    def next_beta(self, kpi: Float[Tensor, " K"]) -> Float[Tensor, " K"]:
        """beta_k of this iteration; remembers the next one's."""
        previous, self.beta = self.beta, learnable_weights(kpi).to(self.beta)
        return (previous if self.lag else self.beta).to(kpi)

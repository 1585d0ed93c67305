"""Prior weights: lambda_k = alpha_k of Eq. (12), fixed, and the heuristic of section III-C2 that finds them."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from art_idguard.errors import IDGuardError
from art_idguard.weighting.base import TaskStatistics, TaskWeighting
from art_idguard.weighting.learnable import as_prior


class PriorWeighting(TaskWeighting):
    """lambda_k = alpha_k of Eq. (12), the "prior weight" of Table III, whatever the statistics."""

    name: ClassVar[str] = "prior"
    alpha: Float[Tensor, " K"]

    def __init__(self, alpha: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("alpha", as_prior(alpha))

    def forward(self, statistics: TaskStatistics) -> Float[Tensor, " K"]:
        """The prior weights."""
        return self.alpha.to(statistics.objective)

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        return f"alpha={self.alpha.tolist()}"


def prior_weights(distances: Float[Tensor, " K"]) -> Float[Tensor, " K"]:
    """alpha_k = 10^n by the small-sample heuristic of section III-C2.

    Examples:
        >>> prior_weights(torch.tensor([0.6, 0.4, 0.5, 0.05, 0.006]))
        tensor([  1.,   1.,   1.,  10., 100.])

    Args:
        distances: L_2 (mean squared) distance of each model's output from its clean output, on the
            [-1, 1] scale, under one and the same slight PGD.

    Returns:
        10^round(log10(max_j d_j / d_k)): 1 for the easiest model, 10 for one that is an order of
        magnitude harder. The paper gives no rule; this one gives its 1, 1, 1, 10, 100 for distances
        such as 0.6, 0.4, 0.5, 0.05, 0.006.

    Raises:
        IDGuardError: a distance is not a positive finite number.
    """
    bad = ~(distances.isfinite() & (distances > 0))
    if bool(bad.any()):
        raise IDGuardError(
            f"no prior weight for tasks {bad.nonzero().flatten().tolist()} (counted from 0): "
            f"expected positive distances, found {distances[bad].tolist()}; a PGD that starts at "
            "the clean face has zero gradient, start it at random, or give alpha yourself"
        )
    return 10.0 ** torch.log10(distances.max() / distances).round()

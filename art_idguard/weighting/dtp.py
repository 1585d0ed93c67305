"""Dynamic task prioritisation (DTP): lambda_k = beta_k of Eq. (13), the learnable weight alone."""

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from art_idguard.weighting.base import TaskStatistics
from art_idguard.weighting.learnable import LearnableWeighting


class DTPWeighting(LearnableWeighting):
    """lambda_k = beta_k of Eq. (13), after the focal weights of Guo et al. (ECCV 2018).

    The weights depend on the KPIs alone, and a less disrupted model never has a smaller one.

    Deviates: Guo et al. smooth the KPI over iterations; the paper takes the previous iteration's.
    """

    name: ClassVar[str] = "dtp"

    def forward(self, statistics: TaskStatistics) -> Float[Tensor, " K"]:
        """beta_k of this iteration."""
        return self.next_beta(statistics.kpi)

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        return f"tasks={len(self.beta)}, lag={self.lag}"

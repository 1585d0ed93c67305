"""Strategy II (S-II), Eq. (12): lambda_k = alpha_k beta_k, prior times learnable weight."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from art_idguard.weighting.base import TaskStatistics
from art_idguard.weighting.learnable import LearnableWeighting, as_prior


class KPIWeighting(LearnableWeighting):
    """Strategy II (S-II) of section III-C2.

    The weights depend on the KPIs alone and scale with alpha. A restored state brings alpha too.

    Deviates: the official code (`lag` 0) takes this iteration's KPI; the default is the paper's.
    """

    name: ClassVar[str] = "kpi"
    alpha: Float[Tensor, " K"]

    def __init__(self, alpha: Sequence[float], *, lag: Literal[0, 1] = 1) -> None:
        super().__init__(len(alpha), lag=lag)
        self.register_buffer("alpha", as_prior(alpha))

    def forward(self, statistics: TaskStatistics) -> Float[Tensor, " K"]:
        """Eq. (12): lambda_k = alpha_k beta_k."""
        return self.alpha.to(statistics.kpi) * self.next_beta(statistics.kpi)

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        return f"alpha={self.alpha.tolist()}, lag={self.lag}"

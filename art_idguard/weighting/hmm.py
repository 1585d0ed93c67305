"""Hard model mining (HMM): weight one on the least disrupted model (section IV-D2)."""

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import one_hot

from art_idguard.weighting.base import TaskStatistics, TaskWeighting


class HMMWeighting(TaskWeighting):
    """Weight one on the currently least disrupted model, zero on the others (section IV-D2).

    The weights do not change when all KPIs are mapped by one increasing function. Of equally
    disrupted models the first is taken.
    """

    name: ClassVar[str] = "hmm"
    reads_kpi: ClassVar[bool] = True

    def forward(self, statistics: TaskStatistics) -> Float[Tensor, " K"]:
        """One-hot at the smallest KPI."""
        kpi = statistics.kpi
        return one_hot(kpi.argmin(), len(kpi)).to(kpi)

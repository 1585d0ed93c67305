"""Equal weights: lambda_k = 1."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from art_idguard.weighting.base import TaskStatistics, TaskWeighting


class UniformWeighting(TaskWeighting):
    """lambda_k = 1, the "equivalent weight" of Table III."""

    name: ClassVar[str] = "uniform"

    def forward(self, statistics: TaskStatistics) -> Float[Tensor, " K"]:
        """Ones."""
        return torch.ones_like(statistics.objective)

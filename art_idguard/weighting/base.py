"""The contract of a task weighting: statistics of the K tasks -> K weights.

All weights are non-negative and follow the tasks when those are reordered. Those of `hmm` and
`mgda` sum to one. Those of `uniform` are ones (lambda_k^0 of Algorithm 1), of `prior` alpha_k, of
`dtp` beta_k and of `kpi` alpha_k beta_k: their sum scales the whole gradient, too.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor, nn

Space = Literal["perturbation", "parameters"]
"""Whose gradients make the Gramian: the protected images' or the generator parameters'."""


@dataclass(frozen=True)
class TaskStatistics:
    """What a weighting may look at; detached, on one device, equal on all processes.

    Attributes:
        objective: L_k^adv of Eq. (9), to be maximised, of each task.
        kpi: K_k of Eq. (13), the (positive) mask loss that says how far each task has been
            disrupted.
        gramian: computes G = V V^T of the task gradients in a space when called. In perturbation
            space V's rows are the gradients by each face's own perturbation and by delta_p, which all
            faces share, in parameter space those by the generator's parameters. It costs backward
            passes, so only a weighting that needs it calls it.
    """

    objective: Float[Tensor, " K"]
    kpi: Float[Tensor, " K"]
    gramian: Callable[[Space], Float[Tensor, "K K"]]


class TaskWeighting(nn.Module, ABC):
    """lambda_k of Eq. (4). State that must survive a restart is a buffer.

    Examples:
        >>> import torch
        >>> from art_idguard.weighting import MGDAWeighting
        >>> gradients = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
        >>> statistics = TaskStatistics(torch.zeros(2), torch.ones(2), lambda space: gradients @ gradients.T)
        >>> MGDAWeighting()(statistics)
        tensor([0.8000, 0.2000])
    """

    name: ClassVar[str]
    reads_kpi: ClassVar[bool] = False
    """Whether the weights depend on the KPIs, which are then taken as shares of the probe's."""

    @abstractmethod
    def forward(self, statistics: TaskStatistics) -> Float[Tensor, " K"]:
        """Non-negative weights, on the device of the statistics."""

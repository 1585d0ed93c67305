"""Task weighting with the graph cut at what the tasks share, Eq. (3), (4) and (10).

The tasks share nothing but a network's pictures, and at most some parameters behind them. So each task's graph is
built, differentiated by what is shared and freed before the next one starts: memory is that of the largest task, and
one backward pass through the network serves all of them.

Notation (name here -> the paper's symbol):
    shared -> the protected pictures (z, z_p)        cotangents[k] -> v_k = d L_k / d shared        weights -> lambda_k
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, NamedTuple

import torch
from accelerate import Accelerator
from jaxtyping import Float
from torch import Tensor, nn

from art_idguard.weighting.base import TaskStatistics, TaskWeighting


class Weighed(NamedTuple):
    """What one step saw; every entry is equal on every process."""

    objective: Float[Tensor, " K"]
    kpi: Float[Tensor, " K"]
    weights: Float[Tensor, " K"]


class Found(NamedTuple):
    """What one task says of the leaves: its objective, to be maximised, its KPI, and d objective / d leaves."""

    objective: Float[Tensor, ""]
    kpi: Float[Tensor, ""]
    cotangent: tuple[Tensor, ...]


Task = Callable[[Sequence[Tensor]], Found]

Spread = Literal["faces", "tasks"]
"""What processes share out: the faces of a batch, or the tasks, each of which then one process asks, of all faces."""


class TaskGradients:
    """The gradients of K objectives by what they share, and what follows from them by linearity.

    Args:
        shared: the network's pictures, with their graph, and after them what else is shared.
        parameters: those of the network that makes the first of `shared`.
        rest: those behind the others of `shared`, which may be these parameters themselves.
        accelerator: the processes.
        spread: what they share out.
    """

    def __init__(
        self,
        shared: Sequence[Tensor],
        parameters: Iterable[nn.Parameter],
        rest: Iterable[nn.Parameter],
        accelerator: Accelerator,
        spread: Spread = "faces",
    ) -> None:
        self.shared, self.accelerator, self.spread = shared, accelerator, spread
        self.parameters, self.rest = list(parameters), list(rest)
        self.cotangents: list[tuple[Tensor, ...]] = []
        self._rows: Float[Tensor, "K P"] | None = None

    def ask(self, tasks: Iterable[Task], leaves: Sequence[Tensor]) -> Float[Tensor, "2 K"]:
        """v_k of every task, which are kept; its objectives and KPIs, equal on every process."""
        rank, count = self.accelerator.process_index, self.accelerator.num_processes
        zero = leaves[0].new_zeros(())
        nothing = Found(zero, zero, tuple(torch.zeros_like(leaf) for leaf in leaves))
        found = [
            task(leaves) if self.spread == "faces" or k % count == rank else nothing for k, task in enumerate(tasks)
        ]
        values = torch.stack([torch.stack([objective, kpi]) for objective, kpi, _ in found], dim=1)
        self.cotangents = [cotangent for _, _, cotangent in found]
        if self.spread == "faces":
            return self.accelerator.reduce(values, "mean")
        self.cotangents = [tuple(self.accelerator.reduce(v, "sum") for v in cotangent) for cotangent in self.cotangents]
        return self.accelerator.reduce(values, "sum")

    def gramian(self, space: str) -> Float[Tensor, "K K"]:
        """G = V V^T of the global objective, in float64, equal on every process."""
        if space == "parameters":
            own = sum(p.numel() for p in self.parameters)
            return _gram(self._parameter_rows()[:, :own])
        images = _gram(torch.stack([v[0].flatten() for v in self.cotangents]))
        if self.spread == "faces":  # each process holds other coordinates of the gradient of a mean over R processes
            images = self.accelerator.reduce(images, "sum") / self.accelerator.num_processes**2
        if len(self.shared) == 1:
            return images
        rest = torch.stack([self._backward(self.shared[1:], self.rest, v[1:]) for v in self.cotangents])
        return images + _gram(self.accelerator.reduce(rest, "mean"))

    def gradient(self, weights: Float[Tensor, " K"], beside: Sequence[Tensor] | None = None) -> Float[Tensor, " P"]:
        """Eq. (10): the gradient of sum_k lambda_k L_k by `parameters` and `rest`, averaged over the processes.

        Args:
            weights: lambda_k.
            beside: the gradient by what is shared of what is maximised beside the tasks; it has their mean weight, so
                that weightings differ in what they prefer alone.
        """
        everything = [*self.parameters, *self.rest]
        if self._rows is not None and beside is None:
            return weights.to(self._rows) @ self._rows
        total = [
            sum(w * v for w, v in zip(weights, column, strict=True)) for column in zip(*self.cotangents, strict=True)
        ]
        if beside is not None:
            total = [of_tasks + weights.mean() * other for of_tasks, other in zip(total, beside, strict=True)]
        return self.accelerator.reduce(self._backward(self.shared, everything, total), "mean")

    def _parameter_rows(self) -> Float[Tensor, "K P"]:
        everything = [*self.parameters, *self.rest]
        rows = torch.stack([self._backward(self.shared, everything, v) for v in self.cotangents])
        self._rows = self.accelerator.reduce(rows, "mean")
        return self._rows

    def _backward(self, images: Sequence[Tensor], by: Sequence[Tensor], cotangents: Sequence[Tensor]) -> Tensor:
        gradients = torch.autograd.grad(images, by, cotangents, retain_graph=True)
        return torch.cat([gradient.flatten() for gradient in gradients])


def cut(shared: Sequence[Tensor]) -> list[Tensor]:
    """Leaves in place of what is shared, by which each task is differentiated; parameters are leaves already."""
    return [tensor if tensor.is_leaf else tensor.detach().requires_grad_() for tensor in shared]


def ascend(
    tasks: Iterable[Task],
    gradients: TaskGradients,
    weighting: TaskWeighting,
    *,
    kpi_scale: Float[Tensor, " K"] | float = 1.0,
    kpi_floor: float = 0.0,
    beside: Callable[[Sequence[Tensor]], Sequence[Tensor]] | None = None,
) -> Weighed:
    """One step up to the update: sets `.grad` of all parameters to minus the ascent direction.

    Args:
        tasks: each is asked once, by one process or by all; its graph is freed before the next.
        gradients: what is shared and trained; the tasks' gradients are added to it.
        weighting: the task weights lambda_k.
        kpi_scale: what K_k is a share of.
        kpi_floor: K_k is no less.
        beside: the gradient, by the leaves, of what is maximised beside the tasks.
    """
    leaves = cut(gradients.shared)
    objectives, kpis = gradients.ask(tasks, leaves)
    kpis = (kpis / kpi_scale).clamp_min(kpi_floor)
    weights = weighting(TaskStatistics(objectives, kpis, gradients.gramian))
    ascent = gradients.gradient(weights, beside(leaves) if beside else None)
    trained = [*gradients.parameters, *gradients.rest]
    for parameter, part in zip(trained, ascent.split([p.numel() for p in trained]), strict=True):
        parameter.grad = -part.view_as(parameter)
    return Weighed(objectives, kpis, weights)


def _gram(rows: Float[Tensor, "K P"]) -> Float[Tensor, "K K"]:
    rows = rows.double()
    return rows @ rows.T

"""One step of Algorithm 1 with the graph cut at the protected images.

The tasks share nothing but the two protected images z (by the generator) and z_p (by the prior), so each
manipulator's graph is built, differentiated by (z, z_p) and freed before the next one starts: memory is that
of the largest manipulator, and one generator backward pass serves all of them.

Notation (name here -> the paper's symbol):
    specific, prior -> x + G(cat(x, delta_p)), x + delta_p       cotangents[k] -> v_k = d L_k^adv / d (z, z_p)
    weights -> lambda_k
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from accelerate import Accelerator
from jaxtyping import Float
from torch import Tensor, nn

from art_idguard.losses import LossConfig, single
from art_idguard.manipulators.base import Manipulator
from art_idguard.objective import distorted, objective
from art_idguard.perturbation import Protector
from art_idguard.recognizers.base import Recognizer
from art_idguard.regions import Scene
from art_idguard.robustness import NOTHING, Distortion
from art_idguard.types import Edit, Images
from art_idguard.weighting.base import TaskStatistics, TaskWeighting


class StepReport(NamedTuple):
    """What one step saw; every entry is equal on every process."""

    objective: Float[Tensor, " K"]
    kpi: Float[Tensor, " K"]
    weights: Float[Tensor, " K"]


class TaskGradients:
    """The gradients of K objectives by the protected images, and what follows from them by linearity."""

    def __init__(self, protector: Protector, protected: Sequence[Images], accelerator: Accelerator) -> None:
        self.protector = protector
        self.protected = protected
        self.accelerator = accelerator
        self.cotangents: list[tuple[Tensor, ...]] = []
        self._rows: Float[Tensor, "K P"] | None = None

    def add(self, cotangent: Sequence[Tensor]) -> None:
        """Append v_k, the gradient of the k-th objective by (z, z_p), or by z alone if the prior is not trained."""
        self.cotangents.append(tuple(cotangent))

    def gramian(self, space: str) -> Float[Tensor, "K K"]:
        """G = V V^T of the global objective, in float64, equal on every process."""
        if space == "parameters":
            own = sum(p.numel() for p in self.protector.generator.parameters())
            return _gram(self._parameter_rows()[:, :own])
        # Each process holds other images, that is, other coordinates of the gradient of a mean over R processes.
        images = _gram(torch.stack([v[0].flatten() for v in self.cotangents]))
        images = self.accelerator.reduce(images, "sum") / self.accelerator.num_processes**2
        if not self.protector.prior.requires_grad:
            return images
        prior = torch.stack(
            [self._backward(self.protected[1:], [self.protector.prior], v[1:]) for v in self.cotangents]
        )
        return images + _gram(self.accelerator.reduce(prior, "mean"))

    def gradient(self, weights: Float[Tensor, " K"]) -> Float[Tensor, " P"]:
        """Eq. (10): the gradient of sum_k lambda_k L_k^adv by the parameters, averaged over the processes."""
        if self._rows is not None:
            return weights.to(self._rows) @ self._rows
        total = [
            sum(w * v for w, v in zip(weights, column, strict=True)) for column in zip(*self.cotangents, strict=True)
        ]
        return self.accelerator.reduce(self._backward(self.protected, list(parameters(self.protector)), total), "mean")

    def _parameter_rows(self) -> Float[Tensor, "K P"]:
        everything = list(parameters(self.protector))
        rows = torch.stack([self._backward(self.protected, everything, v) for v in self.cotangents])
        self._rows = self.accelerator.reduce(rows, "mean")
        return self._rows

    def _backward(self, images: Sequence[Images], by: Sequence[Tensor], cotangents: Sequence[Tensor]) -> Tensor:
        return _flat(torch.autograd.grad(images, by, cotangents, retain_graph=True))


def parameters(protector: Protector) -> list[nn.Parameter]:
    """The generator's parameters, then the prior perturbation if it is trained."""
    prior = protector.prior
    return [*protector.generator.parameters(), *([prior] if prior.requires_grad else [])]


def _flat(tensors: Sequence[Tensor]) -> Float[Tensor, " P"]:
    return torch.cat([t.flatten() for t in tensors])


def _gram(rows: Float[Tensor, "K P"]) -> Float[Tensor, "K K"]:
    rows = rows.double()
    return rows @ rows.T


def cut_graph_step(
    protector: Protector,
    manipulators: Sequence[Manipulator],
    edits: Sequence[Edit],
    recognizer: Recognizer,
    weighting: TaskWeighting,
    scene: Scene,
    accelerator: Accelerator,
    loss: LossConfig,
    distortion: Distortion = NOTHING,
) -> StepReport:
    """Eq. (3) and (4), lines 18-20 of Algorithm 1 up to the update: sets `.grad` to minus the ascent direction.

    Manipulators and recogniser are frozen (no parameter requires a gradient), and the prior may be: z_p is left out
    then. `edits` has one edit for each manipulator. They see clean and protected faces through the `distortion`, whose
    gradient is part of v_k.
    """
    with accelerator.autocast():
        protected = [single(images) for images in protector(scene.images) if images.requires_grad]
    leaves = [images.detach().requires_grad_() for images in protected]
    tasks = TaskGradients(protector, protected, accelerator)
    view = distorted(scene, distortion)
    seen = []
    for manipulator, edit in zip(manipulators, edits, strict=True):
        # Not under autocast: bf16 is about as coarse as the perturbation.
        arriving = [distortion.images(images) for images in leaves]
        with accelerator.autocast():
            task = objective(manipulator, edit, recognizer, view, arriving, loss)
        tasks.add(torch.autograd.grad(task.total, leaves))
        seen.append(torch.stack([task.total.detach(), task.kpi]))
    objectives, kpis = accelerator.reduce(torch.stack(seen, dim=1), "mean")
    weights = weighting(TaskStatistics(objectives, kpis, tasks.gramian))
    _descend(protector, tasks.gradient(weights))
    return StepReport(objectives, kpis, weights)


def _descend(protector: Protector, ascent: Float[Tensor, " P"]) -> None:
    own = parameters(protector)
    for parameter, part in zip(own, ascent.split([p.numel() for p in own]), strict=True):
        parameter.grad = -part.view_as(parameter)

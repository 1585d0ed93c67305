"""Projected gradient descent (Madry et al., ICLR 2018), as the paper and its baselines use it."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from art_idguard.images import project
from art_idguard.perturbation.gradients import differentiate, is_steep, warn_if_flat
from art_idguard.types import Images, sent

JITTER = 1e-3
"""Start of an attack without random start, on the [-1, 1] scale."""


def pgd(
    objective: Callable[[Images], Tensor],
    x: Images,
    *,
    epsilon: float = 0.05,
    steps: int = 10,
    step_size: float = 0.01,
    momentum: float = 0.0,
    falling: bool = False,
    random_start: bool = True,
    generator: torch.Generator | None = None,
    warn: bool = True,
) -> Images:
    """Eq. (2): sign ascent on the objective in the L-inf ball around x; parameters get no gradient.

    The gradient of a distance to the model's clean output is zero at x itself, where plain sign
    ascent would stay for ever without an error. So every attack starts beside x.

    Deviates: without random start the official code begins within 1e-9 of x, which float32 rounds
    away in most pixels; here within 1e-3.

    Examples:
        >>> x = torch.zeros(1, 3, 8, 8)
        >>> attacked = pgd(lambda faces: faces.mean(), x, epsilon=0.05, steps=20)
        >>> bool((attacked - 0.05).abs().max() < 1e-6)
        True

    Args:
        objective: what to maximise, of faces like x: a scalar, or values that are summed.
        x: faces on the [-1, 1] scale.
        epsilon: bound on the [-1, 1] scale.
        steps: number of steps.
        step_size: length of a step in every pixel, on the [-1, 1] scale.
        momentum: what a step keeps of the gradients before it, each divided by its face's 1-norm (MI-FGSM, Dong et
            al., CVPR 2018).
        falling: the length falls linearly, to 0 behind the last step.
        random_start: start uniformly in the ball, not just beside x.
        generator: source of the start, on the CPU.
        warn: give a `NullAttackWarning` where no step found a gradient; looking for that waits for the device.

    Returns:
        Faces in the ball and in [-1, 1], detached.

    Raises:
        IDGuardError: the objective has no gradient at all.
    """
    radius = epsilon if random_start else min(JITTER, epsilon)
    start = radius * (2 * torch.rand(x.shape, generator=generator) - 1)
    attacked = project(x + sent(start.to(x.dtype), x.device), x, epsilon).detach()
    steep = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    direction = torch.zeros_like(attacked)
    for step in range(steps):
        with torch.enable_grad():
            attacked.requires_grad_()
            gradient = differentiate(objective(attacked), attacked)
        steep |= is_steep(gradient)
        gradient = gradient.nan_to_num(0)
        if momentum:
            gradient = direction = momentum * direction + F.normalize(gradient.flatten(1), p=1).view_as(gradient)
        length = step_size * (1 - step / steps) if falling else step_size
        attacked = project(attacked.detach() + length * gradient.sign(), x, epsilon)
    if warn and steps:
        warn_if_flat(steep)
    return attacked.detach()

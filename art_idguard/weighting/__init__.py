"""Task weighting (section III-C): how much the attack on each manipulator counts in a step.

>>> import torch
>>> weighting = make_weighting("kpi", alpha=(1.0, 1.0, 10.0))
>>> kpi = torch.tensor([0.5, 0.1, 0.01])
>>> statistics = TaskStatistics(objective=kpi, kpi=kpi, gramian=lambda space: torch.eye(3))
>>> weighting(statistics)  # beta^0 = 1
tensor([ 1.,  1., 10.])
>>> weighting(statistics)  # the least disrupted model counts most
tensor([ 0.3466,  2.0723, 45.5912])
"""

from collections.abc import Sequence
from inspect import signature
from typing import get_args

from art_idguard.errors import IDGuardError
from art_idguard.plugins import Registry
from art_idguard.weighting.base import Space, TaskStatistics, TaskWeighting
from art_idguard.weighting.dtp import DTPWeighting
from art_idguard.weighting.hmm import HMMWeighting
from art_idguard.weighting.kpi import KPIWeighting
from art_idguard.weighting.mgda import (
    SOLVERS,
    MGDAWeighting,
    duality_gap,
    frank_wolfe,
    min_norm_weights,
)
from art_idguard.weighting.prior import PriorWeighting, prior_weights
from art_idguard.weighting.uniform import UniformWeighting

WEIGHTINGS: Registry[type[TaskWeighting]] = Registry(
    "weightings",
    {
        weighting.name: weighting
        for weighting in (
            UniformWeighting,
            PriorWeighting,
            HMMWeighting,
            DTPWeighting,
            KPIWeighting,
            MGDAWeighting,
        )
    },
)


def make_weighting(
    name: str, *, alpha: Sequence[float], space: str = "perturbation", solver: str = "exact"
) -> TaskWeighting:
    """The weighting called `name`; it takes what it needs (of `alpha` maybe only the length).

    Examples:
        >>> make_weighting("mgda", alpha=(1.0, 10.0), space="parameters")
        MGDAWeighting(space='parameters', solver='exact')

    Args:
        name: one of `WEIGHTINGS`.
        alpha: prior weight of each task.
        space: whose gradients MGDA weighs, perturbation or parameters.
        solver: MGDA's, exact or frank-wolfe.

    Raises:
        IDGuardError: an unknown name, space or solver, or a prior weight that is not positive and
            finite.
    """
    for what, value, known in (
        ("weighting", name, WEIGHTINGS.names()),
        ("MGDA space", space, get_args(Space)),
        ("MGDA solver", solver, SOLVERS),
    ):
        if value not in known:
            raise IDGuardError(f"unknown {what} {value!r}; choose from: {', '.join(known)}")
    settings = {"alpha": alpha, "tasks": len(alpha), "space": space, "solver": solver}
    wanted = signature(WEIGHTINGS[name]).parameters
    return WEIGHTINGS[name](**{key: value for key, value in settings.items() if key in wanted})


def takes_alpha(name: str) -> bool:
    """Whether the weighting called `name` has prior weights."""
    return "alpha" in signature(WEIGHTINGS[name]).parameters


__all__ = [
    "WEIGHTINGS",
    "DTPWeighting",
    "HMMWeighting",
    "KPIWeighting",
    "MGDAWeighting",
    "PriorWeighting",
    "TaskStatistics",
    "TaskWeighting",
    "UniformWeighting",
    "duality_gap",
    "frank_wolfe",
    "make_weighting",
    "min_norm_weights",
    "prior_weights",
    "takes_alpha",
]

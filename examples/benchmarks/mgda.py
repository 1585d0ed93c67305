"""MGDA's solve, Eq. (11): the package's two solvers, TorchJD's and quadprog, in time and in how far from optimal.

Every second problem has gradients that share a direction.
"""

import math
from argparse import Namespace
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from art_idguard.weighting import frank_wolfe, min_norm_weights

from .measuring import seconds
from .suite import Suite

Solver = Callable[[Tensor], Tensor]
EPSILON = np.finfo(float).eps


def gramian(tasks: int, ratio: float, seed: int) -> Tensor:
    """Of random gradients whose norms differ by `ratio`, in float64."""
    random = np.random.default_rng(seed)
    rows = random.normal(size=(tasks, 100)) + seed % 2 * random.normal(size=100)
    rows *= random.permutation(np.geomspace(1, ratio, tasks))[:, None] / np.linalg.norm(rows, axis=1, keepdims=True)
    return torch.from_numpy(rows @ rows.T)


def solvers(suite: Suite) -> dict[str, Solver]:
    """Those that are installed, by name."""
    found: dict[str, Solver] = {"exact": min_norm_weights, "Frank-Wolfe": frank_wolfe}
    if torchjd := suite.optional("torchjd.aggregation"):
        found["TorchJD"] = torchjd.MGDAWeighting()
    if quadprog := suite.optional("quadprog"):

        def solve(matrix: Tensor) -> Tensor:
            tasks = len(matrix)
            constraints = np.column_stack([np.ones(tasks), np.eye(tasks)])  # sum w = 1, w >= 0
            bounds = np.eye(1, tasks + 1)[0]
            scaled = (matrix / matrix.max()).numpy()  # or it takes the constraints for inconsistent at 1 : 1e4
            return torch.from_numpy(quadprog.solve_qp(scaled, np.zeros(tasks), constraints, bounds, 1)[0])

        found["quadprog"] = solve
    return found


def solved(solve: Solver, matrix: Tensor) -> tuple[float, float]:
    """Milliseconds, and the squared norm that it found; infinity where the solver gives up."""
    weights: list[Tensor] = []
    try:
        taken = seconds(lambda: weights.append(solve(matrix)))
    except ValueError:  # quadprog's, where the matrix is singular or its constraints seem inconsistent
        return math.inf, math.inf
    return 1000 * taken, float(weights[0] @ matrix @ weights[0])


def measure(suite: Suite, options: Namespace) -> None:
    """Time and gap over some problems, which every solver gets in turn."""
    suite.about(
        f"{options.problems} problems each. ms: their median. Excess: by what share the squared norm exceeds the least "
        f"that any solver found, in the worst of them; {EPSILON:.1g} is rounding."
    )
    found = solvers(suite)
    for tasks in options.tasks:
        for solve in found.values():
            solved(solve, gramian(tasks, 1, 0))  # the exact solver compiles its problem
        for ratio in options.ratios:
            problems = (gramian(tasks, ratio, seed) for seed in range(options.problems))
            results = np.array([[solved(solve, matrix) for solve in found.values()] for matrix in problems])
            least = results[:, :, 1].min(axis=1)
            for name, (taken, norms) in zip(found, results.transpose(1, 2, 0), strict=True):
                excess = np.maximum(norms / least - 1, EPSILON)
                figures = {"ms": taken.tolist(), "worst excess": excess.tolist()}
                suite.add(f"{name}, norms 1 : {ratio:g}", figures, at=("tasks", tasks))

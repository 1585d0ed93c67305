"""Strategy I (S-I), Eq. (11): the multiple gradient descent algorithm (MGDA).

Notation: w -> lambda of Eq. (11); n_k -> norm of g_k, the gradient of task k; C -> their cosines.
"""

import threading
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from art_idguard.errors import IDGuardError
from art_idguard.weighting.base import Space, TaskStatistics, TaskWeighting

Vector = Float[np.ndarray, " K"]
Matrix = Float[np.ndarray, "K K"]


class MGDAWeighting(TaskWeighting):
    """Strategy I (S-I) of section III-C1: the convex combination of gradients with the least norm.

    Scaling all gradients, or turning all signs, changes nothing; scaling one task's does, since
    orthogonal gradients are weighted by 1 / n_k^2. `gap` is the last solution's `duality_gap`.

    Deviates: Eq. (11) prints losses inside the norm; MGDA needs gradients, as in the official code.
    """

    name: ClassVar[str] = "mgda"

    def __init__(self, *, space: Space = "perturbation", solver: Literal["exact", "frank-wolfe"] = "exact") -> None:
        super().__init__()
        self.space: Space = space
        self.solver = solver
        self.gap: float | None = None

    def forward(self, statistics: TaskStatistics) -> Float[Tensor, " K"]:
        """Eq. (11) on the Gramian in `space`.

        Raises:
            IDGuardError: a gradient is not finite.
        """
        gramian = statistics.gramian(self.space)
        weights = SOLVERS[self.solver](gramian)
        self.gap = duality_gap(gramian, weights)
        return weights

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        return f"space={self.space!r}, solver={self.solver!r}"


def min_norm_weights(gramian: Float[Tensor, "K K"]) -> Float[Tensor, " K"]:
    """Eq. (11), exact: the w >= 0, sum w = 1, that minimise w^T G w.

    Solved for u_k = w_k n_k / min_j n_j in float64: minimise u^T C u subject to u >= 0, c.u = 1,
    with c_k = min_j n_j / n_k; in w itself an interior-point solver fails once norms differ by 1e4.
    The solver's answer is polished on its support. For norms that differ by up to 1e6, w^T G w
    exceeds the minimum by at most 1e-8 of it, or, where gradients cancel out, by rounding error.

    Deviates: a zero gradient is itself the point of least norm, and all weight on it would stop the
    other tasks. To first order nothing helps or harms its task, so it gets weight zero and the
    others are weighted among themselves. If all are zero the weights are uniform.

    Examples:
        >>> min_norm_weights(torch.tensor([[1.0, 0.0], [0.0, 4.0]]))
        tensor([0.8000, 0.2000])

    Returns:
        Weights on the Gramian's device, in its precision. Duplicates share their weight equally.

    Raises:
        IDGuardError: a gradient is not finite.
    """
    return _on_nonzero(gramian, _solve_exactly)


def frank_wolfe(gramian: Float[Tensor, "K K"], *, iterations: int = 250) -> Float[Tensor, " K"]:
    """Eq. (11) by the paper's solver: Algorithm 2 of Sener and Koltun (NeurIPS 2018).

    Starts at the best two tasks, as the authors' implementation does. Its error falls like
    1 / iterations: at 250 w^T G w is up to a percent above the minimum; `duality_gap` bounds it.
    Zero gradients are treated as in `min_norm_weights`.

    Deviates: the official code calls a projected-gradient solver, which has the same optimum.

    Examples:
        >>> frank_wolfe(torch.tensor([[1.0, 0.0], [0.0, 4.0]]))
        tensor([0.8000, 0.2000])

    Raises:
        IDGuardError: a gradient is not finite.
    """
    return _on_nonzero(gramian, lambda matrix: _frank_wolfe(matrix, iterations))


def duality_gap(gramian: Float[Tensor, "K K"], weights: Float[Tensor, " K"]) -> float:
    """Certificate of optimality: max_k (w^T G w - (G w)_k) / w^T G w over the non-zero gradients.

    Zero if and only if w is optimal, and independent of the gradients' common scale: w^T G w
    exceeds the minimum by at most twice this share of itself. Where the gradients cancel out,
    w^T G w is rounding error and so is the ratio.

    Examples:
        >>> gramian = torch.tensor([[1.0, 0.0], [0.0, 4.0]])
        >>> duality_gap(gramian, min_norm_weights(gramian)) < 1e-6
        True
        >>> round(duality_gap(gramian, torch.tensor([0.5, 0.5])), 6)
        0.6
    """
    matrix, w = _array(gramian), _array(weights)
    slopes = matrix @ w
    squared_norm = w @ slopes
    if squared_norm <= 0:
        return 0.0
    return max(0.0, float(1 - slopes[np.diag(matrix) > 0].min() / squared_norm))


SOLVERS: dict[str, Callable[[Tensor], Tensor]] = {
    "exact": min_norm_weights,
    "frank-wolfe": frank_wolfe,
}


def _array(tensor: Tensor) -> Float[np.ndarray, "*s"]:
    return tensor.detach().cpu().double().numpy()


def _on_nonzero(gramian: Float[Tensor, "K K"], solve: Callable[[Matrix], Vector]) -> Float[Tensor, " K"]:
    """`solve` for the tasks whose gradient is not zero, in float64; weight zero for the others."""
    matrix = _array(gramian)
    if not np.isfinite(matrix).all():
        bad = np.flatnonzero(~np.isfinite(np.diag(matrix))).tolist()
        raise IDGuardError(
            f"the gradients of tasks {bad} (counted from 0) are not finite: check these "
            "manipulators' weights and the faces, or train without mixed precision"
        )
    nonzero = np.diag(matrix) > 0
    weights = np.zeros(len(matrix))
    if nonzero.any():
        matrix = matrix[np.ix_(nonzero, nonzero)]
        weights[nonzero] = solve((matrix + matrix.T) / 2)
    else:
        weights[:] = 1 / len(matrix)
    return torch.from_numpy(weights).to(gramian)


def _solve_exactly(gramian: Matrix) -> Vector:
    norms = np.sqrt(np.diag(gramian))
    c = norms.min() / norms
    values, vectors = np.linalg.eigh(gramian / np.outer(norms, norms))
    root = np.sqrt(values.clip(0))[:, None] * vectors.T
    with _SOLVING:  # threads share the compiled problem
        problem, root_parameter, c_parameter, u = _problem(len(gramian))
        root_parameter.value, c_parameter.value = root, c
        with warnings.catch_warnings():  # an inaccurate solution is polished, and its gap reported
            warnings.filterwarnings("ignore", "Solution may be inaccurate", UserWarning)
            problem.solve(solver="CLARABEL", warm_start=False)  # or the last bits would depend on what it solved before
        solution = u.value
    weights = _polish(root, c, solution) * c
    return weights / weights.sum()


_SOLVING = threading.Lock()


@cache
def _problem(tasks: int) -> tuple[Any, Any, Any, Any]:
    """The problem, compiled once per number of tasks (DPP); its parameters C^(1/2) and c; u."""
    import cvxpy as cp  # takes 1.5 s

    root, c = cp.Parameter((tasks, tasks)), cp.Parameter(tasks, nonneg=True)
    u = cp.Variable(tasks, nonneg=True)
    return cp.Problem(cp.Minimize(cp.sum_squares(root @ u)), [c @ u == 1]), root, c, u


def _polish(root: Matrix, c: Vector, u: Vector) -> Vector:
    """The best of `u` and its corrections to KKT points on the tasks with the 1..K largest u_k.

    An interior-point solution is accurate to 1e-8 and strictly positive; on the right support the
    optimum solves the linear system C u = mu c, c.u = 1. The least correction keeps `u` where C is
    singular. Among equals the largest support is taken, so that duplicates stay equal.
    """
    order = np.argsort(-u)
    supports = [order[:size] for size in range(len(u), 0, -1)]
    candidates = [_correct(root.T @ root, c, u, support) for support in supports]
    candidates = [v / (c @ v) for v in (*candidates, u.clip(0)) if c @ v > 0]
    squared_norms = np.array([np.square(root @ v).sum() for v in candidates])
    return candidates[int((squared_norms <= squared_norms.min() * (1 + 1e-12)).argmax())]


def _correct(cosines: Matrix, c: Vector, u: Vector, support: np.ndarray) -> Vector:
    size, c = len(support), c[support]
    kkt = np.block([[cosines[np.ix_(support, support)], -c[:, None]], [c, np.zeros((1, 1))]])
    start = np.append(u[support], u[support] @ kkt[:size, :size] @ u[support])
    target = np.append(np.zeros(size), 1.0)
    correction = np.linalg.lstsq(kkt, target - kkt @ start)[0]
    corrected = np.zeros(len(u))
    corrected[support] = (start + correction)[:size].clip(0)
    return corrected


def _frank_wolfe(gramian: Matrix, iterations: int) -> Vector:
    pairs = [_step(gramian, vertex, k) for vertex in np.eye(len(gramian)) for k in range(len(gramian))]
    weights = min(pairs, key=lambda w: w @ gramian @ w)
    for _ in range(iterations):
        moved = _step(gramian, weights, int((gramian @ weights).argmin()))
        if moved is weights:
            break
        weights = moved
    return weights


def _step(gramian: Matrix, weights: Vector, task: int) -> Vector:
    """The point of least norm between `weights` and `task` (Sener and Koltun, Algorithm 1)."""
    direction = np.eye(len(weights))[task] - weights
    descent = -direction @ gramian @ weights
    if descent <= 0:
        return weights
    return weights + descent / max(descent, direction @ gramian @ direction) * direction

"""MGDA: optimality, against enumeration of supports, TorchJD and the official answers."""

import itertools
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchjd.aggregation import MGDAWeighting as TorchJDWeighting

from art_idguard.errors import IDGuardError
from art_idguard.weighting import (
    MGDAWeighting,
    TaskStatistics,
    duality_gap,
    frank_wolfe,
    min_norm_weights,
)
from tests.golden import GOLDENS

GOLDEN = json.loads((GOLDENS / "mgda_minnorm.json").read_text())
SHAPES = ("generic", "aligned", "opposed", "duplicate", "cancelling", "nearly equal")
both_solvers = pytest.mark.parametrize("solve", [min_norm_weights, frank_wolfe])


def gradients(shape, tasks, dim, spread, seed):
    """Rows of a given geometry whose norms differ by up to 10^spread."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(tasks, dim))
    if shape == "aligned":
        rows += 3 * rng.normal(size=dim)
    if tasks > 1 and shape == "opposed":
        rows[1] = 0.1 * rows[1] - rows[0]
    if tasks > 1 and shape == "nearly equal":
        rows[1] = rows[0] + 1e-6 * rows[1]
    rows *= 10 ** rng.uniform(-spread / 2, spread / 2, size=(tasks, 1))
    if shape == "duplicate":
        rows[-1] = rows[0]
    if tasks > 1 and shape == "cancelling":
        rows[-1] = -rows[0]
    return rows


def enumerate_supports(rows):
    """Oracle: the least norm over the affine hulls of all subsets, if inside the simplex."""
    norms = np.linalg.norm(rows, axis=1)
    c, unit = norms.min() / norms, rows / norms[:, None]
    best = (np.inf, None)
    for size in range(1, len(rows) + 1):
        for support in map(list, itertools.combinations(range(len(rows)), size)):
            edge = c[support][:, None]
            kkt = np.block([[unit[support] @ unit[support].T, -edge], [edge.T, np.zeros((1, 1))]])
            u = np.linalg.lstsq(kkt, np.append(np.zeros(size), 1.0))[0][:size].clip(0)
            weights = np.zeros(len(rows))
            weights[support] = u * c[support]
            if weights.sum() > 0:
                weights /= weights.sum()
                best = min(best, (np.square(weights @ rows).sum(), tuple(weights)))
    return best[0], np.array(best[1])


def gram(rows):
    return torch.from_numpy(rows @ rows.T)


def squared_norm(gramian, weights):
    return (weights @ gramian @ weights).item()


@pytest.mark.slow
@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    shape=st.sampled_from(SHAPES),
    tasks=st.integers(1, 6),
    dim=st.sampled_from([2, 3, 6, 40]),
    spread=st.sampled_from([0, 2, 4, 6]),
    seed=st.integers(0, 2**32 - 1),
)
def test_exact_solution_agrees_with_support_enumeration(shape, tasks, dim, spread, seed):
    rows = gradients(shape, tasks, dim, spread, seed)
    weights = min_norm_weights(gram(rows)).numpy()
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(1, abs=1e-12)
    least, optimum = enumerate_supports(rows)
    # Inner products are known to eps * n_j n_k, and so is a norm that comes from cancellation.
    rounding = 1e-14 * (optimum @ np.linalg.norm(rows, axis=1)) ** 2
    assert np.square(weights @ rows).sum() <= least * (1 + 1e-8) + rounding


@pytest.mark.parametrize("spread", [0, 3, 6])
@pytest.mark.parametrize("shape", ["generic", "aligned", "duplicate"])
def test_exact_solution_satisfies_the_kkt_conditions(shape, spread):
    for seed in range(10):
        rows = gradients(shape, 5, 40, spread, seed)
        gramian = gram(rows)
        weights = min_norm_weights(gramian)
        least = squared_norm(gramian, weights)
        slopes = gramian @ weights
        assert (slopes >= least * (1 - 1e-7)).all()
        torch.testing.assert_close(weights * (slopes - least), torch.zeros(5).double(), rtol=0, atol=1e-8 * least)
        assert duality_gap(gramian, weights) <= 1e-7


@pytest.mark.parametrize("shape", ["generic", "aligned", "duplicate"])
def test_exact_solution_agrees_with_torchjd(shape):
    reference = TorchJDWeighting(epsilon=1e-9, max_iters=3000)
    for seed in range(4):
        gramian = gram(gradients(shape, 4, 30, 1, seed))
        theirs = squared_norm(gramian, reference(gramian))
        ours = squared_norm(gramian, min_norm_weights(gramian))
        assert ours <= theirs * (1 + 1e-12)
        assert ours == pytest.approx(theirs, rel=5e-3)  # their Frank-Wolfe converges like 1/t


@pytest.mark.parametrize("case", GOLDEN)
def test_exact_solution_is_at_least_as_good_as_the_official_solvers(case):
    golden = GOLDEN[case]
    gramian = torch.tensor(golden["gram"], dtype=torch.float64)
    ours = squared_norm(gramian, min_norm_weights(gramian))
    official = min(golden["min_norm_sq_pg"], golden["min_norm_sq_fw"])
    assert ours <= official * (1 + 1e-11)
    assert ours == pytest.approx(official, rel=5e-4)


@pytest.mark.parametrize("case", GOLDEN)
def test_frank_wolfe_agrees_with_the_official_frank_wolfe(case):
    golden = GOLDEN[case]
    gramian = torch.tensor(golden["gram"], dtype=torch.float64)
    found = squared_norm(gramian, frank_wolfe(gramian))
    assert found == pytest.approx(golden["min_norm_sq_fw"], rel=1e-3)


def test_frank_wolfe_stays_near_the_optimum():
    for seed in range(10):
        gramian = gram(gradients("generic", 5, 40, 2, seed))
        exact, approximate = (solve(gramian) for solve in (min_norm_weights, frank_wolfe))
        excess = squared_norm(gramian, approximate) / squared_norm(gramian, exact) - 1
        assert -1e-12 <= excess <= 0.02
        assert excess <= 2 * duality_gap(gramian, approximate) + 1e-12


@both_solvers
def test_orthogonal_gradients_are_weighted_by_the_inverse_of_their_squared_norms(solve):
    squares = torch.tensor([1.0, 4.0, 25.0], dtype=torch.float64)
    expected = (1 / squares) / (1 / squares).sum()
    torch.testing.assert_close(solve(squares.diag()), expected, rtol=0, atol=2e-3)
    torch.testing.assert_close(min_norm_weights(squares.diag()), expected, rtol=1e-9, atol=0)


@both_solvers
def test_a_single_task_has_weight_one(solve):
    assert solve(torch.tensor([[4e-9]])).tolist() == [1]


@both_solvers
def test_a_zero_gradient_gets_no_weight_and_changes_no_other(solve):
    rows = gradients("generic", 4, 30, 2, 0)
    with_zeros = np.insert(rows, [0, 2], 0, axis=0)
    weights = solve(gram(with_zeros))
    assert weights[[0, 3]].tolist() == [0, 0]
    torch.testing.assert_close(weights[[1, 2, 4, 5]], solve(gram(rows)))


@both_solvers
def test_all_gradients_zero_gives_uniform_weights(solve):
    assert solve(torch.zeros(4, 4)).tolist() == [0.25] * 4


def test_duplicates_share_their_weight():
    rows = gradients("aligned", 4, 30, 2, 3)[[0, 1, 2, 3, 0, 1]]
    weights = min_norm_weights(gram(rows))
    torch.testing.assert_close(weights[:2], weights[4:], rtol=1e-6, atol=1e-9)


@both_solvers
def test_a_gradient_that_is_not_finite_is_named(solve):
    rows = gradients("generic", 3, 5, 0, 0)
    rows[1, 2] = np.nan
    with pytest.raises(IDGuardError, match=r"tasks \[1\].*not finite"):
        solve(gram(rows))


def test_gap_is_zero_only_at_the_optimum_and_ignores_the_scale():
    gramian = gram(gradients("generic", 5, 40, 1, 0))
    optimum, uniform = min_norm_weights(gramian), torch.full((5,), 0.2, dtype=torch.float64)
    assert duality_gap(gramian, optimum) < 1e-9 < duality_gap(gramian, uniform)
    assert duality_gap(1e6 * gramian, uniform) == pytest.approx(duality_gap(gramian, uniform))
    assert duality_gap(torch.zeros(5, 5), uniform) == 0


@pytest.mark.parametrize("solver", ["exact", "frank-wolfe"])
@pytest.mark.parametrize("space", ["perturbation", "parameters"])
def test_mgda_asks_for_its_space_once_and_keeps_the_gap(solver, space):
    calls = []
    gramian = gram(gradients("generic", 3, 10, 1, 0)).float()
    weighting = MGDAWeighting(space=space, solver=solver)
    assert weighting.gap is None

    def pull(asked):
        calls.append(asked)
        return gramian

    weights = weighting(TaskStatistics(torch.ones(3), torch.ones(3), pull))
    assert calls == [space]
    assert weighting.gap == duality_gap(gramian, weights) < 0.05


def test_threads_do_not_share_a_solution():
    """The compiled problem is one for all of them."""
    gramians = [torch.diag(torch.tensor([1.0, float(k)], dtype=torch.float64)) for k in range(1, 25)] * 4
    with ThreadPoolExecutor(4) as pool:
        weights = list(pool.map(min_norm_weights, gramians))
    for gramian, found in zip(gramians, weights, strict=True):
        torch.testing.assert_close(found, min_norm_weights(gramian))


def test_a_solution_is_the_same_bit_for_bit_whatever_was_solved_before():
    """A resumed training has solved less than an unbroken one."""
    rows = torch.randn(40, 4, 6, dtype=torch.float64) * torch.logspace(0, 3, 4, dtype=torch.float64)[:, None]
    gramians = rows @ rows.mT
    first = [min_norm_weights(gramian) for gramian in gramians]
    again = [min_norm_weights(gramian) for gramian in gramians.flip(0)][::-1]
    assert all(map(torch.equal, first, again))

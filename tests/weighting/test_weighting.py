"""The whole family of task weightings: what holds for all, then the members' own values."""

import math

import pytest
import torch

from art_idguard.errors import IDGuardError
from art_idguard.weighting import (
    WEIGHTINGS,
    DTPWeighting,
    HMMWeighting,
    KPIWeighting,
    PriorWeighting,
    TaskStatistics,
    make_weighting,
    prior_weights,
)

ALPHA = (1.0, 1.0, 1.0, 10.0, 100.0)  # the paper's
every_weighting = pytest.mark.parametrize("name", WEIGHTINGS)


def statistics(seed=0, dtype=torch.float64, calls=None, scale=None):
    """Five tasks with random objectives, KPIs and gradients; those times `scale`."""
    g = torch.Generator().manual_seed(seed)
    kpi = torch.rand(5, generator=g, dtype=torch.float64)
    rows = torch.randn(5, 12, generator=g, dtype=torch.float64) + 0.5
    rows = rows * (torch.ones(5) if scale is None else torch.tensor(scale))[:, None]

    def gramian(space):
        if calls is not None:
            calls.append(space)
        return (rows @ rows.T).to(dtype)

    return TaskStatistics(objective=(3 * kpi).to(dtype), kpi=kpi.to(dtype), gramian=gramian)


def run(weighting, steps=3, **options):
    """The weights of some iterations; several, for members that remember."""
    return torch.stack([weighting(statistics(seed, **options)) for seed in range(steps)])


@every_weighting
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_weights_are_finite_non_negative_and_in_the_precision_of_the_statistics(name, dtype):
    weights = run(make_weighting(name, alpha=ALPHA), dtype=dtype)
    assert weights.dtype == dtype
    assert weights.isfinite().all()
    assert (weights >= 0).all()
    assert (weights.sum(1) > 0).all()


@pytest.mark.parametrize("name", ["hmm", "mgda"])
def test_weights_lie_on_the_simplex(name):
    torch.testing.assert_close(run(make_weighting(name, alpha=ALPHA)).sum(1), torch.ones(3).double())


@every_weighting
def test_permuting_the_tasks_permutes_the_weights(name):
    order = torch.tensor([3, 0, 4, 1, 2])
    weighting = make_weighting(name, alpha=ALPHA)
    permuted = make_weighting(name, alpha=[ALPHA[k] for k in order])
    for seed in range(3):
        s = statistics(seed)
        turned = TaskStatistics(s.objective[order], s.kpi[order], lambda space, s=s: s.gramian(space)[order][:, order])
        torch.testing.assert_close(permuted(turned), weighting(s)[order], rtol=1e-6, atol=1e-9)


@every_weighting
def test_scaling_all_gradients_changes_no_weight(name):
    weights = [run(make_weighting(name, alpha=ALPHA), scale=[s] * 5) for s in (1.0, 1e-4, 1e4)]
    for scaled in weights[1:]:
        torch.testing.assert_close(scaled, weights[0], rtol=1e-6, atol=1e-9)


@every_weighting
def test_scaling_one_gradient_changes_weights_only_where_gradients_are_looked_at(name):
    calls = []
    plain = run(make_weighting(name, alpha=ALPHA), calls=calls)
    scaled = run(make_weighting(name, alpha=ALPHA), scale=[1.0, 1.0, 7.0, 1.0, 1.0])
    assert torch.equal(plain, scaled) == (not calls)


@every_weighting
def test_a_restored_state_continues_bit_exactly(name):
    unbroken = make_weighting(name, alpha=ALPHA)
    expected = run(unbroken, steps=6)[3:]
    broken = make_weighting(name, alpha=ALPHA)
    run(broken, steps=3)
    resumed = make_weighting(name, alpha=(1.0,) * 5)  # alpha, too, comes from the state
    resumed.load_state_dict(broken.state_dict())
    found = torch.stack([resumed(statistics(seed)) for seed in range(3, 6)])
    assert torch.equal(found, expected)


@every_weighting
def test_repr_is_the_constructor_call(name):
    weighting = make_weighting(name, alpha=ALPHA, space="parameters", solver="frank-wolfe")
    found = eval(repr(weighting), {type(weighting).__name__: WEIGHTINGS[name]})
    assert repr(found) == repr(weighting)
    assert torch.equal(run(found), run(weighting))


def test_uniform_weights_are_ones():
    assert torch.equal(run(make_weighting("uniform", alpha=ALPHA)), torch.ones(3, 5).double())


def test_prior_weights_are_alpha():
    assert run(PriorWeighting(ALPHA)).tolist() == [list(ALPHA)] * 3


def test_hmm_takes_the_least_disrupted_model():
    kpi = torch.tensor([0.3, 0.02, 0.5])
    weighting = HMMWeighting()
    assert weighting(TaskStatistics(kpi, kpi, lambda space: torch.eye(3))).tolist() == [0, 1, 0]


# -(1-K) ln K with the math module; 0 where the model is wholly disrupted.
KPI = torch.tensor([1e-4, 0.01, 0.05, 0.5, 1.0, 1.7, 0.0], dtype=torch.float64)
BETA = [-(1 - k) * math.log(k) for k in (1e-4, 0.01, 0.05, 0.5, 1.0, 1.0, 1e-13)]


def test_kpi_weights_by_the_previous_iteration():
    weighting = KPIWeighting([10.0] * 7).double()
    first, second = (TaskStatistics(k, k, lambda space: torch.eye(7)) for k in (KPI, KPI.flip(0)))
    assert weighting(first).tolist() == [10.0] * 7
    assert weighting(second).tolist() == pytest.approx([10 * b for b in BETA])
    assert weighting(first).tolist() == pytest.approx([10 * b for b in BETA[::-1]])


def test_kpi_without_lag_weighs_by_its_own_iteration():
    weighting = KPIWeighting([10.0] * 7, lag=0).double()
    found = weighting(TaskStatistics(KPI, KPI, lambda space: torch.eye(7)))
    assert found.tolist() == pytest.approx([10 * b for b in BETA])


def test_dtp_is_kpi_without_prior():
    assert torch.equal(run(DTPWeighting(5)), run(KPIWeighting([1.0] * 5)))


def test_a_less_disrupted_model_never_weighs_less():
    kpi = torch.linspace(0, 1.2, 200)
    weighting = DTPWeighting(200, lag=0)
    weights = weighting(TaskStatistics(kpi, kpi, lambda space: torch.eye(200)))
    assert (weights.diff() <= 0).all()


def test_prior_weights_of_plausible_distances_are_the_papers():
    assert prior_weights(torch.tensor([0.6, 0.4, 0.5, 0.05, 0.006])).tolist() == list(ALPHA)


def test_prior_weights_of_lightly_trained_models():
    # StarGAN, AGGAN, FPGAN, RelGAN: white-box PGD reaches these distances on models of few steps.
    assert prior_weights(torch.tensor([0.054, 0.079, 0.035, 0.016])).tolist() == [1, 1, 1, 10]


def test_prior_weights_are_powers_of_ten_that_ignore_the_common_scale():
    distances = 10 ** torch.linspace(-4, 0, 9).double()
    found = prior_weights(distances)
    assert torch.equal(found, prior_weights(7 * distances))
    torch.testing.assert_close(found.log10(), found.log10().round())
    assert found.min() == 1


@pytest.mark.parametrize("bad", [0.0, math.nan, math.inf])
def test_prior_weights_name_the_task_without_distance(bad):
    with pytest.raises(IDGuardError, match=r"tasks \[1\].*start it at random"):
        prior_weights(torch.tensor([0.1, bad]))


@pytest.mark.parametrize("weighting", [PriorWeighting, KPIWeighting])
@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan])
def test_alpha_must_be_positive(weighting, bad):
    with pytest.raises(IDGuardError, match="positive"):
        weighting([1.0, bad])


@pytest.mark.parametrize("wrong", [{"name": "mgd"}, {"space": "pixels"}, {"solver": "qp"}])
def test_unknown_choices_are_listed(wrong):
    with pytest.raises(IDGuardError, match=f"{next(iter(wrong.values()))}.*choose from"):
        make_weighting(**{"name": "mgda", "alpha": ALPHA, **wrong})

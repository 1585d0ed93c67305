"""The paper's baselines as ART attacks: one contract for all, then each one's own properties."""

import numpy as np
import pytest
import torch
from art.attacks.evasion import ProjectedGradientDescent
from art.estimators.classification import PyTorchClassifier
from art.exceptions import EstimatorError
from skimage import color

from art_idguard.attacks import (
    ATTACKS,
    AntiForgeryAttack,
    CMUAAttack,
    DisruptingAttack,
    IDGuardAttack,
    InitiativeAttack,
)
from art_idguard.attacks.trained import TrainedAttack
from art_idguard.errors import IDGuardError
from art_idguard.estimators import PyTorchManipulator
from art_idguard.perturbation.lab import lab_to_rgb, rgb_to_lab
from art_idguard.trained_baselines import correlation
from tests.toys import tiny_manipulators

SIZE, EPS = 32, 0.025
QUICK = {
    "DisruptingAttack": {"max_iter": 6},
    "CMUAAttack": {"max_iter": 10},
    "InitiativeAttack": {"steps": 80, "channels": 8, "train_batch": 4, "lr": 2e-3},
    "IAPAttack": {"steps": 40, "channels": 8, "train_batch": 4, "lr": 2e-3},
    "AntiForgeryAttack": {"max_iter": 15, "lr": 1e-2, "project_eps": EPS},
}
BASELINES = {name: attack for name, attack in ATTACKS.items() if not issubclass(attack, IDGuardAttack)}


@pytest.fixture(scope="module")
def x():
    smooth = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    return torch.nn.functional.interpolate(smooth, (SIZE, SIZE), mode="bilinear").numpy()


@pytest.fixture(scope="module")
def estimators():
    models = tiny_manipulators(["stargan", "fpgan"])
    return [PyTorchManipulator(m, input_shape=(3, SIZE, SIZE)) for m in models]


def made(name, estimators, **changes):
    target = estimators if issubclass(ATTACKS[name], TrainedAttack) else estimators[0]
    return ATTACKS[name](target, verbose=False, **(QUICK[name] | changes))


def fitted(name, estimators, x, **changes):
    attack = made(name, estimators, **changes)
    return attack.fit(x) if isinstance(attack, TrainedAttack) else attack


def moved(estimator, x, attacked):
    """Mean squared distance of the forgeries, over all edits."""
    found = []
    for edit in estimator.edit_names:
        one = PyTorchManipulator(estimator.model, edit=edit, input_shape=x.shape[1:])
        found.append(one.compute_loss(attacked, one.predict(x)).mean())
    return float(np.mean(found))


def test_every_baseline_has_quick_settings_here():
    assert set(QUICK) == set(BASELINES)


@pytest.mark.parametrize("name", BASELINES)
def test_the_bound_holds_and_forgeries_move_further_than_by_noise(name, estimators, x):
    attack = fitted(name, estimators, x)
    attacked = attack.generate(x)
    assert attacked.shape == x.shape
    assert attacked.dtype == x.dtype
    assert attacked.min() >= 0
    assert attacked.max() <= 1
    assert np.abs(attacked - x).max() <= EPS + 1e-6
    noise = np.random.default_rng(0).uniform(-EPS, EPS, x.shape).astype(np.float32)
    assert moved(estimators[0], x, attacked) > 1.1 * moved(estimators[0], x, (x + noise).clip(0, 1))


@pytest.mark.parametrize("name", BASELINES)
def test_a_seed_makes_it_repeatable(name, estimators, x):
    quick = {"steps": 3} if "steps" in QUICK[name] else {"max_iter": 3}
    first, second, other = (fitted(name, estimators, x[:4], seed=seed, **quick).generate(x[:2]) for seed in (3, 3, 4))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("name", BASELINES)
def test_arts_conventions(name, estimators):
    attack = made(name, estimators)
    assert all(f"{parameter}=" in repr(attack) for parameter in attack.attack_params)
    attack.set_params(batch_size=3)
    assert attack.batch_size == 3
    with pytest.raises(ValueError, match="cannot be set"):
        attack.set_params(colour="red")
    for wrong in (PyTorchClassifier(torch.nn.Flatten(), torch.nn.CrossEntropyLoss(), (3, 8, 8), 2), "stargan"):
        with pytest.raises(EstimatorError):
            ATTACKS[name](wrong)


@pytest.mark.parametrize(
    ("name", "parameter", "value"),
    [
        *((name, "eps", 0) for name in BASELINES),
        *((name, "batch_size", 0) for name in BASELINES),
        *((name, "verbose", 1) for name in BASELINES),
        ("DisruptingAttack", "eps_step", -1.0),
        ("DisruptingAttack", "max_iter", 0),
        ("DisruptingAttack", "mode", "all"),
        ("DisruptingAttack", "target", "black"),
        ("CMUAAttack", "eps_step", 0),
        ("CMUAAttack", "max_iter", 0),
        ("CMUAAttack", "trials", -1),
        ("InitiativeAttack", "steps", 0),
        ("InitiativeAttack", "lr", 0.0),
        ("IAPAttack", "channels", 1.5),
        ("IAPAttack", "train_batch", 0),
        ("AntiForgeryAttack", "lr", 0.0),
        ("AntiForgeryAttack", "project_eps", -0.1),
        ("AntiForgeryAttack", "max_iter", 0),
    ],
)
def test_a_wrong_parameter_is_named(name, parameter, value, estimators):
    attack = made(name, estimators)
    with pytest.raises(ValueError, match=f"`{parameter}`"):
        attack.set_params(**{parameter: value})


@pytest.mark.parametrize("name", [n for n, a in BASELINES.items() if issubclass(a, TrainedAttack)])
def test_before_training_there_is_an_error_and_strangers_are_refused(name, estimators, x):
    with pytest.raises(IDGuardError, match=r"fit\(x\)"):
        made(name, estimators).generate(x)
    with pytest.raises(IDGuardError, match="labels"):
        made(name, estimators).fit(x, np.zeros((2, 5)))
    with pytest.raises(ValueError, match="no|not"):
        ATTACKS[name]([PyTorchManipulator(lambda z: z)])
    with pytest.raises(ValueError, match="at least one"):
        ATTACKS[name]([])


def test_disrupting_one_edit_is_what_arts_pgd_does(estimators, x):
    estimator = estimators[0]
    ours = DisruptingAttack(estimator, mode="image", random_start=False, verbose=False).generate(x)
    theirs = ProjectedGradientDescent(estimator, eps=EPS, eps_step=0.005, max_iter=10, verbose=False).generate(x)
    y = estimator.predict(x)
    assert estimator.compute_loss(ours, y).mean() == pytest.approx(estimator.compute_loss(theirs, y).mean(), rel=0.05)


def test_class_transferable_attacks_move_all_edits_more_than_an_attack_on_one(estimators, x):
    reached = {
        mode: moved(estimators[0], x, DisruptingAttack(estimators[0], mode=mode, verbose=False).generate(x))
        for mode in ("image", "iterative", "joint")
    }
    assert reached["joint"] > 0.98 * reached["image"]
    assert reached["iterative"] > 0.9 * reached["image"]


@pytest.mark.parametrize("target", ["white", "array"])
def test_a_target_draws_the_forgeries_towards_it(target, estimators, x):
    estimator = estimators[0]
    picture = np.ones((3, SIZE, SIZE), np.float32) if target == "white" else np.full((3, SIZE, SIZE), 0.2, np.float32)
    attack = DisruptingAttack(estimator, mode="image", target="white" if target == "white" else picture, verbose=False)
    reference = np.broadcast_to(picture, x.shape)
    assert estimator.compute_loss(attack.generate(x), reference).mean() < estimator.compute_loss(x, reference).mean()


def test_cmua_is_one_perturbation_for_all(estimators, x):
    attack = made("CMUAAttack", estimators)
    assert attack.noise is None
    attacked = attack.fit(x).generate(x)
    assert attack.noise.shape == (1, 3, SIZE, SIZE)
    inside = (attacked > 0) & (attacked < 1)
    assert np.abs(attacked - x - attack.noise)[inside].max() < 1e-6


def test_cmuas_search_is_no_worse_than_no_search(estimators, x):
    pytest.importorskip("optuna")
    plain = made("CMUAAttack", estimators, max_iter=2).fit(x)
    searched = made("CMUAAttack", estimators, max_iter=2, trials=4).fit(x)
    assert len(searched.factors) == 2
    assert plain.factors == (1.0, 1.0)

    def worst(attack):
        attacked = attack.generate(x)
        return min(e.compute_loss(attacked, e.predict(x)).mean() for e in estimators)

    assert worst(searched) >= worst(plain) - 1e-9


def test_without_optuna_the_error_says_how_to_get_it(estimators, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(IDGuardError, match=r"art-idguard\[cmua\]"):
        CMUAAttack(estimators, trials=1)
    assert CMUAAttack(estimators).trials == 0


def test_initiative_never_differentiates_the_manipulator(estimators, x):
    model = tiny_manipulators(["stargan"])[0]
    seen = []
    model.register_forward_hook(lambda *_: seen.append(torch.is_grad_enabled()))
    InitiativeAttack(PyTorchManipulator(model), **QUICK["InitiativeAttack"] | {"steps": 2}, verbose=False).fit(x)
    assert seen == [False, False]


def test_correlation_is_pearsons():
    a, b = torch.randn(3, 4, 5), torch.randn(3, 4, 5)
    expected = [np.corrcoef(i.flatten(), j.flatten())[0, 1] for i, j in zip(a, b, strict=True)]
    assert correlation(a, b).tolist() == pytest.approx(expected, abs=1e-6)


def test_lab_is_scikit_images():
    rgb = torch.rand(2, 3, 9, 7, dtype=torch.float64)
    expected = color.rgb2lab(rgb.permute(0, 2, 3, 1).numpy())
    torch.testing.assert_close(rgb_to_lab(rgb).permute(0, 2, 3, 1), torch.from_numpy(expected), rtol=1e-3, atol=2e-2)
    torch.testing.assert_close(lab_to_rgb(rgb_to_lab(rgb)), rgb, rtol=0, atol=1e-5)
    grey = torch.zeros(1, 3, 1, 1, requires_grad=True)
    (gradient,) = torch.autograd.grad(lab_to_rgb(rgb_to_lab(grey) + 1).sum(), grey)
    assert gradient.isfinite().all()


def test_anti_forgery_bounds_colour_and_leaves_lightness(estimators, x):
    middle = 0.3 + 0.4 * x  # colours that stay inside RGB
    attacked = AntiForgeryAttack(estimators[0], max_iter=10, lr=1e-2, verbose=False).generate(middle)
    before, after = (rgb_to_lab(torch.from_numpy(v)) for v in (middle, attacked))
    assert (after[:, 0] - before[:, 0]).abs().max() < 0.2  # of 100
    assert (after[:, 1:] - before[:, 1:]).abs().max() / 110 < 0.05 + 2e-3
    assert np.abs(attacked - middle).max() > 2 * EPS  # Lab's bound is no bound of RGB

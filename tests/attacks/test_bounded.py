"""The paper's baselines as ART attacks: one contract for all, then each one's own properties."""

import sys
import warnings

import numpy as np
import pytest
import torch
from art.attacks.evasion import ProjectedGradientDescent
from art.defences.preprocessor import SpatialSmoothing, SpatialSmoothingPyTorch
from art.estimators.classification import PyTorchClassifier
from art.exceptions import EstimatorError
from skimage import color

from art_idguard.attacks import (
    ATTACKS,
    AntiForgeryAttack,
    CMUAAttack,
    DisruptingAttack,
    IAPAttack,
    IDGuardAttack,
    InitiativeAttack,
)
from art_idguard.attacks.trained import TrainedAttack
from art_idguard.baselines.anti_forgery import anti_forgery
from art_idguard.baselines.iap import correlation
from art_idguard.errors import IDGuardError, NullAttackWarning
from art_idguard.estimators.manipulator import PyTorchManipulator
from tests.toys import tiny_manipulators

SIZE, EPS = 32, 0.025
QUICK = {
    "DisruptingAttack": {"max_iter": 6},
    "CMUAAttack": {"max_iter": 10},
    "InitiativeAttack": {"steps": 80, "channels": 8, "train_batch": 4, "lr": 2e-3},
    "IAPAttack": {"steps": 40, "channels": 8, "train_batch": 4, "lr": 2e-3},
    "AntiForgeryAttack": {"max_iter": 15, "lr": 1e-2},
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
    target = estimators if name in ("CMUAAttack", "IAPAttack") else estimators[0]
    return ATTACKS[name](target, verbose=False, **(QUICK[name] | changes))


def fitted(name, estimators, x, **changes):
    attack = made(name, estimators, **changes)
    return attack.fit(x) if isinstance(attack, TrainedAttack) else attack


def moved_by_edit(estimator, x, attacked):
    """Mean squared distance of the forgeries, of each edit."""
    edits = [
        PyTorchManipulator(estimator.model, edit=edit, input_shape=x.shape[1:])
        for edit in estimator.edit_names or (None,)
    ]
    return [one.compute_loss(attacked, one.predict(x)).mean() for one in edits]


def moved(estimator, x, attacked):
    return float(np.mean(moved_by_edit(estimator, x, attacked)))


def test_every_baseline_has_quick_settings_here():
    assert set(QUICK) == set(BASELINES)


@pytest.mark.slow
@pytest.mark.parametrize("name", BASELINES)
def test_the_bound_holds_and_forgeries_move_further_than_by_noise(name, estimators, x):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # NullAttackWarning above all
        attacked = fitted(name, estimators, x).generate(x)
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
def test_arts_conventions(name, estimators, unchecked):
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
        *((name, "eps", value) for name in BASELINES for value in (0, -0.1, "0.1", np.nan, True)),
        *((name, "seed", value) for name in BASELINES for value in (-1, 0.5)),
        *((name, "batch_size", 0) for name in BASELINES),
        *((name, "verbose", 1) for name in BASELINES),
        ("DisruptingAttack", "eps_step", -1.0),
        ("DisruptingAttack", "max_iter", 0),
        ("DisruptingAttack", "mode", "all"),
        ("DisruptingAttack", "target", "black"),
        ("DisruptingAttack", "target", np.full((3, SIZE, SIZE), 2.0)),
        ("CMUAAttack", "eps_step", 0),
        ("CMUAAttack", "max_iter", 0),
        ("CMUAAttack", "trials", -1),
        ("CMUAAttack", "each_edit", "yes"),
        ("InitiativeAttack", "steps", 0),
        ("InitiativeAttack", "lr", 0.0),
        ("IAPAttack", "channels", 1.5),
        ("IAPAttack", "train_batch", 0),
        ("AntiForgeryAttack", "lr", 0.0),
        ("AntiForgeryAttack", "project", 1),
        ("AntiForgeryAttack", "colour_bound", 0),
        ("AntiForgeryAttack", "max_iter", 0),
    ],
)
def test_a_wrong_parameter_is_named(name, parameter, value, estimators, unchecked):
    attack = made(name, estimators)
    with pytest.raises(ValueError, match=f"`{parameter}`"):
        attack.set_params(**{parameter: value})


@pytest.mark.parametrize("name", [n for n, a in BASELINES.items() if issubclass(a, TrainedAttack)])
def test_before_training_there_is_an_error_and_strangers_are_refused(name, estimators, x):
    with pytest.raises(IDGuardError, match=r"fit\(x\)"):
        made(name, estimators).generate(x)
    with pytest.raises(IDGuardError, match="labels"):
        made(name, estimators).fit(x, np.zeros((2, 5)))
    with pytest.raises(ValueError, match="function is not; subclass it"):
        ATTACKS[name]([PyTorchManipulator(lambda z: z)])
    with pytest.raises(ValueError, match="at least one"):
        ATTACKS[name]([])


def test_disrupting_one_edit_is_what_arts_pgd_does(estimators, x):
    exact = np.round(x * 256) / 256  # no rounding between [0, 1] and [-1, 1], which turns signs of small gradients
    ours = DisruptingAttack(estimators[0], mode="image", verbose=False).generate(exact)
    theirs = ProjectedGradientDescent(estimators[0], eps=EPS, eps_step=0.005, max_iter=10, verbose=False).generate(
        exact
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize("mode", ["iterative", "joint"])
def test_class_transferable_attacks_on_one_edit_reach_what_arts_pgd_does(mode, x):
    only = PyTorchManipulator(lambda z: (z - 0.5).mul(3).sigmoid() * z.flip(3), input_shape=x.shape[1:])
    reached = {m: moved(only, x, DisruptingAttack(only, mode=m, verbose=False).generate(x)) for m in (mode, "image")}
    assert reached[mode] == pytest.approx(reached["image"], rel=0.1)


def test_class_transferable_attacks_move_the_edit_moved_least_further_than_an_attack_on_another(estimators, x):
    of = {}
    for mode in ("image", "iterative", "joint"):
        attacked = DisruptingAttack(estimators[0], mode=mode, verbose=False).generate(x)
        of[mode] = min(moved_by_edit(estimators[0], x, attacked))
    assert of["joint"] > 1.3 * of["image"]
    assert of["iterative"] > 1.1 * of["image"]


@pytest.mark.parametrize("target", ["white", "array"])
def test_a_target_draws_the_forgeries_towards_it(target, estimators, x):
    estimator = estimators[0]
    picture = np.ones((3, SIZE, SIZE), np.float32) if target == "white" else np.full((3, SIZE, SIZE), 0.2, np.float32)
    attack = DisruptingAttack(estimator, mode="image", target="white" if target == "white" else picture, verbose=False)
    reference = np.broadcast_to(picture, x.shape)
    assert estimator.compute_loss(attack.generate(x), reference).mean() < estimator.compute_loss(x, reference).mean()


def test_a_target_is_a_picture_of_their_size(estimators, x):
    with pytest.raises(IDGuardError, match=r"target of \(6, 3, 32, 32\) does not fit images of \(3, 32, 32\)"):
        DisruptingAttack(estimators[0], target=x, verbose=False).generate(x)


# no silent null attack

BY_GRADIENTS = {
    "image": lambda e: DisruptingAttack(e, mode="image", max_iter=2, verbose=False),
    "iterative": lambda e: DisruptingAttack(e, mode="iterative", max_iter=2, verbose=False),
    "joint": lambda e: DisruptingAttack(e, mode="joint", max_iter=2, verbose=False),
    "anti-forgery": lambda e: AntiForgeryAttack(e, max_iter=2, verbose=False),
}


@pytest.mark.parametrize("make", BY_GRADIENTS.values(), ids=BY_GRADIENTS)
def test_a_model_whose_forgery_does_not_depend_on_the_face_is_a_warning(make, x):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        make(PyTorchManipulator(lambda v: 0 * v + 0.5, device_type="cpu")).generate(x)
    assert any(issubclass(w.category, NullAttackWarning) and "gradient" in str(w.message) for w in caught)


@pytest.mark.parametrize("make", BY_GRADIENTS.values(), ids=BY_GRADIENTS)
def test_a_model_without_gradient_is_named(make, x):
    with pytest.raises(IDGuardError, match="no gradient by its input"):
        make(PyTorchManipulator(lambda v: v.detach() ** 2, device_type="cpu")).generate(x)


def test_images_that_are_not_finite_are_an_error(estimators, x):
    attack = fitted("IAPAttack", estimators, x, steps=1)
    next(attack.protector.parameters()).data.fill_(torch.nan)
    with pytest.raises(IDGuardError, match="IAPAttack made images that are not finite"):
        attack.generate(x)
    with pytest.raises(IDGuardError, match=r"step \d+: the loss is not finite"):
        fitted("IAPAttack", estimators, x, steps=8, lr=1e30)


def test_cmua_is_one_perturbation_for_all(estimators, x):
    attack = made("CMUAAttack", estimators)
    assert attack.noise is None
    attacked = attack.fit(x).generate(x)
    assert attack.noise.shape == (1, 3, SIZE, SIZE)
    inside = (attacked > 0) & (attacked < 1)
    assert np.abs(attacked - x - attack.noise)[inside].max() < 1e-6


def test_cmuas_official_budget_is_an_option(estimators, x, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "art_idguard.attacks.cmua.cmua", lambda models, faces, **o: asked.append(o) or torch.zeros(1, 3, SIZE, SIZE)
    )
    for each in (False, True):
        made("CMUAAttack", estimators, each_edit=each).fit(x)
    assert [options["each_edit"] for options in asked] == [False, True]


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
    monkeypatch.setitem(sys.modules, "optuna", None)
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


def test_anti_forgery_bounds_colour_and_leaves_lightness(x):
    """Judged by scikit-image's Lab, where the attack has kornia's."""
    middle = torch.from_numpy(0.6 * x - 0.3)  # colours that stay inside RGB
    attacked = anti_forgery(lambda z: z[:, 0].sum(dim=(1, 2)), middle, steps=10, lr=1e-2)  # redder
    before, after = (color.rgb2lab((v.permute(0, 2, 3, 1).double().numpy() + 1) / 2) for v in (middle, attacked))
    change = np.abs(after - before)
    assert change[..., 0].max() < 0.1  # of 100
    assert change[..., 1:].max() / 110 == pytest.approx(0.05, abs=1e-3)
    assert (attacked - middle).abs().max() > 2 * EPS  # the bound of colour is no bound of RGB


def test_anti_forgery_has_gradients_at_black_and_white():
    extremes = torch.cat([torch.full((1, 3, 8, 8), -1.0), torch.ones(1, 3, 8, 8)])
    attacked = anti_forgery(lambda z: z.square().sum(), extremes, steps=3)
    assert attacked.isfinite().all()


def test_anti_forgery_keeps_the_bound_only_if_asked(estimators, x):
    middle = 0.3 + 0.4 * x
    free = AntiForgeryAttack(estimators[0], project=False, max_iter=10, lr=1e-2, verbose=False).generate(middle)
    assert np.abs(free - middle).max() > 2 * EPS


# defences and other estimators


@pytest.mark.slow
def test_class_transferable_attacks_go_through_a_defence(estimators, x):
    model = estimators[0].model
    defended = PyTorchManipulator(
        model, preprocessing_defences=SpatialSmoothingPyTorch(window_size=3, device_type="cpu")
    )
    mean = {}
    for name, target in (("bare", estimators[0]), ("defended", defended)):
        attacked = DisruptingAttack(target, mode="joint", verbose=False).generate(x)
        mean[name] = defended.compute_loss(attacked, defended.predict(x)).mean()
    assert mean["defended"] > mean["bare"]


def test_defences_that_are_met_by_no_gradient_are_refused(estimators, x):
    model = estimators[0].model
    defended = PyTorchManipulator(model, preprocessing_defences=SpatialSmoothing(window_size=3))
    for attack in (DisruptingAttack(defended, verbose=False), AntiForgeryAttack(defended, verbose=False)):
        with pytest.raises(IDGuardError, match="not made for PyTorch"):
            attack.generate(x)
    changed = DisruptingAttack(defended, mode="image", max_iter=2, verbose=False).generate(x)
    assert np.abs(changed - x).max() == pytest.approx(0.01, rel=0.01)
    with pytest.raises(ValueError, match="leave preprocessing out"):
        IAPAttack(defended)


def test_estimators_agree(estimators):
    wide = PyTorchManipulator(estimators[1].model, clip_values=(0.0, 255.0))
    with pytest.raises(ValueError, match="clip_values"):
        CMUAAttack([estimators[0], wide])
    with pytest.raises(ValueError, match="one manipulator, found 2"):
        InitiativeAttack(estimators)


@pytest.mark.parametrize("name", BASELINES)
def test_bounds_are_in_the_units_of_clip_values(name, estimators, x):
    quick = {"steps": 3} if "steps" in QUICK[name] else {"max_iter": 3}
    wide = [PyTorchManipulator(e.model, input_shape=(3, SIZE, SIZE), clip_values=(-10.0, 245.0)) for e in estimators]
    steps = {"eps_step": 0.005 * 255} if "eps_step" in ATTACKS[name].attack_params else {}
    scaled = (255 * x - 10).astype(np.float32)
    attacked = fitted(name, wide, scaled, eps=EPS * 255, **quick, **steps).generate(scaled)
    change = np.abs(attacked - scaled).max()
    assert change <= 255 * EPS + 1e-3
    assert change > 255 * EPS / 4


def test_labels_default_to_the_estimators(x):
    model = tiny_manipulators(["stargan"])[0]
    blond = (0.0, 1.0, 0.0, 1.0, 0.0)
    own = CMUAAttack(PyTorchManipulator(model, attributes=blond), max_iter=2, verbose=False).fit(x)
    given = CMUAAttack(PyTorchManipulator(model), max_iter=2, verbose=False).fit(x, np.tile(blond, (len(x), 1)))
    unknown = CMUAAttack(PyTorchManipulator(model), max_iter=2, verbose=False).fit(x)
    assert np.array_equal(own.noise, given.noise)
    assert not np.array_equal(own.noise, unknown.noise)


def test_a_bound_made_smaller_after_training_holds(estimators, x):
    attack = fitted("IAPAttack", estimators, x, steps=1)
    attack.set_params(eps=EPS / 4)
    assert np.abs(attack.generate(x) - x).max() <= EPS / 4 + 1e-6
    with pytest.raises(ValueError, match=r"`eps` was 0\.025 in fit and may not grow"):
        attack.set_params(eps=2 * EPS)

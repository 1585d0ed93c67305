"""The estimator that is proposed to ART does what the proposal says, with ART's own attacks."""

import importlib.util

import numpy as np
import pytest
import torch
from art.attacks.evasion import BasicIterativeMethod, FastGradientMethod, ProjectedGradientDescent
from art.defences.preprocessor import SpatialSmoothingPyTorch

from tests import ROOT

FILE = ROOT / "docs/art_upstream.py"
EPS = 0.05
SHAPE = (3, 8, 8)


@pytest.fixture(scope="module")
def upstream():
    spec = importlib.util.spec_from_file_location("art_upstream", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.PyTorchImageToImage


@pytest.fixture
def model():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.Tanh(), torch.nn.Conv2d(8, 3, 3, padding=1)
    )


@pytest.fixture
def estimator(upstream, model):
    return upstream(model, SHAPE)


@pytest.fixture
def x():
    return np.random.default_rng(0).uniform(0.2, 0.8, (3, *SHAPE)).astype(np.float32)


def pgd(estimator, **params):
    options = {"eps": EPS, "eps_step": 0.02, "max_iter": 5, "verbose": False}
    return ProjectedGradientDescent(estimator, **options | params)


def test_it_is_minimal():
    assert len(FILE.read_text().splitlines()) < 100
    assert "art_idguard" not in FILE.read_text()


@pytest.mark.parametrize("batch_size", [1, 2, 128])
def test_predicts(estimator, model, x, batch_size):
    with torch.no_grad():
        expected = model(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(estimator.predict(x, batch_size=batch_size), expected, atol=1e-6)


def test_gradient_is_that_of_the_loss(estimator, x):
    y = estimator.predict(x) + 0.1
    estimator.jitter = 0
    gradient = estimator.loss_gradient(x, y)
    step = np.zeros_like(x)
    step[:, 1, 4, 4] = 1e-2
    slope = (estimator.compute_loss(x + step, y) - estimator.compute_loss(x - step, y)) / 2e-2
    np.testing.assert_allclose(gradient[:, 1, 4, 4], slope, rtol=0.02, atol=1e-6)


def test_pgd_moves_the_output_further_than_noise_within_its_bound(estimator, x):
    attacked = pgd(estimator).generate(x)
    noise = EPS * np.sign(np.random.default_rng(1).normal(size=x.shape)).astype(np.float32)
    clean = estimator.predict(x)
    assert np.abs(attacked - x).max() <= EPS + 1e-6
    assert (estimator.compute_loss(attacked, clean) > estimator.compute_loss(x + noise, clean)).all()


def test_an_attack_that_starts_at_the_clean_image_needs_the_jitter(estimator, x):
    attack = FastGradientMethod(estimator, eps=EPS)
    assert (estimator.compute_loss(attack.generate(x), estimator.predict(x)) > 0).all()
    estimator.jitter = 0
    assert not estimator.loss_gradient(x, estimator.predict(x)).any()
    np.testing.assert_array_equal(attack.generate(x), x)


def test_keeps_to_a_mask(estimator, x):
    mask = np.zeros_like(x)
    mask[..., :4] = 1
    attacked = pgd(estimator).generate(x, mask=mask)
    np.testing.assert_array_equal(attacked[..., 4:], x[..., 4:])
    assert (attacked[..., :4] != x[..., :4]).any()


def test_a_target_is_approached(estimator, x):
    target = np.zeros_like(x)
    attacked = BasicIterativeMethod(
        estimator, eps=EPS, eps_step=0.02, max_iter=5, targeted=True, verbose=False
    ).generate(x, y=target)
    assert (estimator.compute_loss(attacked, target) < estimator.compute_loss(x, target)).all()


def test_a_preprocessing_defence_takes_part(upstream, model, estimator, x):
    smoothed = upstream(
        model, SHAPE, preprocessing_defences=SpatialSmoothingPyTorch(window_size=3, channels_first=True)
    )
    assert np.abs(smoothed.predict(x) - estimator.predict(x)).max() > 0.01
    y = estimator.predict(x)
    assert np.abs(smoothed.loss_gradient(x, y)).max() > 0
    assert (smoothed.compute_loss(pgd(smoothed).generate(x), y) > smoothed.compute_loss(x, y)).all()


@pytest.mark.parametrize("call", [lambda e, x: e.fit(x, x), lambda e, x: e.get_activations(x, 0)])
def test_what_is_not_available_says_so(estimator, x, call):
    with pytest.raises(NotImplementedError):
        call(estimator, x)

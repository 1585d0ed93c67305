"""Programs around this one may have float64 as torch's default, as numerical code does; here all is float32."""

import numpy as np
import pytest
import torch

from art_idguard import IDGuardAttack, Protector, PyTorchManipulator, RefinedProtector, recognizers
from art_idguard.attacks import CMUAAttack, DisruptingAttack, IAPAttack
from art_idguard.recognizers import SFace
from art_idguard.training.protector.train import train_protector
from tests.training.trainings import protector_config


@pytest.fixture(autouse=True)
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def estimator(workplace):
    return PyTorchManipulator.from_pretrained(workplace / "stargan", input_shape=(3, 64, 64), device_type="cpu")


X = np.random.default_rng(0).random((2, 3, 64, 64), np.float32)


def test_trained_networks_protect_forge_and_refine(estimator, workplace):
    attack = IDGuardAttack(estimator, verbose=False)
    assert attack.generate(X).dtype == estimator.predict(X).dtype == np.float32
    assert np.isfinite(estimator.loss_gradient(X, estimator.predict(X))).all()
    eye = SFace.from_pretrained(workplace / "sface")
    refined = RefinedProtector(Protector.from_pretrained(), [estimator.model], [eye], steps=1)
    assert IDGuardAttack(estimator, refined, verbose=False).generate(X).dtype == np.float32
    assert recognizers.default()(torch.rand(1, 3, 64, 64, dtype=torch.float32), None).dtype == torch.float32
    assert torch.get_default_dtype() == torch.float64


@pytest.mark.parametrize("kind", [CMUAAttack, IAPAttack, DisruptingAttack])
def test_baselines_are_trained_and_attack(kind, estimator):
    options = {"steps": 1} if kind is IAPAttack else {}
    attack = kind([estimator] if kind is not DisruptingAttack else estimator, verbose=False, **options)
    if hasattr(attack, "fit"):
        attack.fit(X)
    assert attack.generate(X).dtype == np.float32


def test_a_training_is_in_float32(workplace, tmp_path):
    folder = train_protector(protector_config(workplace, tmp_path, steps=1, augment=("crop",)), verbose=False)
    assert {p.dtype for p in Protector.from_pretrained(folder).parameters()} == {torch.float32}
    assert torch.get_default_dtype() == torch.float64

"""IDGuardPreprocessor, alone and inside ART's estimators."""

import numpy as np
import pytest
import torch
from art.attacks.evasion import ProjectedGradientDescent
from art.estimators.classification import PyTorchClassifier
from torch import nn

from art_idguard.attacks import IDGuardAttack
from art_idguard.defences import IDGuardPreprocessor
from art_idguard.errors import IDGuardError
from art_idguard.estimators.manipulator import PyTorchManipulator
from art_idguard.perturbation import Protector
from tests.toys import tiny_manipulators

SIZE, COUNT = 16, 3


def tiny_protector(dtype=torch.float32):
    torch.manual_seed(3)
    protector = Protector(size=SIZE, generator_config={"channels": 8, "norm": "instance"}).to(dtype)
    with torch.no_grad():
        protector.prior.uniform_(-protector.epsilon, protector.epsilon)
    return protector


@pytest.fixture
def preprocessor():
    return IDGuardPreprocessor(tiny_protector())


@pytest.fixture
def x():
    return np.random.default_rng(0).uniform(0.1, 0.9, size=(COUNT, 3, SIZE, SIZE)).astype(np.float32)


def manipulator(**options):
    (stargan,) = tiny_manipulators(("stargan",))
    return PyTorchManipulator(stargan, input_shape=(3, SIZE, SIZE), **options)


def test_what_an_attack_carries_a_little_beside_the_range_is_protected_as_at_its_edge(x):
    preprocessor = IDGuardPreprocessor(tiny_protector())
    beside = torch.tensor(x)
    beside[0, 0, 0, 0], beside[1, 1, 2, 2] = 1.03, -0.02
    found, _ = preprocessor.forward(beside)
    assert torch.equal(found, preprocessor.forward(beside.clamp(0, 1))[0])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_call_gives_what_the_attack_gives(dtype, batch_size, x):
    y = np.arange(COUNT)
    protected, same = IDGuardPreprocessor(tiny_protector(), batch_size=batch_size)(x.astype(dtype), y)
    assert protected.dtype == dtype
    assert same is y
    expected = IDGuardAttack(None, tiny_protector(), verbose=False).generate(x.astype(dtype))
    np.testing.assert_allclose(protected, expected, atol=1e-3 if dtype == np.float16 else 1e-6)


def test_call_of_no_images(preprocessor):
    protected, _ = preprocessor(np.empty((0, 3, SIZE, SIZE), np.float32))
    assert protected.shape == (0, 3, SIZE, SIZE)


@pytest.mark.parametrize("clip_values", [(0.0, 255.0), (-1.0, 1.0)])
def test_call_in_the_units_of_clip_values(clip_values, preprocessor, x):
    low, high = clip_values
    wide = IDGuardPreprocessor(tiny_protector(), clip_values=clip_values)
    protected, _ = wide(low + x * (high - low))
    np.testing.assert_allclose(protected, low + preprocessor(x)[0] * (high - low), atol=1e-5 * (high - low))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_forward_keeps_the_float_type_and_passes_y_on(dtype, preprocessor, x):
    y = torch.arange(COUNT)
    protected, same = preprocessor.forward(torch.from_numpy(x).to(dtype), y)
    assert protected.dtype == dtype
    assert same is y


def test_estimate_gradient_is_the_derivative_of_call(x):
    preprocessor = IDGuardPreprocessor(tiny_protector(torch.float64))
    x, random, step = x.astype(np.float64), np.random.default_rng(1), 1e-6
    outer, direction = random.normal(size=x.shape), random.normal(size=x.shape)
    gradient = preprocessor.estimate_gradient(x, outer)
    ahead, behind = (preprocessor.forward(torch.from_numpy(x + s * step * direction))[0] for s in (1, -1))
    numerical = (outer * (ahead - behind).numpy()).sum() / (2 * step)
    assert (gradient * direction).sum() == pytest.approx(numerical, rel=1e-4)
    assert not np.allclose(gradient, outer, rtol=1e-2), "the identity, ART's fallback, is no gradient of this"


def test_the_protector_given_is_left_alone(x):
    protector = tiny_protector().train()
    before = {name: tensor.clone() for name, tensor in protector.state_dict().items()}
    preprocessor = IDGuardPreprocessor(protector)
    preprocessor.estimate_gradient(x, x)
    assert protector.training
    assert all(p.requires_grad and p.grad is None for p in protector.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in protector.state_dict().items())
    assert all(p.grad is None for p in preprocessor.protector.parameters()), "nothing adds up from call to call"


def test_in_a_manipulator(preprocessor, x):
    plain, defended = manipulator(), manipulator(preprocessing_defences=preprocessor)
    protected, _ = preprocessor(x)
    np.testing.assert_allclose(defended.predict(x), plain.predict(protected), atol=1e-5)

    images = torch.from_numpy(x).requires_grad_()
    y = plain.predict(x)
    noise = torch.randn(x.shape[1:], generator=torch.Generator().manual_seed(0)) * plain.jitter / 2
    distance = plain.distance(preprocessor.forward(images + noise)[0] - noise, torch.from_numpy(y))
    (expected,) = torch.autograd.grad(distance.sum(), images)
    gradient = defended.loss_gradient(x, y)
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-3 * np.abs(gradient).max())


def test_pgd_reaches_through_it(preprocessor, x):
    defended = manipulator(preprocessing_defences=[preprocessor])
    pgd = ProjectedGradientDescent(defended, eps=0.05, eps_step=0.01, max_iter=5, verbose=False)
    attacked = pgd.generate(x)
    noise = np.random.default_rng(2).uniform(-0.05, 0.05, x.shape).astype(np.float32)
    y = defended.predict(x)
    assert (defended.compute_loss(attacked, y) > 2 * defended.compute_loss((x + noise).clip(0, 1), y)).all()


def test_in_a_classifier_of_art(preprocessor, x):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE * SIZE, 4))
    options = {"loss": nn.CrossEntropyLoss(), "input_shape": x.shape[1:], "nb_classes": 4, "clip_values": (0.0, 1.0)}
    plain = PyTorchClassifier(model, **options)
    defended = PyTorchClassifier(model, preprocessing_defences=preprocessor, **options)
    np.testing.assert_allclose(defended.predict(x), plain.predict(preprocessor(x)[0]), atol=1e-5)

    images, y = torch.from_numpy(x).requires_grad_(), np.eye(4)[[0, 1, 2]]
    loss = nn.functional.cross_entropy(model(preprocessor.forward(images)[0]), torch.tensor([0, 1, 2]))
    (expected,) = torch.autograd.grad(loss, images)
    np.testing.assert_allclose(defended.loss_gradient(x, y), expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(("apply_fit", "apply_predict"), [(False, True), (True, False)])
def test_apply_fit_and_apply_predict(apply_fit, apply_predict, x):
    preprocessor = IDGuardPreprocessor(tiny_protector(), apply_fit=apply_fit, apply_predict=apply_predict)
    assert (preprocessor.apply_fit, preprocessor.apply_predict, preprocessor.is_fitted) == (
        apply_fit,
        apply_predict,
        True,
    )
    forged = manipulator(preprocessing_defences=preprocessor).predict(x)
    assert np.array_equal(forged, manipulator().predict(x)) is not apply_predict


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("clip_values", value) for value in ((0.0, 0.5, 1.0), (1.0, 0.0), (1.0, 1.0), 1.0)),
        *(("batch_size", value) for value in (0, 2.0, True)),
    ],
)
def test_check_params(name, value, preprocessor, unchecked):
    with pytest.raises(ValueError, match=name):
        IDGuardPreprocessor(tiny_protector(), **{name: value})
    with pytest.raises(ValueError, match=name):
        preprocessor.set_params(**{name: value})


def test_a_protector_is_due(unchecked):
    with pytest.raises(ValueError, match="Protector, found str"):
        IDGuardPreprocessor("protector")


def test_images_of_another_range_are_refused(preprocessor, x):
    with pytest.raises(IDGuardError, match=r"within \[0, 1\]"):
        preprocessor(255 * x)
    with pytest.raises(IDGuardError, match="clip_values of the estimator"):
        manipulator(clip_values=(0.0, 255.0), preprocessing_defences=preprocessor).predict(255 * x)


def test_device_type_and_from_pretrained(tmp_path):
    protector = tiny_protector()
    protector.save_pretrained(tmp_path)
    preprocessor = IDGuardPreprocessor.from_pretrained(tmp_path, device_type="cpu", batch_size=2)
    assert preprocessor.device == torch.device("cpu")
    assert preprocessor.batch_size == 2
    assert torch.equal(preprocessor.protector.prior, protector.prior)
    shipped = IDGuardPreprocessor().protector.state_dict()
    assert all(torch.equal(t, shipped[name]) for name, t in Protector.from_pretrained().state_dict().items())

"""A manipulator as an ART estimator, tested as ART's own estimators are; and as a classifier of one image."""

import warnings

import numpy as np
import pytest
import torch
from art.attacks.evasion import (
    BasicIterativeMethod,
    FastGradientMethod,
    FeatureAdversariesPyTorch,
    ProjectedGradientDescentPyTorch,
)
from art.defences.postprocessor import Rounded
from art.defences.preprocessor import SpatialSmoothing, SpatialSmoothingPyTorch
from art.estimators import BaseEstimator, LossGradientsMixin
from art.preprocessing.standardisation_mean_std import StandardisationMeanStd, StandardisationMeanStdPyTorch

from art_idguard.attacks import ClassifierAttack, IDGuardAttack
from art_idguard.errors import IDGuardError, NullAttackWarning
from art_idguard.estimators.arrays import check_mask, warn_if_null
from art_idguard.estimators.classifier import DisruptionClassifier, DisruptionLogits
from art_idguard.estimators.manipulator import PyTorchManipulator
from art_idguard.images import to_signed, to_unit
from art_idguard.metrics import l2_image
from art_idguard.perturbation import Protector
from tests.toys import tiny_manipulators

SIZE = 32


@pytest.fixture(scope="module")
def model():
    return tiny_manipulators(["stargan"])[0]


@pytest.fixture
def estimator(model):
    return PyTorchManipulator(model, input_shape=(3, SIZE, SIZE), device_type="cpu")


@pytest.fixture(scope="module")
def x():
    """Smooth random pictures, so that no two look alike."""
    coarse = torch.rand(3, 3, 4, 4, generator=torch.Generator().manual_seed(2))
    return torch.nn.functional.interpolate(coarse, SIZE, mode="bicubic").clamp(0.05, 0.95).numpy()


def forged(model, x, edit=0):
    signed = to_signed(torch.tensor(x))
    return to_unit(model(signed, model.edits(torch.zeros(len(x), 5))[edit]).output).numpy()


# --- ART's contract


def test_it_is_an_estimator_with_loss_gradients(estimator):
    assert isinstance(estimator, BaseEstimator)
    assert isinstance(estimator, LossGradientsMixin)
    assert estimator.input_shape == (3, SIZE, SIZE)
    assert estimator.channels_first
    assert str(estimator.device) == "cpu"
    assert "PyTorchManipulator(" in repr(estimator)
    with pytest.raises(NotImplementedError, match="ManipulatorAdversarialTrainer"):
        estimator.fit(np.zeros((1, 3, SIZE, SIZE), np.float32), None)


def test_parameters_can_be_read_and_set(estimator, model, x):
    assert estimator.get_params()["edit"] == estimator.edit_names[0]
    estimator.set_params(edit=estimator.edit_names[1], jitter=0.0, attributes=(1, 0, 0, 0, 0))
    assert (estimator.jitter, estimator.edit) == (0.0, estimator.edit_names[1])
    labels = torch.tensor([[1.0, 0, 0, 0, 0]]).expand(len(x), -1)
    expected = to_unit(model(to_signed(torch.tensor(x)), model.edits(labels)[1]).output)
    assert np.allclose(estimator.predict(x), expected, atol=1e-6)
    estimator.set_params(model=torch.nn.Identity(), edit=None)
    assert estimator.edit is None
    assert np.array_equal(estimator.predict(x), x)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"edit": "Beard"}, "unknown edit 'Beard'; this model has: "),
        ({"jitter": -0.1}, "jitter"),
        ({"attributes": (1.0, 0.0)}, "attributes"),
        ({"clip_values": (1.0, 0.0)}, "clip_values"),
        ({"clip_values": None}, "clip_values"),
        ({"clip_values": (0.0, np.inf)}, "clip_values"),
        ({"jitter": np.nan}, "jitter"),
        ({"jitter": True}, "jitter"),
        ({"attributes": (np.nan,) * 5}, "attributes"),
        ({"model": None}, "callable"),
        ({"channels_first": False}, "channels_first"),
    ],
)
def test_wrong_parameters_are_named(estimator, model, change, message, unchecked):
    if "channels_first" not in change:  # no argument
        with pytest.raises(ValueError, match=message):
            PyTorchManipulator(**{"model": model} | change)
    with pytest.raises(ValueError, match=message):
        estimator.set_params(**change)


def test_training_and_gradients_of_the_model_are_off(model, estimator):
    assert not any(p.requires_grad for p in estimator.model.parameters())
    assert not estimator.model.training


# --- predict


@pytest.mark.parametrize("clip_values", [(0.0, 1.0), (0.0, 255.0), (-1.0, 1.0)])
def test_predict_is_the_models_forward_in_every_range(model, x, clip_values):
    low, high = clip_values
    estimator = PyTorchManipulator(model, input_shape=(3, SIZE, SIZE), clip_values=clip_values, device_type="cpu")
    scaled = (low + x * (high - low)).astype(np.float32)
    expected = low + forged(model, x) * (high - low)
    assert np.allclose(estimator.predict(scaled, batch_size=2), expected, atol=1e-5 * (high - low))
    attacked = BasicIterativeMethod(
        estimator, eps=0.1 * (high - low), eps_step=0.03 * (high - low), max_iter=3, verbose=False
    ).generate(scaled)
    assert np.allclose(np.abs(attacked - scaled).max(), 0.09 * (high - low), rtol=1e-3)
    unit_estimator = PyTorchManipulator(model, device_type="cpu")
    unit = (attacked - low) / (high - low)
    expected = unit_estimator.compute_loss(unit.clip(0, 1), unit_estimator.predict(x))
    assert np.allclose(estimator.compute_loss(attacked, estimator.predict(scaled)), expected, rtol=1e-3)


def read_only(x):
    x = x.copy()
    x.setflags(write=False)
    return x


@pytest.mark.parametrize(
    "form",
    [
        read_only,
        lambda x: x.astype(np.float64),
        lambda x: np.asfortranarray(x),
        lambda x: np.ascontiguousarray(x[:, :, ::-1])[:, :, ::-1],
        lambda x: np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
    ],
    ids=["read-only", "float64", "Fortran", "negative strides", "channels last in memory"],
)
def test_arrays_in_any_form(estimator, x, form):
    y = estimator.predict(x)
    given = form(x)
    assert np.array_equal(estimator.predict(given), y)
    assert estimator.predict(given).dtype == np.float32
    assert np.array_equal(estimator.loss_gradient(given, y), estimator.loss_gradient(x, y))
    assert np.array_equal(estimator.get_activations(given), estimator.get_activations(x))
    assert np.array_equal(given, x)


def test_one_image_of_a_reversed_array_is_taken(estimator, x):
    assert np.array_equal(estimator.predict(x[::-1][-1:]), estimator.predict(x[:1]))


def test_an_empty_batch_stays_empty(estimator, x):
    assert estimator.predict(x[:0]).shape == x[:0].shape
    assert estimator.loss_gradient(x[:0], x[:0]).shape == x[:0].shape
    assert estimator.compute_loss(x[:0], x[:0]).shape == (0,)
    with pytest.raises(IDGuardError, match="no images"):
        estimator.get_activations(x[:0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x.transpose(0, 2, 3, 1), r"channels come first: x.transpose\(0, 3, 1, 2\)"),
        (lambda x: x[0], r"x\[None\]"),
        (lambda x: (x * 255).astype(np.uint8), "uint8; divide by 255"),
        (lambda x: np.where(x > 0.9, np.nan, x), "not finite"),
        (lambda x: x * 2 - 1, r"expected pixels within \[0, 1\]"),
        (lambda x: x * 255, r"expected pixels within \[0, 1\]"),
    ],
    ids=["NHWC", "one image", "uint8", "NaN", "[-1, 1]", "[0, 255]"],
)
@pytest.mark.parametrize("method", ["predict", "loss_gradient", "get_activations", "compute_loss"])
def test_other_images_are_refused_with_the_reason(estimator, x, change, message, method):
    images = change(x)
    y = (images,) if method in ("loss_gradient", "compute_loss") else ()
    with pytest.raises(IDGuardError, match=message):
        getattr(estimator, method)(images, *y)


def test_float32_rounding_at_255_is_inside_the_range(model):
    estimator = PyTorchManipulator(model, clip_values=(0.0, 255.0), device_type="cpu")
    edge = np.full((1, 3, SIZE, SIZE), np.nextafter(np.float32(255), np.float32(256)))
    assert np.isfinite(estimator.predict(edge)).all()


def test_labels_for_y_are_refused(estimator, x):
    with pytest.raises(IDGuardError, match="y is what the model made of the clean images"):
        FastGradientMethod(estimator, eps=0.1).generate(x, y=np.zeros(len(x)))


# --- any other image-to-image model


def test_any_callable_is_a_model(x):
    estimator = PyTorchManipulator(lambda images: images.flip(-1) ** 2, device_type="cpu")
    assert estimator.edit is None
    assert estimator.edit_names == ()
    assert estimator.layer_names == []
    assert np.allclose(estimator.predict(x), x[..., ::-1] ** 2)
    with pytest.raises(IDGuardError, match="it is no Manipulator"):
        estimator.edit = "Male"


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda images: images[:, :1], r"returned \(3, 1, 32, 32\) for images of \(3, 3, 32, 32\)"),
        (lambda images: (images, images), "returned tuple"),
    ],
)
def test_what_is_no_image_to_image_model_is_refused(x, model, message):
    with pytest.raises(IDGuardError, match=message):
        PyTorchManipulator(model, device_type="cpu").predict(x)


def test_a_size_that_the_model_cannot_keep_is_named(estimator):
    odd = np.full((1, 3, 37, 50), 0.5, np.float32)
    for ask in (estimator.predict, estimator.get_activations, lambda v: estimator.loss_gradient(v, v)):
        with pytest.raises(IDGuardError, match=r"multiples of 4, found 37 x 50"):
            ask(odd)


def test_an_output_in_another_range_is_a_warning(x):
    signed = PyTorchManipulator(lambda images: (6 * images - 3).tanh(), device_type="cpu")
    with pytest.warns(UserWarning, match=r"spans \[-0\.\d+, 0\.\d+\], its clip_values say \[0, 1\]"):
        signed.predict(x)


@pytest.mark.parametrize("size", [0, -1])
def test_a_batch_size_is_positive(estimator, x, size):
    for ask in (estimator.predict, estimator.get_activations):
        with pytest.raises(IDGuardError, match=f"batch size of at least 1, found {size}"):
            ask(x, batch_size=size)


# --- gradients


def test_loss_gradient_is_the_finite_difference_at_the_jittered_point(x):
    model = tiny_manipulators(["stargan"])[0]
    estimator = PyTorchManipulator(model, jitter=0.05, device_type="cpu")
    y = estimator.predict(x)
    gradient = estimator.loss_gradient(x, y)
    model.double()  # differences of float32 losses would be noise
    inputs, target = torch.tensor(x, dtype=torch.float64), torch.tensor(y, dtype=torch.float64)
    directions = torch.randn(4, *x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    step = 1e-7
    for direction in directions:
        up, down = (estimator.distance(inputs + sign * step * direction, target) for sign in (1, -1))
        slope = (torch.tensor(gradient).double() * direction).sum(dim=(1, 2, 3))
        assert torch.allclose((up - down) / (2 * step), slope, rtol=1e-3, atol=1e-6)
    model.float()


def test_jitter_makes_the_gradient_at_the_clean_image_non_zero(model, x):
    estimator = PyTorchManipulator(model, device_type="cpu")
    y = estimator.predict(x)
    assert (np.abs(estimator.loss_gradient(x, y)).max(axis=(1, 2, 3)) > 0).all()
    attacked = FastGradientMethod(estimator, eps=0.025).generate(x)
    assert np.isclose(np.abs(attacked - x).max(), 0.025, atol=1e-6)


def test_the_silent_null_attack_is_a_warning(x):
    """With y = M(x) the gradient at x is exactly zero, and FGSM returns its input."""
    estimator = PyTorchManipulator(lambda images: images**2, jitter=0.0, device_type="cpu")
    with pytest.warns(NullAttackWarning, match="zero or not finite"):
        attacked = FastGradientMethod(estimator, eps=0.025).generate(x)
    assert np.array_equal(attacked, x)


@pytest.mark.parametrize("model", [lambda v: 0 * v + 0.5, lambda v: (v - 2).sqrt() * 0 + v], ids=["constant", "NaN"])
def test_a_gradient_that_leads_nowhere_is_a_warning(x, model):
    estimator = PyTorchManipulator(model, device_type="cpu")
    with pytest.warns(NullAttackWarning, match="zero or not finite"):
        estimator.loss_gradient(x, x)


def test_a_model_without_gradient_is_named(x):
    estimator = PyTorchManipulator(lambda images: images.detach() ** 2, device_type="cpu")
    with pytest.raises(IDGuardError, match="no gradient by its input"):
        FastGradientMethod(estimator, eps=0.025).generate(x)


def test_loss_is_the_squared_difference_on_the_signed_scale(estimator, model, x):
    other = np.flip(x, 0).copy()
    expected = ((forged(model, x) - other) ** 2).mean(axis=(1, 2, 3)) * 4
    assert np.allclose(estimator.compute_loss(x, other), expected, rtol=1e-5)


def test_fgsm_of_art_ignores_masks_and_the_documented_ways_do_not(estimator, x):
    """ART's own behaviour; when this fails, ART is mended and the estimator's docstring may forget it."""
    mask = np.zeros((1, 1, SIZE, SIZE), np.float32)
    mask[..., : SIZE // 2] = 1
    outside = np.broadcast_to(mask, x.shape) == 0
    ignored = FastGradientMethod(estimator, eps=0.025).generate(x, mask=mask)
    assert (ignored != x)[outside].any()
    ways = (
        BasicIterativeMethod(estimator, eps=0.025, eps_step=0.025, max_iter=1, verbose=False),
        ClassifierAttack(estimator, FastGradientMethod, eps=0.025, verbose=False),
    )
    for way in ways:
        kept = way.generate(x, mask=mask)
        assert np.array_equal(kept[outside], x[outside])
        assert (kept != x)[~outside].mean() > 0.9


# --- activations


def test_activations_are_the_features_or_any_modules_output(estimator, model, x):
    signed = to_signed(torch.tensor(x))
    edit = model.edits(torch.zeros(len(x), 5))[0]
    features = model(signed, edit).features.numpy()
    rounding = 1e-6 * np.abs(features).max()  # of float32, whose sums depend on the batch
    assert np.allclose(estimator.get_activations(x, batch_size=2), features, atol=rounding)
    assert np.array_equal(estimator.get_activations(x, 0), estimator.get_activations(x, "features"))
    assert torch.is_tensor(estimator.get_activations(x, framework=True))
    leaf = torch.tensor(x, requires_grad=True)
    assert torch.autograd.grad(estimator.get_activations(leaf, framework=True).sum(), leaf)[0].abs().sum() > 0
    last = [name for name in estimator.layer_names if name.startswith("main.")][-1]
    by_index = estimator.get_activations(x, estimator.layer_names.index(last))
    # StarGAN's last layer is followed by tanh alone.
    assert np.allclose(np.tanh(by_index), forged(model, x) * 2 - 1, atol=1e-5)
    assert np.array_equal(by_index, estimator.get_activations(x, last))


def test_arts_attack_on_features_reaches_them(estimator, x):
    """Feature adversaries of ART draw E_k's features towards another picture's."""
    attack = FeatureAdversariesPyTorch(
        estimator, delta=0.1, layer="features", step_size=0.01, max_iter=10, verbose=False, optimizer=None
    )
    guide = x[::-1].copy()
    source, target, drawn = (estimator.get_activations(v) for v in (x, guide, attack.generate(x, guide)))
    assert ((drawn - target) ** 2).mean() < 0.9 * ((source - target) ** 2).mean()


@pytest.mark.parametrize("layer", ["main.99", 10_000, -1])
def test_an_unknown_layer_is_named(estimator, x, layer):
    with pytest.raises(IDGuardError, match=r"unknown layer .* choose from: features, main"):
        estimator.get_activations(x, layer)


def test_a_layer_that_never_runs_is_named(x):
    class WithSpare(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.spare = torch.nn.Identity()

        def forward(self, images):
            return images

    with pytest.raises(IDGuardError, match="takes no part"):
        PyTorchManipulator(WithSpare(), device_type="cpu").get_activations(x, "spare")


# --- wrappers


@pytest.fixture
def process_group():
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("process_group")
@pytest.mark.parametrize(
    "wrap",
    [
        torch.nn.DataParallel,
        lambda m: torch.nn.parallel.DistributedDataParallel(m.requires_grad_()),
        lambda m: torch.compile(m, backend="eager"),
        lambda m: torch.compile(torch.nn.DataParallel(m), backend="eager"),
    ],
    ids=["DataParallel", "DDP", "compile", "both"],
)
def test_what_is_put_around_a_model_is_taken_off(wrap, x):
    model = tiny_manipulators(["stargan"])[0]
    plain = PyTorchManipulator(model, device_type="cpu")
    expected, edits = plain.predict(x), plain.edit_names
    estimator = PyTorchManipulator(wrap(model), device_type="cpu")
    assert estimator.edit_names == edits
    assert np.array_equal(estimator.predict(x), expected)
    protector = Protector(size=64, generator_config={"channels": 8, "norm": "instance"}).eval()
    unwrapped = IDGuardAttack(estimator, protector, verbose=False).generate(x)
    assert np.array_equal(IDGuardAttack(estimator, wrap(protector), verbose=False).generate(x), unwrapped)


def test_a_model_that_forges_nan_is_an_error(model, x):
    broken = tiny_manipulators(["stargan"])[0]
    next(broken.parameters()).data.fill_(np.nan)
    with pytest.raises(IDGuardError, match=r"returns values that are not finite .* check its weights"):
        PyTorchManipulator(broken, device_type="cpu").predict(x)


# --- defences


@pytest.mark.parametrize("preprocessing", [(0.5, 0.5), (0.0, 255.0), ((0.5,) * 3, (0.5,) * 3)])
def test_a_manipulator_takes_no_mean_and_std(model, preprocessing):
    """Its own loader has them, but the estimator scales already: it would forge something else without a word."""
    with pytest.raises(IDGuardError, match="scales its images from clip_values by itself"):
        PyTorchManipulator(model, preprocessing=preprocessing)
    estimator = PyTorchManipulator(model, preprocessing=(0.0, 1.0))
    with pytest.raises(IDGuardError, match="leave preprocessing out"):
        estimator.set_params(preprocessing=StandardisationMeanStdPyTorch(0.5, 0.5, device_type="cpu"))
    images = PyTorchManipulator(lambda x: x, preprocessing=preprocessing, device_type="cpu")  # whose range is its own
    assert images.predict(np.full((1, 3, 8, 8), 0.5, np.float32)).shape == (1, 3, 8, 8)


@pytest.mark.parametrize("kind", [StandardisationMeanStd, StandardisationMeanStdPyTorch])
def test_a_defence_that_changes_the_range_is_refused(model, x, kind):
    options = {"device_type": "cpu"} if kind is StandardisationMeanStdPyTorch else {}
    estimator = PyTorchManipulator(model, preprocessing_defences=kind(0.5, 0.2, **options), device_type="cpu")
    for use in (estimator.predict, estimator.get_activations, lambda x: estimator.loss_gradient(x, x)):
        with pytest.raises(IDGuardError, match=r"preprocessing made pixels within .* leave out what changes the range"):
            use(x)


def test_a_pytorch_defence_is_applied_and_differentiated(model, x):
    defence = SpatialSmoothingPyTorch(window_size=3, channels_first=True, device_type="cpu")
    estimator = PyTorchManipulator(model, preprocessing_defences=defence, device_type="cpu")
    bare = PyTorchManipulator(model, device_type="cpu")
    smooth = defence(x)[0]
    assert not np.allclose(smooth, x, atol=1e-3)
    y = estimator.predict(x)
    assert np.allclose(y, forged(model, smooth), atol=1e-5)
    assert np.allclose(estimator.get_activations(x), bare.get_activations(smooth), atol=1e-5)
    inputs = torch.tensor(x, requires_grad=True)
    noise = estimator.jitter * torch.randn(x.shape[1:], generator=torch.Generator().manual_seed(0)) / 2
    beside, _ = defence.forward(inputs + noise)
    edit = model.edits(torch.zeros(len(x), 5))[0]
    l2_image(model(to_signed(beside), edit).output, to_signed(torch.tensor(y))).sum().backward()
    expected = inputs.grad.numpy()
    assert np.allclose(estimator.loss_gradient(x, y), expected, rtol=1e-3, atol=1e-2 * np.abs(expected).max())
    ClassifierAttack(estimator, ProjectedGradientDescentPyTorch, eps=0.1, max_iter=2, verbose=False).generate(x)


def test_a_numpy_defence_is_applied_and_its_gradient_estimated(model, x):
    defence = SpatialSmoothing(window_size=3, channels_first=True)
    estimator = PyTorchManipulator(model, preprocessing_defences=defence, device_type="cpu")
    bare = PyTorchManipulator(model, device_type="cpu")
    smooth = defence(x)[0].astype(np.float32)
    y = estimator.predict(read_only(x))
    assert np.allclose(y, bare.predict(smooth), atol=1e-5)
    # ART estimates the gradient of this defence by the identity.
    assert np.allclose(estimator.loss_gradient(x, y), bare.loss_gradient(smooth, y), atol=1e-6)
    attack = BasicIterativeMethod(estimator, eps=0.05, eps_step=0.02, max_iter=3, verbose=False)
    assert estimator.compute_loss(attack.generate(x), y).min() > 0
    with pytest.raises(IDGuardError, match="not made for PyTorch"):
        DisruptionLogits(estimator, x[:1])


def test_a_postprocessing_defence_changes_predictions_alone(model, x):
    estimator = PyTorchManipulator(model, postprocessing_defences=Rounded(decimals=1), device_type="cpu")
    assert np.allclose(estimator.predict(x), forged(model, x).round(1), atol=1e-6)
    assert not np.allclose(estimator.forward(torch.tensor(x)).numpy(), forged(model, x).round(1), atol=1e-3)
    logits = DisruptionLogits(estimator, x[:1], threshold=2e-4)  # rounding is no disruption
    assert logits(torch.tensor(x[:1])).argmax() == 0


# --- masks and warnings of arrays


def test_masks_are_broadcast_and_checked(x):
    assert check_mask(None, x) is None
    assert check_mask(np.ones((SIZE, SIZE)), x).shape == x.shape
    with pytest.raises(IDGuardError, match="does not fit"):
        check_mask(np.ones((5, SIZE)), x)
    with pytest.raises(IDGuardError, match=r"within \[0, 1\], found \[0, 255\]"):
        check_mask(255 * np.eye(SIZE), x)


@pytest.mark.parametrize(
    ("change", "clip_values", "message"),
    [
        (0.0, (0, 1), "1 of 3 images unchanged: the reason"),
        (0.001, (0, 1), "1 of 3 images by less than half an 8-bit level"),
        (0.03, (0, 255), r"3 of 3 images by less .* within \[0, 255\]"),
    ],
)
def test_what_does_not_survive_in_a_file_is_a_warning(x, change, clip_values, message):
    attacked = x + np.float32(0.03)
    attacked[0] = x[0] + np.float32(change)
    with pytest.warns(NullAttackWarning, match=message):
        warn_if_null("Attack", x, attacked, clip_values=clip_values, reason="the reason")


def test_a_real_change_is_no_warning(x):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_if_null("Attack", x, x + np.float32(0.01))
        warn_if_null("Attack", x[:0], x[:0])


# --- the classifier of one image


def test_logits_are_the_threshold_and_the_distance(estimator, x):
    logits = DisruptionLogits(estimator, x[:1], threshold=0.02, scale=10.0)
    versions = torch.tensor(np.concatenate([x[:1], (x[:1] + 0.05).clip(0, 1)]))
    reference = torch.tensor(estimator.predict(x[:1])).expand(2, -1, -1, -1)
    found = logits(versions)
    assert torch.allclose(found[:, 0], torch.tensor(0.2))
    assert torch.allclose(found[:, 1], 10 * estimator.distance(versions, reference))
    assert found.argmax(dim=1).tolist()[0] == 0
    assert torch.equal(logits(versions.double()), found)


@pytest.mark.parametrize("count", [0, 2])
def test_logits_know_one_image(estimator, x, count):
    with pytest.raises(IDGuardError, match=f"expected one clean image, found {count}"):
        DisruptionLogits(estimator, x[:count])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 1e-9}, "the clean image counts as disrupted"),
        ({"threshold": 0.0}, "the clean image counts as disrupted"),
        ({"threshold": 0.05, "scale": 1e5}, "saturates the soft-max"),
    ],
)
def test_thresholds_at_which_attacks_would_do_nothing_are_refused(estimator, x, options, message):
    with pytest.raises(IDGuardError, match=message):
        DisruptionLogits(estimator, x[:1], **options)


@pytest.mark.parametrize("threshold", [1e-3, 0.05, 0.5])
def test_the_cross_entropy_has_a_gradient_at_every_allowed_threshold(estimator, x, threshold):
    classifier = DisruptionClassifier(estimator, x[:1], threshold=threshold)
    gradient = classifier.loss_gradient(x[:1], np.array([[1.0, 0.0]], np.float32))
    assert (np.abs(gradient) > 1e-35).mean() > 0.9


def test_a_batch_of_different_pictures_is_refused_whatever_the_batch_size(estimator, x):
    classifier = DisruptionClassifier(estimator, x[:1])
    assert classifier.predict(np.concatenate([x[:1], x[:1] * 0.98])).shape == (2, 2)
    with pytest.raises(IDGuardError, match="another picture"):
        classifier.logits(torch.tensor(x))
    with pytest.raises(IDGuardError, match="another picture"):
        classifier.predict(x, batch_size=1)
    with pytest.raises(IDGuardError, match="another picture"):  # one at a time, with labels, so that none is predicted
        classifier.loss_gradient(x[1:2], np.array([[1.0, 0.0]], np.float32))


def test_another_picture_is_no_disrupted_one_in_silence(estimator, x):
    """Attacks without gradients ask for predictions alone, and may begin with noise: a warning."""
    with pytest.warns(NullAttackWarning, match="far from the one that this classifier was made for"):
        DisruptionClassifier(estimator, x[:1]).predict(1 - x[:1])
    DisruptionClassifier(estimator, x[:1], guarded=False).predict(1 - x[:1])


# --- what an attack did


def test_disruption_is_what_metrics_say(shared, model):
    from art_idguard import recognizers
    from art_idguard.data.reading import read_faces
    from art_idguard.faces.alignment import arcface_frame
    from art_idguard.images import from_uint8
    from art_idguard.metrics import disrupted, identity_similarity, l2_face
    from art_idguard.regions import face_mask

    faces = read_faces(shared / "data" / "celeba128" / "test-0.tar", size=128, limit=2)
    x = to_unit(from_uint8(faces.images)).numpy()
    estimator = PyTorchManipulator(model, input_shape=(3, 128, 128), device_type="cpu")
    attacked = FastGradientMethod(estimator, eps=0.1).generate(x)
    found = estimator.disruption(x, attacked)
    judge, frame = recognizers.default(), arcface_frame(faces.landmarks, (128, 128))
    y, y_hat = (to_signed(torch.tensor(forged(model, images))) for images in (x, attacked))
    distance = l2_face(y, y_hat, face_mask(faces.landmarks, (128, 128)))
    with torch.no_grad():
        similarity = identity_similarity(judge(y, frame), judge(y_hat, frame))
    assert np.allclose(found.l2_face, distance, rtol=0.05)  # a detection of its own: the mask differs by pixels
    assert np.allclose(found.similarity, similarity, atol=0.05)
    expected = disrupted(torch.tensor(found.l2_face), torch.tensor(found.similarity))
    assert found.dsr == expected.float().mean()


def test_disruption_without_a_face_is_a_warning_and_no_success(estimator, x):
    with pytest.warns(UserWarning, match="no face found in 3 of 3 images"):
        found = estimator.disruption(x, x)
    assert np.isnan(found.l2_face).all()
    assert found.dsr == 0


def test_disruption_of_other_images_is_refused(estimator, x):
    with pytest.raises(IDGuardError, match="the same images"):
        estimator.disruption(x, x[:1])

"""IDGuardAttack and IDGuardUniversalAttack, tested as ART tests its attacks: one test for each convention."""

import gc
import inspect
import subprocess
import sys
import tracemalloc
from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch
from art.estimators.classification import PyTorchClassifier
from art.exceptions import EstimatorError
from art.summary_writer import SummaryWriter
from torch import nn

from art_idguard.attacks import ATTACKS, BoundedParams, CommonParams, IDGuardAttack, IDGuardUniversalAttack
from art_idguard.baselines.idguard import p_pert
from art_idguard.data.reading import read_faces
from art_idguard.errors import IDGuardError, NullAttackWarning, WeightsError
from art_idguard.estimators.manipulator import PyTorchManipulator
from art_idguard.evaluation.protection import evaluate
from art_idguard.images import from_uint8, to_signed, to_unit
from art_idguard.manipulators.base import Manipulator
from art_idguard.perturbation import Protector
from art_idguard.recognizers import default
from art_idguard.types import Edit, Manipulation
from tests.toys import tiny_manipulators, write_portraits

SIZE, COUNT = 32, 5
EPS = 0.025  # on [0, 1]: the protector's 0.05 on [-1, 1]
BOTH = pytest.mark.parametrize("kind", [IDGuardAttack, IDGuardUniversalAttack])


def tiny_protector(size=SIZE):
    torch.manual_seed(3)
    protector = Protector(size=size, generator_config={"channels": 8, "norm": "instance"})
    with torch.no_grad():
        protector.prior.uniform_(-protector.epsilon, protector.epsilon)
    return protector


@pytest.fixture
def protector():
    return tiny_protector()


@pytest.fixture
def estimator():
    (stargan,) = tiny_manipulators(("stargan",))
    return PyTorchManipulator(stargan, input_shape=(3, SIZE, SIZE))


@pytest.fixture
def x():
    return np.random.default_rng(0).uniform(size=(COUNT, 3, SIZE, SIZE)).astype(np.float32)


# generate


@BOTH
def test_generate_stays_within_the_bound_and_clip_values(kind, protector, x):
    x[:, 0], x[:, 1] = 0, 1
    attacked = kind(None, protector, verbose=False).generate(x)
    change = np.abs(attacked - x)
    assert change.max() <= EPS + 1e-6
    assert change.reshape(COUNT, -1).max(axis=1).min() > EPS / 4
    assert attacked.min() >= 0
    assert attacked.max() <= 1


def test_generate_is_the_protector(protector, x):
    with torch.no_grad():
        expected = protector.eval()(to_signed(torch.from_numpy(x)))
    for kind, images in ((IDGuardAttack, expected.specific), (IDGuardUniversalAttack, expected.prior)):
        attacked = kind(None, protector, verbose=False).generate(x)
        np.testing.assert_allclose(attacked, to_unit(images).numpy(), atol=1e-6)


@pytest.mark.filterwarnings("ignore:no face found")
@BOTH
def test_generate_in_the_units_of_clip_values(kind, protector, x):
    (stargan,) = tiny_manipulators(("stargan",))
    wide = PyTorchManipulator(stargan, clip_values=(-10.0, 245.0))
    expected = kind(None, protector, verbose=False).generate(x)
    attack = kind(wide, protector, verbose=False)
    np.testing.assert_allclose(attack.generate(x * 255 - 10), expected * 255 - 10, atol=1e-3)
    assert attack.eps == pytest.approx(EPS * 255)


def test_generate_runs_the_generator_once_for_each_batch(protector, x):
    sizes = []
    protector.generator.register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))
    IDGuardAttack(None, protector, batch_size=2, verbose=False).generate(x)
    assert sizes == [2, 2, 1]
    IDGuardUniversalAttack(None, protector, batch_size=2, verbose=False).generate(x)
    assert sizes == [2, 2, 1], "P-Pert needs no generator"


def test_the_batch_size_is_by_default_what_the_device_is_fastest_with(protector):
    attack = IDGuardAttack(None, protector)
    assert attack.batch_size == {"cpu": 4, "cuda": 32}[attack.device.type]


@BOTH
def test_generate_does_not_depend_on_the_batch_size(kind, protector, x):
    whole = kind(None, protector, batch_size=COUNT, verbose=False).generate(x)
    single = kind(None, protector, batch_size=1, verbose=False).generate(x)
    np.testing.assert_allclose(whole, single, atol=1e-6)


@BOTH
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.dtype(">f4")])
def test_generate_keeps_the_float_type(kind, dtype, protector, x):
    attack = kind(None, protector, verbose=False)
    attacked = attack.generate(x.astype(dtype))
    assert attacked.dtype == dtype
    assert attacked.shape == x.shape
    np.testing.assert_allclose(attacked, attack.generate(x), atol=1e-3 if dtype == np.float16 else 1e-6)


def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


@BOTH
@pytest.mark.parametrize(
    "layout",
    [
        read_only,
        np.asfortranarray,
        lambda x: x.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2),
        lambda x: np.repeat(x, 2, axis=3)[..., ::2],
        lambda x: x[::-1].copy()[::-1],
        lambda x: np.broadcast_to(x[:1], x.shape),
    ],
    ids=["read-only", "Fortran", "channels last in memory", "strided", "negative strides", "broadcast"],
)
def test_generate_takes_any_memory_layout(kind, layout, protector, x):
    attack = kind(None, protector, verbose=False)
    given = layout(x)
    before = np.array(given, dtype=np.float32)
    attacked = attack.generate(given)
    np.testing.assert_allclose(attacked, attack.generate(before), atol=1e-6)
    np.testing.assert_array_equal(np.array(given, dtype=np.float32), before, err_msg="the input was changed")
    assert attacked.flags.writeable


@BOTH
def test_generate_of_no_images(kind, protector, estimator):
    attack = kind(estimator, protector, verbose=False)
    attacked = attack.generate(np.empty((0, 3, SIZE, SIZE), np.float64))
    assert attacked.shape == (0, 3, SIZE, SIZE)
    assert attacked.dtype == np.float64


@BOTH
def test_generate_any_size(kind, protector):
    attacked = kind(None, protector, verbose=False).generate(np.full((1, 3, 37, 50), 0.5, np.float32))
    assert attacked.shape == (1, 3, 37, 50)


@BOTH
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda x: x.transpose(0, 2, 3, 1), "channels come first"),
        (lambda x: (x * 255).astype(np.uint8), "divide by 255"),
        (lambda x: 2 * x - 1, r"within \[0, 1\], found \[-1"),
        (lambda x: 255 * x, r"within \[0, 1\], found"),
        (lambda x: np.where(x > 0.9, np.nan, x), "not finite"),
        (lambda x: np.where(x > 0.9, np.inf, x), "not finite"),
        (lambda x: x[0], r"x\[None\]"),
        (lambda x: x[:, :1], r"expected RGB images of shape \(N, 3, H, W\)"),
    ],
    ids=["NHWC", "uint8", "[-1, 1]", "[0, 255]", "NaN", "infinity", "one image", "grey"],
)
def test_generate_refuses_other_images(kind, spoil, message, protector, x):
    with pytest.raises(IDGuardError, match=message):
        kind(None, protector, verbose=False).generate(spoil(x))


@BOTH
@pytest.mark.parametrize("shape", [(SIZE, SIZE), (3, SIZE, SIZE), (1, 1, SIZE, SIZE), (COUNT, 3, SIZE, SIZE)])
def test_mask_keeps_what_is_outside_of_it(kind, shape, protector, x):
    attack = kind(None, protector, verbose=False)
    mask = np.zeros(shape, dtype=bool)
    mask[..., : SIZE // 2] = True
    attacked = attack.generate(x, mask=mask)
    np.testing.assert_array_equal(attacked[..., SIZE // 2 :], x[..., SIZE // 2 :])
    np.testing.assert_allclose(attacked[..., : SIZE // 2], attack.generate(x)[..., : SIZE // 2], atol=1e-6)


@BOTH
def test_mask_of_floats_scales_each_image(kind, protector, x):
    attack = kind(None, protector, batch_size=2, verbose=False)
    mask = np.linspace(0.5, 1, COUNT).reshape(COUNT, 1, 1, 1)
    change = attack.generate(x) - x
    np.testing.assert_allclose(attack.generate(x, mask=mask) - x, change * mask, atol=1e-6)


@BOTH
def test_mask_of_zeros_warns_that_nothing_was_done(kind, protector, x):
    with pytest.warns(NullAttackWarning, match=f"{kind.__name__} returned {COUNT} of {COUNT} images unchanged"):
        attacked = kind(None, protector, verbose=False).generate(x, mask=np.zeros((SIZE, SIZE)))
    np.testing.assert_array_equal(attacked, x)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.ones((2, 7)), "does not fit"),
        (np.full((SIZE, SIZE), 2.0), r"within \[0, 1\]"),
        (np.full((SIZE, SIZE), -1.0), r"within \[0, 1\]"),
        (np.full((SIZE, SIZE), np.nan), r"within \[0, 1\]"),
    ],
)
def test_mask_that_would_break_the_bound_is_refused(mask, message, protector, x):
    with pytest.raises(IDGuardError, match=message):
        IDGuardAttack(None, protector, verbose=False).generate(x, mask=mask)


def test_a_protector_that_does_nothing_warns(protector, x):
    for parameter in protector.parameters():
        nn.init.zeros_(parameter)
    for kind in (IDGuardAttack, IDGuardUniversalAttack):
        with pytest.warns(NullAttackWarning):
            kind(None, protector, verbose=False).generate(x)


def _holds(value):
    """Whether it is a tensor with a storage: compiling leaves others, of classes of their own, and so do tests."""
    return (
        type(value) in (torch.Tensor, nn.Parameter)
        and value.layout == torch.strided
        and not (value.is_nested or value.is_meta)
    )


@pytest.mark.slow
@BOTH
def test_memory_does_not_grow_with_the_number_of_images(kind, protector, monkeypatch):
    attack = kind(None, protector, batch_size=4, verbose=False)

    tensors, protect = [], attack.protect

    def noting(images):
        living = (o.untyped_storage() for o in gc.get_objects() if _holds(o))
        tensors.append(sum({s.data_ptr(): s.nbytes() for s in living}.values()))
        return protect(images)

    monkeypatch.setattr(attack, "protect", noting)

    def beyond_output(count):
        """Of numpy as it traces it, of torch as it is alive at each batch."""
        x = np.full((count, 3, SIZE, SIZE), 0.5, np.float32)
        mask = np.ones((SIZE, SIZE))
        attack.generate(x[:4])
        tensors.clear()
        tracemalloc.start()
        attacked = attack.generate(x, mask=mask)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak - attacked.nbytes + max(tensors)

    assert beyond_output(24) < beyond_output(8) + 4 * 3 * SIZE * SIZE  # one image


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.filterwarnings("ignore:no face found")
@BOTH
def test_generate_on_the_gpu_of_the_estimator(kind, protector, estimator, x):
    attacked = kind(estimator, protector, verbose=False).generate(x)
    assert estimator.device.type == "cuda"
    assert isinstance(attacked, np.ndarray)
    assert np.abs(attacked - x).max() <= EPS + 1e-6


# parameters


@BOTH
def test_repr_names_every_parameter(kind, protector):
    text = repr(kind(None, protector, batch_size=7, verbose=False))
    assert text.startswith(f"{kind.__name__}(batch_size=7, verbose=False, ")
    assert all(f"{name}=" in text for name in kind.attack_params)


@pytest.mark.parametrize("kind", ATTACKS.values())
def test_attack_params_are_the_arguments_and_help_names_them_all(kind):
    (shared,) = get_args(get_type_hints(kind.__init__)["common"])
    arguments = {*inspect.signature(kind).parameters, *get_type_hints(shared)} - {"common", "summary_writer"}
    assert set(kind.attack_params) == arguments - {"estimator", "estimators", "protector"}
    own = inspect.getdoc(kind)
    text = "".join(inspect.getdoc(base) for base in kind.__mro__ if base is kind or f".{base.__name__}`" in own)
    assert all(name in text for name in (*arguments, "summary_writer", f"`attacks.{shared.__name__}`"))
    explained = inspect.getdoc(BoundedParams) + inspect.getdoc(CommonParams)
    assert all(f"{name}: " in explained for name in get_type_hints(shared))


@pytest.mark.parametrize("kind", ATTACKS.values())
def test_an_unknown_argument_is_named(kind, estimator):
    with pytest.raises(TypeError, match="unexpected keyword argument 'epsilon'"):
        kind(estimator, epsilon=0.1)


@BOTH
def test_a_smaller_eps_scales_the_perturbation_down(kind, protector, x):
    x = 0.5 + 0.3 * (x - 0.5)  # nothing is clipped
    attack = kind(None, protector, verbose=False)
    full, bound = attack.generate(x) - x, attack.eps
    attack.set_params(eps=bound / 4)
    np.testing.assert_allclose(attack.generate(x) - x, full / 4, atol=1e-6)
    assert attack.eps == kind(None, protector, eps=bound / 4).eps == bound / 4
    if attack.__dict__.get("noise") is not None:
        np.testing.assert_allclose(attack.noise, full[:1] / 4, atol=1e-6)
    attack.set_params(eps=None)
    np.testing.assert_array_equal(attack.generate(x) - x, full)


def test_bf16_moves_little_and_keeps_the_bound(protector, x):
    attack = IDGuardAttack(None, protector, verbose=False)
    exact, bound = attack.generate(x), attack.eps
    attack.set_params(precision="bf16")
    found = attack.generate(x)
    assert found.dtype == np.float32
    assert abs(found - x).max() <= bound + 1e-6
    assert 0 < abs(found - exact).max() < bound / 4
    assert abs(found - exact).mean() < bound / 50


def test_an_estimator_that_forges_nothing_is_told_what_to_do(unchecked):
    classifier = PyTorchClassifier(nn.Linear(3, 2), nn.CrossEntropyLoss(), (3,), 2)
    with pytest.raises(EstimatorError, match=r"IDGuardAttack\(\) needs none.*an IDGuardPreprocessor"):
        IDGuardAttack(classifier)


@BOTH
@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("batch_size", value) for value in (0, -1, 2.0, "2", True)),
        *(("verbose", value) for value in (1, "yes")),
        *(("eps", value) for value in (0.1, 0, -0.01, "0.01", float("nan"))),
        *(("precision", value) for value in ("fp16", None)),
        *(("unknown", 1), ("protector", None)),
    ],
)
def test_check_params(kind, name, value, protector, unchecked):
    with pytest.raises(ValueError, match=name):
        kind(None, protector, verbose=False).set_params(**{name: value})
    if name in kind.attack_params:
        with pytest.raises(ValueError, match=name):
            kind(None, protector, **{name: value})


@pytest.mark.parametrize("delta", [-0.1, 1.1, "0.2", True, np.nan])
def test_check_delta(delta, protector, unchecked):
    with pytest.raises(ValueError, match="delta"):
        IDGuardUniversalAttack(None, protector).set_params(delta=delta)
    with pytest.raises(ValueError, match="delta"):
        IDGuardUniversalAttack(None, protector, delta=delta)


@BOTH
def test_set_params(kind, protector, x):
    attack = kind(None, protector, verbose=False)
    attack.set_params(batch_size=3)
    assert attack.batch_size == 3


@BOTH
def test_a_protector_is_due(kind, unchecked):
    with pytest.raises(ValueError, match="Protector, found str"):
        kind(None, "protector")


@BOTH
def test_estimator_error(kind, protector, estimator, unchecked):
    classifier = PyTorchClassifier(nn.Flatten(), nn.CrossEntropyLoss(), (3, SIZE, SIZE), nb_classes=2)
    for wrong in (classifier, estimator.model, "stargan"):
        with pytest.raises(EstimatorError, match=kind.__name__):
            kind(wrong, protector)


@BOTH
def test_estimator_requirements(kind, protector, estimator):
    class Own(PyTorchManipulator):
        pass

    for right in (None, estimator, Own(estimator.model)):
        assert kind(right, protector).estimator is right


# progress and logs


@BOTH
@pytest.mark.parametrize("verbose", [True, False])
def test_verbose_shows_a_progress_bar(kind, verbose, protector, x, capsys):
    kind(None, protector, verbose=verbose).generate(x)
    shown = capsys.readouterr()
    assert (f"{kind.__name__}: 100%" in shown.err) is verbose
    assert not shown.out


class Notes(SummaryWriter):
    """A summary writer of one's own."""

    def _init_summary_writer(self, summary_writer, init_counter):
        self.updates, self.resets = [], init_counter

    def update(self, batch_id, global_step, grad=None, patch=None, estimator=None, x=None, y=None, **_):
        self.updates.append((batch_id, estimator.compute_loss(x, y)))

    def reset(self):
        self.resets += 1


def test_summary_writer_of_ones_own_sees_the_loss_of_each_batch(protector, estimator, x):
    notes = Notes(True)
    attacked = IDGuardAttack(estimator, protector, batch_size=3, verbose=False, summary_writer=notes).generate(x)
    forged, spoilt = (to_signed(torch.from_numpy(estimator.predict(images))) for images in (x, attacked))
    assert [batch for batch, _ in notes.updates] == [0, 1]
    losses = np.concatenate([loss for _, loss in notes.updates])
    np.testing.assert_allclose(losses, (forged - spoilt).square().mean(dim=(1, 2, 3)), rtol=1e-4)
    assert notes.resets == 1


@pytest.mark.parametrize("where", ["path", True])
def test_summary_writer_of_art(where, protector, estimator, x, tmp_path, monkeypatch):
    pytest.importorskip("tensorboardX")
    monkeypatch.chdir(tmp_path)
    attack = IDGuardAttack(estimator, protector, summary_writer=where, verbose=False)
    attack.generate(x)
    attack.summary_writer.summary_writer.close()
    folder = tmp_path / ("path" if where == "path" else "runs")
    assert len(list(folder.rglob("loss/*/*/events*"))) == COUNT, "one for each image"


def test_summary_writer_of_art_without_tensorboardx(protector, estimator, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(IDGuardError, match="pip install tensorboardX"):
        IDGuardAttack(estimator, protector, summary_writer=str(tmp_path))


def test_summary_writer_needs_an_estimator(protector):
    with pytest.raises(ValueError, match="give `estimator`"):
        IDGuardAttack(None, protector, summary_writer=Notes(True))


def test_summary_writer_of_another_type(protector, unchecked):
    with pytest.raises(ValueError, match="summary_writer"):
        IDGuardAttack(None, protector, summary_writer=3)


# weights


@BOTH
def test_from_pretrained_is_what_ships(kind):
    shipped = Protector.from_pretrained().state_dict()
    for attack in (kind.from_pretrained(verbose=False), kind(verbose=False)):
        assert all(torch.equal(tensor, shipped[name]) for name, tensor in attack.protector.state_dict().items())
        assert attack.eps == pytest.approx(EPS)


@BOTH
def test_from_pretrained_passes_everything_on(kind, protector, estimator, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        Protector, "from_pretrained", lambda *model, **options: asked.append((model, options)) or protector
    )
    attack = kind.from_pretrained("someone/protector", revision="v2", estimator=estimator, batch_size=3)
    assert asked == [(("someone/protector",), {"revision": "v2"})]
    assert (attack.estimator, attack.batch_size, attack.protector) == (estimator, 3, protector)


def test_from_pretrained_of_a_folder(protector, x, tmp_path):
    protector.save_pretrained(tmp_path)
    loaded = IDGuardAttack.from_pretrained(tmp_path, verbose=False)
    expected = IDGuardAttack(None, protector, verbose=False)
    np.testing.assert_array_equal(loaded.generate(x), expected.generate(x))
    with pytest.raises(WeightsError):
        IDGuardAttack.from_pretrained(tmp_path / "absent")


# P-Pert


class Brittle(Manipulator):
    """Returns the face, or its negative where it holds more than so much of a pattern."""

    name = "brittle"

    def __init__(self, pattern, threshold):
        super().__init__()
        self.pattern, self.threshold = pattern, threshold

    def edits(self, attributes):
        return (Edit("none", attributes),)

    def forward(self, x, edit):
        held = (x * self.pattern).mean(dim=(1, 2, 3), keepdim=True)
        return Manipulation(torch.where(held > self.threshold, -x, x), x)


def test_universal_fooling_rate_is_the_dsr_of_the_evaluation(tmp_path):
    protector = tiny_protector(64)
    faces = read_faces(write_portraits(tmp_path / "faces", 5, 64), size=64)
    x = to_unit(from_uint8(faces.images)).numpy()
    pattern = protector.prior.detach().sign()
    held = ((from_uint8(faces.images) + protector.prior.detach()) * pattern).mean(dim=(1, 2, 3))
    brittle = Brittle(pattern, threshold=float(held.sort().values[1:3].mean()))
    report = evaluate({"P-Pert": p_pert(protector)}, {"brittle": brittle}, faces, {"sface": default()}, epsilon=0.05)

    rate = float(report.cells("dsr.sface").mean())
    assert 0 < rate < 1

    attack = IDGuardUniversalAttack(PyTorchManipulator(brittle), protector, verbose=False, delta=1.01 - rate)
    assert (attack.noise, attack.fooling_rate, attack.converged) == (None, None, None)
    attack.generate(x)
    assert attack.fooling_rate == pytest.approx(rate)
    assert attack.converged
    attack.set_params(delta=0.99 - rate)
    assert not attack.converged


def test_universal_noise_is_what_was_added(protector, x):
    attack = IDGuardUniversalAttack(None, protector, verbose=False)
    middle = 0.1 + 0.8 * x
    attacked = attack.generate(middle)
    assert attack.noise.shape == (1, 3, SIZE, SIZE)
    np.testing.assert_allclose(attacked, middle + attack.noise, atol=1e-6)
    np.testing.assert_allclose(attack.noise, protector.prior.detach() / 2, atol=1e-7)
    assert (attack.fooling_rate, attack.converged) == (None, None), "there is no estimator to fool"


# imports


@pytest.mark.slow
def test_importing_the_package_imports_nothing_else():
    program = """
import sys, art_idguard
assert not {"art", "torch", "numpy"} & set(sys.modules)
from art_idguard import MANIPULATORS, WEIGHTINGS, Protector
assert "torch" in sys.modules and "art" not in sys.modules
assert "IDGuardAttack" in dir(art_idguard)
"""
    subprocess.run([sys.executable, "-c", program], check=True)

"""Training from an ART user's arrays."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from art.defences.preprocessor import SpatialSmoothing

from art_idguard.attacks import IDGuardAttack, IDGuardUniversalAttack
from art_idguard.data.reading import read_faces
from art_idguard.errors import IDGuardError
from art_idguard.estimators.manipulator import PyTorchManipulator
from art_idguard.images import from_uint8, to_unit
from art_idguard.perturbation import Protector
from art_idguard.perturbation.weakened import WeakenedProtector
from tests.toys import tiny_manipulators, write_portraits

SIZE = 64


@pytest.fixture(scope="module")
def x(tmp_path_factory):
    faces = read_faces(write_portraits(tmp_path_factory.mktemp("faces"), 4, SIZE), size=SIZE)
    return to_unit(from_uint8(faces.images)).numpy()


def manipulator(**options):
    return PyTorchManipulator(tiny_manipulators(["stargan"])[0], **options)


def attack(**options):
    torch.manual_seed(3)
    protector = Protector(generator_config={"channels": 8, "norm": "instance"}, size=SIZE)
    estimators = [PyTorchManipulator(m, input_shape=(3, SIZE, SIZE)) for m in tiny_manipulators()[:2]]
    return IDGuardAttack(estimators[0], protector, verbose=False, **options), estimators


@pytest.mark.slow
def test_training_on_arrays_raises_the_objective(x, tmp_path):
    idguard, estimators = attack()
    before = [e.compute_loss(idguard.generate(x), e.predict(x)).mean() for e in estimators]
    idguard.fit(x, estimators=estimators, batch_size=2, nb_epochs=6, lr=5e-3, weighting="kpi", output=tmp_path / "run")
    after = [e.compute_loss(idguard.generate(x), e.predict(x)).mean() for e in estimators]
    assert all(b > 1.5 * a for a, b in zip(before, after, strict=True)), (before, after)
    assert (tmp_path / "run" / "checkpoint.pt").is_file()
    assert len((tmp_path / "run" / "log.jsonl").read_text().splitlines()) == 12


@pytest.mark.slow
def test_without_estimators_the_attacks_own_is_trained_against_and_nothing_is_kept(x):
    idguard, _ = attack()
    before = idguard.protector.generator.state_dict()
    before = {name: tensor.clone() for name, tensor in before.items()}
    labels = np.zeros((len(x), 5))
    labels[:, 0] = 1
    idguard.fit(x, labels, batch_size=4, nb_epochs=1)
    assert any(not torch.equal(t, before[n]) for n, t in idguard.protector.generator.state_dict().items())


def weights(protector):
    return torch.cat([p.detach().flatten() for p in protector.parameters()])


@pytest.mark.slow
def test_a_copy_is_trained_with_the_estimators_labels_in_any_thread(x):
    blond = (0.0, 1.0, 0.0, 1.0, 0.0)
    trained = []
    for attributes, y in ((blond, None), ((0.0,) * 5, np.tile(blond, (len(x), 1))), ((0.0,) * 5, None)):
        idguard, (estimator, _) = attack()
        estimator.set_params(attributes=attributes)
        given, before = idguard.protector, weights(idguard.protector)
        with ThreadPoolExecutor(1) as pool:
            pool.submit(idguard.fit, x, y, batch_size=4, nb_epochs=1, alpha=(1.0,)).result()
        assert torch.equal(weights(given), before)
        trained.append(weights(idguard.protector))
    assert torch.equal(trained[0], trained[1])
    assert not torch.equal(trained[0], trained[2])


@pytest.mark.slow
def test_what_was_measured_of_p_pert_is_forgotten(x):
    idguard, estimators = attack()
    torch.nn.init.uniform_(idguard.protector.prior, -0.05, 0.05)
    universal = IDGuardUniversalAttack(estimators[0], idguard.protector, verbose=False)
    universal.generate(x)
    universal.fit(x, batch_size=4, nb_epochs=1, alpha=(1.0,))
    assert universal.noise is universal.fooling_rate is universal.converged is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.zeros((2, 3, 64, 32), np.float32)}, "square"),
        ({"x": np.zeros((2, 3, 64, 64), np.float32)}, "no face found"),
        ({"y": np.zeros((4, 3))}, "labels"),
        ({"estimators": ()}, "no manipulators"),
        ({"estimators": (PyTorchManipulator(lambda x: x),)}, "subclass it"),
        ({"weighting": "none"}, "none"),
        ({"speed": 1}, "unknown settings speed"),
        ({"epsilon": 0.03}, "has its own epsilon"),
        ({"lr": -1.0}, "lr is -1.0"),
        ({"estimators": (manipulator(preprocessing_defences=SpatialSmoothing(window_size=3)),)}, "bare"),
        ({"estimators": (manipulator(clip_values=(0.0, 255.0)),)}, "agree"),
    ],
)
def test_what_cannot_be_trained_on_is_named(x, change, message):
    idguard, _ = attack()
    with pytest.raises(IDGuardError, match=message):
        idguard.fit(**({"x": x, "batch_size": 2, "nb_epochs": 1} | change))


def test_a_weakened_protector_is_not_trained(x):
    idguard, _ = attack()
    weakened = IDGuardAttack(idguard.estimator, WeakenedProtector(idguard.protector, 0.5))
    with pytest.raises(IDGuardError, match=r"the one that it weakens, \.full"):
        weakened.fit(x, batch_size=2, nb_epochs=1)

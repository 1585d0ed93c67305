"""On another device than the CPU the same numbers come out, nothing is mixed, and no step waits for the device.

Where these tests run there is mostly no GPU: `tests.elsewhere` stands in for one. Where there is one, ART's surface is
tested on it as well.
"""

from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from art.attacks.evasion import BasicIterativeMethod, ProjectedGradientDescent

from art_idguard.attacks import IDGuardAttack, IDGuardUniversalAttack
from art_idguard.attribute_classifier import AttributeClassifier
from art_idguard.baselines.base import universal
from art_idguard.baselines.cmua import cmua
from art_idguard.baselines.criterion import criterion_white_box
from art_idguard.baselines.disrupting import disrupting, white_box
from art_idguard.baselines.idguard import id_guard, p_pert
from art_idguard.baselines.noise import uniform_noise
from art_idguard.data.reading import read_faces
from art_idguard.defences import IDGuardPreprocessor
from art_idguard.distortions import OPERATIONS
from art_idguard.estimators.manipulator import PyTorchManipulator
from art_idguard.evaluation.protection import evaluate
from art_idguard.evaluation.quality import measure_quality
from art_idguard.evaluation.report import CEILING, WHITE_BOX
from art_idguard.perturbation import GENERATORS, Protector
from art_idguard.recognizers import RECOGNIZERS, SFace
from art_idguard.training.manipulator import step as gan
from art_idguard.training.manipulator.config import ManipulatorConfig
from art_idguard.training.manipulator.hardening import PGDAttacker, ProtectorAttacker
from art_idguard.training.manipulator.objectives import OBJECTIVES
from art_idguard.training.manipulator.setup import PreloadedGAN
from art_idguard.training.manipulator.setup import build_run as build_gan_run
from art_idguard.training.protector import step as protection
from art_idguard.training.protector.config import ProtectorConfig
from art_idguard.training.protector.run import Preloaded
from art_idguard.training.protector.setup import build_run
from art_idguard.weighting import WEIGHTINGS
from tests.elsewhere import DEVICE, Elsewhere
from tests.toys import ToyRecognizer, tiny_manipulators, write_portraits

SIZE = 64
CPU = torch.device("cpu")
REAL = [torch.device("cuda", 0)] if torch.cuda.is_available() else []


@contextmanager
def on(device):
    """Accelerate uses the device; gives what counts the waits for it, on the CPU None."""
    with pytest.MonkeyPatch.context() as patch, Elsewhere() if device == DEVICE else nullcontext() as waits:
        patch.setattr(Accelerator, "device", property(lambda _: device))
        yield waits
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    unlabelled = read_faces(write_portraits(tmp_path_factory.mktemp("faces"), 4, SIZE), size=SIZE)
    return replace(unlabelled, attributes=torch.eye(5)[:4])


def protector(**changes):
    torch.manual_seed(3)
    made = Protector(**{"size": SIZE, "generator_config": {"channels": 8, "norm": "instance"}} | changes)
    with torch.no_grad():
        made.prior.uniform_(-made.epsilon, made.epsilon)
    return made


def values(network):
    return {name: value.cpu() for name, value in network.state_dict().items()}


def test_the_device_keeps_values_and_does_not_mix():
    with on(DEVICE) as device:
        there = torch.ones(2, 3).to(DEVICE)
        with pytest.raises(RuntimeError, match="mixes two devices"):
            there + torch.ones(2, 3)
        with pytest.raises(RuntimeError, match="not supported"):
            there.numpy()
        assert device.waits == 1
        assert there.sum().item() == 6
        assert device.waits == 2
        assert torch.ones(2).to(DEVICE, non_blocking=True).sum().item() == 2
        assert device.waits == 3


@pytest.mark.parametrize("generator", GENERATORS)
def test_protectors(generator):
    settings = {"channels": 8, "norm": "instance"} if generator == "resnet" else {}
    x = torch.rand(2, 3, 256, 256) * 2 - 1
    results = []
    for device in (CPU, DEVICE):
        with on(device), torch.no_grad():
            made = protector(generator=generator, generator_config=settings, size=256).eval().to(device)
            results.append([image.cpu() for image in made(x.to(device))])
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=1e-6)  # each device has its own attention


@pytest.fixture
def start(faces, tmp_path, monkeypatch):
    """Makes the run of a protector's training on a device."""
    torch.manual_seed(0)
    monkeypatch.setitem(RECOGNIZERS, "toy", ToyRecognizer)
    ToyRecognizer().save_pretrained(tmp_path / "toy")

    def made(device, **settings):
        config = ProtectorConfig.from_recipe(
            None,
            faces="in memory",
            manipulators=("stargan", "relgan"),
            output=str(tmp_path / device.type),
            recognizers=(str(tmp_path / "toy"),),
            batch_size=2,
            precision="no",
            **settings,
        )
        return build_run(config, parts=Preloaded(faces, tiny_manipulators(("stargan", "relgan")), protector()))

    return made


@pytest.mark.slow
@pytest.mark.parametrize(("weighting", "operation"), list(zip(WEIGHTINGS, OPERATIONS, strict=True)))
def test_a_step_of_algorithm_1(weighting, operation, start):
    results = []
    for device in (CPU, DEVICE):
        with on(device):
            run = start(device, weighting=weighting, augment=(operation,))
            report = protection.train_step(run)
            gradient = torch.cat([p.grad.cpu().flatten() for p in run.protector.parameters()])
            shown = (value.cpu() for value in report._replace(shares=None) if value is not None)
            results.append([gradient / gradient.norm(), *shown])
    (here, *report), (there, *report_there) = results
    # Of gradients of length 1: sums are added in another order. Measured: 1.6e-5 through JPEG, 1e-6 elsewhere.
    assert (there - here).norm() <= (5e-5 if operation == "jpeg" else 5e-6)
    torch.testing.assert_close(report_there, report, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("weighting", ["hmm", "kpi"])  # the solver of mgda is the CPU's
def test_a_step_of_algorithm_1_between_two_lines_of_the_log_waits_for_nothing(weighting, start):
    with on(DEVICE) as device:
        run = start(DEVICE, weighting=weighting, log_every=2)
        before = device.waits
        protection.train_step(run)
        assert device.waits == before
        protection.train_step(run)
        assert device.waits == before + 1  # whether it is finite


ATTACKS = {
    "pgd": lambda device: PGDAttacker(steps=2),
    "idguard": lambda device: ProtectorAttacker(protector().to(device)),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "attack", "distill"), [*((name, "idguard", False) for name in OBJECTIVES), ("stargan", "pgd", True)]
)
def test_a_step_of_a_manipulator_waits_for_nothing(name, attack, distill, faces, tmp_path):
    game, results = OBJECTIVES[name], []
    labels = torch.eye(len(game.attributes)).repeat(2, 1)
    images = faces.images[torch.arange(len(labels)) % len(faces)]
    for device in (CPU, DEVICE):
        config = ManipulatorConfig.from_recipe(
            None,
            manipulator=name,
            faces="in memory",
            output=str(tmp_path / device.type),
            size=SIZE,
            channels=8,
            batch_size=3,
            n_critic=1,
            precision="no",
            distill=distill,
        )
        with on(device) as waiting:
            torch.manual_seed(0)
            parts = PreloadedGAN(images, labels, game.generator(config))
            run = build_gan_run(config, attack=ATTACKS[attack](device), parts=parts)
            before = waiting.waits if waiting else 0
            (gan.distill_step if distill else gan.train_step)(run, progress=0.0)
            assert not waiting or waiting.waits == before
            results.append(values(run.generator))
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=0)


def by_art(estimator, attack):
    return attack(estimator, eps=0.025, eps_step=0.01, max_iter=2, verbose=False)


SURFACE = {
    "IDGuardAttack": lambda estimator, x: IDGuardAttack(estimator, protector(), verbose=False).generate(x),
    "masked": lambda estimator, x: IDGuardAttack(estimator, protector(), verbose=False).generate(
        x, mask=x[:, :1] > 0.5
    ),
    "P-Pert": lambda estimator, x: IDGuardUniversalAttack(estimator, protector(), verbose=False).generate(x),
    "ART PGD": lambda estimator, x: by_art(estimator, ProjectedGradientDescent).generate(x),
    "ART BIM": lambda estimator, x: by_art(estimator, BasicIterativeMethod).generate(x),
    "predict": lambda estimator, x: estimator.predict(x),
    "gradient": lambda estimator, x: estimator.loss_gradient(x, estimator.predict(x[::-1])),
    "features": lambda estimator, x: estimator.get_activations(x),
    "disruption": lambda estimator, x: np.stack(estimator.disruption(x, x[::-1])),
}


@pytest.mark.parametrize("other", [DEVICE, *REAL], ids=str)
@pytest.mark.parametrize("use", SURFACE)
def test_numpy_through_the_estimator(use, other, faces):
    """ART's convention, numpy in and numpy out, wherever the model is: here float64, reversed and read-only."""
    x = (faces.images.double() / 255).numpy()[::-1]
    x.flags.writeable = False
    results = []
    for device in (CPU, other):
        (stargan,) = tiny_manipulators(("stargan",))
        estimator = PyTorchManipulator(stargan, input_shape=(3, SIZE, SIZE))
        with on(device), torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            estimator._device = device  # ART finds a GPU only by CUDA
            estimator.model.to(device)
            np.random.seed(0)
            results.append(SURFACE[use](estimator, x))
    if other == DEVICE and use != "disruption":
        np.testing.assert_array_equal(results[1], results[0])
    elif other == DEVICE:  # a recogniser's channels come last on a CPU alone, so that sums are rounded otherwise
        np.testing.assert_allclose(results[1], results[0], atol=5e-6)
    else:  # where a gradient is about zero, the step of a sign attack may turn
        assert np.mean(np.abs(results[1] - results[0]) > 1e-3) <= 0.02


def test_a_preprocessing_defence(faces):
    x = faces.images.float() / 255
    results = []
    for device in (CPU, DEVICE):
        defence = IDGuardPreprocessor(protector())
        with on(device):
            defence.protector = deepcopy(defence.protector).to(device)
            inputs = x.to(device).requires_grad_()
            protected, _ = defence.forward(inputs)
            (gradient,) = torch.autograd.grad(protected.square().sum(), inputs)
            results.append([protected.detach().cpu(), gradient.cpu()])
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=0)


@pytest.mark.slow
def test_measuring_protections(faces):
    results = []
    for device in (CPU, DEVICE):
        with on(device):
            there = faces.select([0, 1]).to(device)
            targets = {m.name: m.to(device) for m in tiny_manipulators(("stargan", "relgan"))}
            torch.manual_seed(0)
            judge = SFace(width=4).eval().requires_grad_(False).to(device)
            guard = protector().to(device).eval().requires_grad_(False)
            shared = cmua(list(targets.values()), there, epsilon=guard.epsilon, steps=1)
            protections = {
                "ID-Guard": id_guard(guard),
                "P-Pert": p_pert(guard),
                "noise": uniform_noise(epsilon=guard.epsilon),
                "Disrupting": disrupting(targets["stargan"], epsilon=guard.epsilon, steps=1),
                "CMUA": universal(shared, guard.epsilon),
            }
            references = {
                WHITE_BOX: white_box(epsilon=guard.epsilon, steps=1),
                CEILING: criterion_white_box([judge], epsilon=guard.epsilon, steps=1, restarts=2),
            }
            judges = {"sface": judge}
            report = evaluate(
                protections, targets, there, judges, epsilon=guard.epsilon, references=references, edits="cycle"
            )
            results.append({measure: report.cells(measure) for measure in report.measures})
    torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=1e-5, equal_nan=True)


def test_measuring_manipulators(faces):
    results = []
    for device in (CPU, DEVICE):
        with on(device):
            torch.manual_seed(0)
            classifier = AttributeClassifier(channels=4).eval().to(device)
            judge = SFace(width=4).eval().requires_grad_(False).to(device)
            (relgan,) = tiny_manipulators(("relgan",))
            results.append(measure_quality(relgan.to(device), faces.to(device), classifier, judge).summary())
    assert results[1] == results[0]

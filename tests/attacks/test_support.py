"""ART's and torchattacks' own attacks against a manipulator: they beat noise, or say why not."""

import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from art.attacks.evasion import (
    AdversarialPatchPyTorch,
    AutoProjectedGradientDescent,
    CarliniL2Method,
    HopSkipJump,
    OverTheAirFlickeringPyTorch,
    ProjectedGradientDescentPyTorch,
    SquareAttack,
)
from art.estimators.classification import PyTorchClassifier
from PIL import Image

from art_idguard.attacks import ClassifierAttack, TorchAttack
from art_idguard.errors import IDGuardError, NullAttackWarning
from art_idguard.estimators.manipulator import PyTorchManipulator
from examples.attack_support import CASES, ROOT, run, table
from tests.toys import tiny_manipulators, write_portraits

SIZE, STEPS = 32, {"eps": 0.025, "eps_step": 0.01, "max_iter": 3}
PGD = ProjectedGradientDescentPyTorch
needs_torchattacks = pytest.mark.skipif(find_spec("torchattacks") is None, reason="needs torchattacks, an extra")


def cases(of, what=lambda value: value if isinstance(value, tuple) else (value,)):
    """Cases by name; those with torchattacks in it are skipped where that is not installed."""
    skip = {True: needs_torchattacks, False: ()}
    return [
        pytest.param(*what(value), id=name, marks=skip["torchattack" in name.lower()]) for name, value in of.items()
    ]


@pytest.fixture(scope="module")
def x(tmp_path_factory):
    files = sorted(write_portraits(tmp_path_factory.mktemp("faces"), 2, SIZE).glob("*.png"))
    return np.stack([np.asarray(Image.open(file)) for file in files]).transpose(0, 3, 1, 2).astype(np.float32) / 255


@pytest.fixture(scope="module")
def estimator():
    return PyTorchManipulator(tiny_manipulators(["stargan"])[0], input_shape=(3, SIZE, SIZE), device_type="cpu")


def constant():
    return PyTorchManipulator(lambda images: 0 * images + 0.5, input_shape=(3, SIZE, SIZE), device_type="cpu")


# --- the table


REQUIRED = {
    "ART": "ProjectedGradientDescent ProjectedGradientDescentNumpy FastGradientMethod BasicIterativeMethod "
    "MomentumIterativeMethod ProjectedGradientDescentPyTorch AutoProjectedGradientDescent CarliniL2Method "
    "CarliniLInfMethod SquareAttack HopSkipJump UniversalPerturbation",
    "torchattacks": "PGD FGSM BIM CW MIFGSM DIFGSM TIFGSM EOTPGD APGD Square",
}


@pytest.fixture(scope="module")
def committed():
    """The rows of ATTACKS.md, without their figures, which differ from machine to machine."""
    lines = (ROOT / "examples" / "ATTACKS.md").read_text().splitlines()
    return [tuple(line.strip("| ").split(" | ")[:4]) for line in lines if line.startswith("|")][2:]


def test_the_table_has_every_attack(committed):
    assert [(row[0], row[2]) for row in committed] == [(case.attack, case.surface) for case in CASES]
    for library, attacks in REQUIRED.items():
        assert {row[0] for row in committed if row[1] == library} == set(attacks.split())


@pytest.mark.slow
@pytest.mark.parametrize("index", cases({f"{case.surface}-{case.attack}": i for i, case in enumerate(CASES)}))
def test_each_attack_beats_uniform_noise_of_its_size(estimator, x, committed, index):
    row = run(CASES[index], estimator, x)
    assert row.support == committed[index]
    assert row.result == "runs"
    assert row.l2 > row.noise
    assert 0 < row.l_inf <= CASES[index].params.get("eps", 0.2) + 1e-6


def test_the_page_is_made_of_the_rows(estimator, x):
    row = run(CASES[2], estimator, x)
    page = table([row], "On a tiny model.")
    assert "On a tiny model." in page
    assert page.rstrip().splitlines()[-1] == f"| {row} |"


# --- one image, one classifier


BOTH = {"ART": lambda e: ClassifierAttack(e, PGD, **STEPS), "torchattacks": lambda e: TorchAttack(e, "PGD", eps=0.025)}


@pytest.mark.parametrize("make", cases(BOTH | {"torchattacks": lambda e: TorchAttack(e, "BIM")}))
def test_images_do_not_meet(estimator, x, make):
    attack = make(estimator)
    attack.verbose = False
    together = attack.generate(x)
    alone = [attack.generate(x[i : i + 1]) for i in range(len(x))]
    assert np.array_equal(together, np.concatenate(alone))


def test_targeted_is_away_from_intact_too(estimator, x):
    towards, away = (
        ClassifierAttack(estimator, PGD, targeted=targeted, verbose=False, **STEPS).generate(x)
        for targeted in (True, False)
    )
    assert np.array_equal(towards, away)


@pytest.mark.parametrize("make", cases(BOTH | {"torchattacks": lambda e: TorchAttack(e, "FGSM", eps=0.025)}))
def test_any_float_array_comes_back_in_its_type_and_untouched(estimator, x, make):
    attack = make(estimator)
    attack.verbose = False
    given = np.asfortranarray(x.astype(np.float64))
    given.setflags(write=False)
    attacked = attack.generate(given)
    assert attacked.dtype == np.float64
    assert np.array_equal(given, x)
    assert np.allclose(attacked, attack.generate(x), atol=1e-6)
    assert attack.generate(x[:0]).shape == x[:0].shape
    with pytest.raises(IDGuardError, match="divide by 255"):
        attack.generate((x * 255).astype(np.uint8))


@needs_torchattacks
@pytest.mark.parametrize("clip_values", [(0.0, 255.0), (-1.0, 1.0)])
def test_torchattacks_epsilon_is_on_the_unit_scale_in_every_range(x, clip_values):
    low, high = clip_values
    model = tiny_manipulators(["stargan"])[0]
    estimator = PyTorchManipulator(model, clip_values=clip_values, device_type="cpu")
    attacked = TorchAttack(estimator, "PGD", eps=0.025, verbose=False).generate(low + x * (high - low))
    change = np.abs((attacked - low) / (high - low) - x).max(axis=(1, 2, 3))
    assert np.allclose(change, 0.025, atol=1e-5)


MASKED = {
    "knows masks": lambda e: ClassifierAttack(e, PGD, **STEPS),
    "ignores masks": lambda e: ClassifierAttack(e, SquareAttack, eps=0.025, max_iter=5, threshold=0.01),
    "torchattacks": lambda e: TorchAttack(e, "PGD", eps=0.025),
}


@pytest.mark.parametrize("make", cases(MASKED))
def test_masks_are_kept_by_every_attack(estimator, x, make):
    mask = np.zeros((SIZE, SIZE))
    mask[:, : SIZE // 2] = 1
    attack = make(estimator)
    attack.verbose = False
    attacked = attack.generate(x, mask=mask)
    outside = np.broadcast_to(mask, x.shape) == 0
    assert np.array_equal(attacked[outside], x[outside])
    assert (attacked != x)[~outside].mean() > 0.5
    with pytest.raises(IDGuardError, match="does not fit"):
        attack.generate(x, mask=np.ones((5, 5)))


# --- no silent null attack


CARLINI = {"max_iter": 1, "binary_search_steps": 1, "initial_const": 1e-3}
NULL = {
    "Carlini gives up": (
        lambda e: ClassifierAttack(e, CarliniL2Method, **CARLINI),
        "2 of 2 images unchanged: .*threshold",
    ),
    "HopSkipJump finds no start": (
        lambda e: ClassifierAttack(constant(), HopSkipJump, init_size=2),
        "2 of 2 images unchanged: .*no forgery came to class 1",
    ),
    "APGD of torchattacks gives up": (
        lambda e: TorchAttack(e, "APGD", eps=0.004, steps=2, threshold=0.5),
        "2 of 2 images unchanged: .*lower threshold=0.5",
    ),
    "APGD of ART gives up and returns noise": (
        lambda e: ClassifierAttack(
            e, AutoProjectedGradientDescent, eps=0.01, max_iter=2, nb_random_init=1, threshold=0.5
        ),
        "no further than uniform noise",
    ),
    "one of torchattacks that is none": (lambda e: TorchAttack(e, "VANILA"), "2 of 2 images unchanged"),
    "one of torchattacks that is noise": (lambda e: TorchAttack(e, "GN", std=0.005), "no further than uniform noise"),
    "zero gradient": (lambda e: ClassifierAttack(constant(), PGD, **STEPS), "unchanged: .*gradient is zero"),
    "zero gradient, random start": (
        lambda e: ClassifierAttack(constant(), PGD, num_random_init=1, **STEPS),
        "no further than uniform noise",
    ),
    "zero steps": (lambda e: ClassifierAttack(e, PGD, eps=0.025, max_iter=0), "2 of 2 images unchanged"),
    "epsilon of another range": (
        lambda e: ClassifierAttack(e, PGD, eps=0.025 / 255, eps_step=0.01 / 255, max_iter=2),
        "less than half an 8-bit level",
    ),
}


@pytest.mark.parametrize(("make", "message"), cases(NULL))
def test_an_attack_that_does_nothing_says_so(estimator, x, make, message):
    attack = make(estimator)
    attack.verbose = False
    with pytest.warns(NullAttackWarning, match=message):
        attack.generate(x)


def test_an_empty_mask_is_a_warning(estimator, x):
    attack = ClassifierAttack(estimator, PGD, verbose=False, **STEPS)
    with pytest.warns(NullAttackWarning, match="its mask or its gradient is zero"):
        attacked = attack.generate(x, mask=np.zeros((1, 1, 1, 1)))
    assert np.array_equal(attacked, x)


# --- errors


def dlr(estimator):
    return ClassifierAttack(
        estimator, AutoProjectedGradientDescent, eps=0.025, loss_type="difference_logits_ratio", verbose=False
    )


UNSUITABLE = {
    "needs three classes": (dlr, "AutoProjectedGradientDescent cannot be used: .* two classes"),
    "needs a video classifier": (
        lambda e: ClassifierAttack(e, OverTheAirFlickeringPyTorch, verbose=False),
        "OverTheAirFlickeringPyTorch cannot be used: .*",
    ),
    "returns a patch": (
        lambda e: ClassifierAttack(
            e, AdversarialPatchPyTorch, patch_shape=(3, 8, 8), max_iter=1, summary_writer=False, verbose=False
        ),
        "AdversarialPatchPyTorch cannot be used: ",
    ),
    "unknown parameter": (
        lambda e: ClassifierAttack(e, PGD, epsilon=0.1, verbose=False),
        "cannot be used: TypeError: .*'epsilon'",
    ),
    "wrong value": (
        lambda e: ClassifierAttack(e, PGD, eps=-0.1, verbose=False),
        "cannot be used: ValueError: .*nonnegative",
    ),
    "torchattacks with three classes": (
        lambda e: TorchAttack(e, "APGDT", eps=0.025, n_classes=10, verbose=False),
        "APGDT cannot be used: IndexError",
    ),
}


@needs_torchattacks
def test_an_attack_that_changes_a_picture_on_its_way_runs(estimator, x):
    """SI-NI-FGSM halves the picture again and again."""
    attacked = TorchAttack(estimator, "SINIFGSM", eps=0.025, verbose=False).generate(x)
    assert 0 < np.abs(attacked - x).max() <= 0.025 + 1e-6


@pytest.mark.parametrize(("make", "message"), cases(UNSUITABLE))
def test_an_unsuitable_attack_is_named_with_its_reason(estimator, x, make, message):
    with pytest.raises(IDGuardError, match=message):
        make(estimator).generate(x)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attack": "PGD"}, "has to be the class of an attack"),
        ({"attack": PyTorchClassifier}, "has to be the class of an attack"),
        ({"threshold": 0.0}, "`threshold` has to be a positive number"),
        ({"threshold": "high"}, "`threshold` has to be a positive number"),
        ({"verbose": 1}, "`verbose` has to be a bool"),
        ({"speed": 1}, "cannot be set"),
    ],
)
def test_wrong_parameters_are_named_one_by_one(estimator, change, message):
    attack = ClassifierAttack(estimator, PGD)
    with pytest.raises(ValueError, match=message):
        attack.set_params(**change)


def test_it_follows_arts_conventions(estimator):
    attack = ClassifierAttack(estimator, PGD, eps=0.1)
    assert repr(attack).startswith("ClassifierAttack(")
    assert "'eps': 0.1" in repr(attack)
    attack.set_params(threshold=0.02, params={"eps": 0.2})
    assert (attack.threshold, attack.params) == (0.02, {"eps": 0.2})
    assert not attack.is_estimator_valid(PyTorchClassifier, attack.estimator_requirements)  # raises EstimatorError


@pytest.mark.parametrize("make", cases(BOTH))
def test_progress_is_shown_when_asked_for_and_nothing_else(estimator, x, capsys, make):
    attack = make(estimator)
    attack.generate(x)
    shown = capsys.readouterr()
    assert attack.attack.__name__ in shown.err
    assert "2/2" in shown.err
    attack.verbose = False
    attack.generate(x)
    silent = capsys.readouterr()
    assert shown.out == silent.out == silent.err == ""


# --- torchattacks is an extra


@needs_torchattacks
def test_names_and_classes_are_the_same(estimator, x):
    import torchattacks

    by_name, by_class = (
        TorchAttack(estimator, attack, eps=0.02, verbose=False).generate(x) for attack in ("FGSM", torchattacks.FGSM)
    )
    assert np.array_equal(by_name, by_class)


@needs_torchattacks
@pytest.mark.parametrize("name", ["Beard", "attack", "__doc__"])
def test_an_unknown_attack_is_named(estimator, name):
    with pytest.raises(IDGuardError, match=f"no attack '{name}'; it has: .*PGD"):
        TorchAttack(estimator, name)


@needs_torchattacks
def test_a_name_can_be_set_later(estimator):
    attack = TorchAttack(estimator, "PGD")
    attack.set_params(attack="FGSM")
    assert attack.attack.__name__ == "FGSM"


@needs_torchattacks
def test_classes_of_others_are_refused(estimator):
    with pytest.raises(ValueError, match="has to be the class of an attack"):
        TorchAttack(estimator, PGD)


@pytest.mark.parametrize("attack", ["PGD", PGD])
def test_without_torchattacks_the_error_says_how_to_install_it(estimator, monkeypatch, attack):
    monkeypatch.setitem(sys.modules, "torchattacks", None)
    with pytest.raises(IDGuardError, match=r"pip install 'art-idguard\[torchattacks\]'"):
        TorchAttack(estimator, attack)


@pytest.mark.slow
@needs_torchattacks
def test_everything_imports_without_torchattacks_and_it_needs_no_torchvision_or_requests():
    script = """
import sys
sys.modules.update(torchvision=None, requests=None, torchattacks=None)
import art_idguard.attacks
del sys.modules["torchattacks"]
art_idguard.attacks.TorchAttack(art_idguard.PyTorchManipulator(lambda x: x, device_type="cpu"), "PGD")
"""
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr

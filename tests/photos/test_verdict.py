"""What `art-idguard protect` says of a photo: a grade that the criterion gives, and who was tried."""

import csv
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from art_idguard import manipulators
from art_idguard.distortions import After, parse
from art_idguard.errors import IDGuardError
from art_idguard.metrics import disrupted
from art_idguard.perturbation import Protector
from art_idguard.photos import batch, judging
from art_idguard.photos.config import ProtectConfig
from art_idguard.photos.effects import AS_IT_IS, OPERATIONS, Effect, distance, effects_left
from art_idguard.photos.manifest import NAME
from art_idguard.photos.verdict import Judged, least, verdict
from art_idguard.types import ATTRIBUTES
from tests.toys import ToyRecognizer, tiny_manipulators, write_portraits

NAN = float("nan")
CONFIG = ProtectConfig()


def judged(*effects, names=("A", "B", "C")):
    return [Judged(name, {AS_IT_IS: Effect(*effect)}) for name, effect in zip(names, effects, strict=False)]


@pytest.mark.parametrize(
    ("effects", "said"),
    [
        ([(0.01, 0.9)], "Weak: A still produces a recognisable you; try --until holds"),
        ([(0.5, 0.4)], "Weak: A still produces a recognisable you; try --until holds"),
        ([(0.5, NAN)], "Weak: A still produces a recognisable you; try --until holds"),
        ([(0.05, 0.39)], "Fair: A no longer produces a recognisable you, but what it makes is hardly damaged; try"),
        ([(NAN, 0.39)], "Fair: A no longer"),
        ([(0.06, 0.39)], "Strong: A no longer produces a recognisable you, and what it makes is damaged"),
        ([(0.01, 0.9), (0.01, 0.8)], "Weak: all 2 tools still produce a recognisable you; try --until holds; A: "),
        ([(0.01, 0.9), (0.06, 0.1), (0.01, 0.8)], "Weak: 2 of 3 tools still produce"),
        ([(0.06, 0.1), (0.06, 0.5), (0.06, 0.1)], "Weak: B still produces"),
        ([(0.06, 0.1), (0.01, 0.1)], "Fair: none of 2 tools produces a recognisable you, but"),
        ([(0.06, 0.1), (0.06, 0.1)], "Strong: none of 2 tools produces a recognisable you, and"),
    ],
)
def test_the_worst_of_all_gives_the_grade(effects, said):
    assert verdict(judged(*effects), CONFIG).startswith(said)


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ({}, "try --until holds"),
        ({"refine": 12}, "try --until holds"),
        ({"strength": 0.5}, "try --strength 1 --until holds"),
        ({"strength": 0.5, "refine": "auto"}, "try --strength 1"),
        ({"refine": "auto", "minutes": 5.0}, "try more --minutes"),
        ({"refine": "auto"}, "no setting is stronger: do not rely on it"),
    ],
)
def test_advice_is_what_is_stronger_than_what_was_done(options, advice):
    assert verdict(judged((0.01, 0.9)), ProtectConfig(**options)).endswith(f"; {advice}")


@pytest.mark.parametrize(
    ("similarities", "said"),
    [
        ((0.8, 0.7, 0.9), "A: still recognisable (0.90)"),
        ((0.1, 0.3, 0.2), "A: not recognisable (0.30)"),
        ((0.1, 0.3, 0.5), "A: not recognisable (0.10), but again after halving its size (0.50)"),
        ((0.1, NAN, 0.5), "A: not recognisable (0.10), but again after JPEG (nan)"),
    ],
)
def test_an_operation_is_named_where_it_changes_the_verdict(similarities, said):
    effects = dict(zip(OPERATIONS, (Effect(0.1, similarity) for similarity in similarities), strict=False))
    one = Judged("A", effects)
    assert str(one) == said
    assert verdict([one], CONFIG).endswith(f"; {said}")


numbers = st.floats(-1, 1) | st.just(NAN)


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=3))
def test_strong_is_what_the_paper_calls_disrupted_by_all(effects):
    said = verdict(judged(*effects), CONFIG)
    l2, similarity = torch.tensor(effects, dtype=torch.float64).T
    assert said.startswith("Strong: ") == disrupted(l2, similarity).all().item()
    assert said.startswith("Weak: ") == (not (similarity < 0.4).all())
    assert not re.search("epsilon|frame|P-Pert", said)


def test_what_is_left_is_of_the_worst_edit_and_of_lossy_faces():
    (manipulator,), recognizer = tiny_manipulators(("stargan",)), ToyRecognizer().eval()
    clean, protected = torch.rand(2, 1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    attributes = torch.tensor([[1.0, 0, 0, 1, 0]])

    def forged(model):
        """L2_face and similarity by edit."""
        forged = [[model(x, edit).output for x in (clean, protected)] for edit in model.edits(attributes)]
        return torch.cat([torch.stack(distance(*pair, recognizer)) for pair in forged], dim=1)

    with torch.no_grad():
        found = effects_left(clean, protected, manipulator, recognizer, attributes)
        by_edit = forged(manipulator)
        worst = by_edit[1].argmax()
        after = [forged(After(manipulator, parse(o)))[:, worst].tolist() for o in list(OPERATIONS.values())[1:]]
    assert by_edit.shape == (2, len(ATTRIBUTES))
    expected = [[by_edit[0].min().item(), by_edit[1].max().item()], *after]
    assert list(found) == list(OPERATIONS)
    for effect, pair in zip(found.values(), expected, strict=True):
        assert effect == pytest.approx(pair, abs=1e-5)
    assert least([Judged("A", found)]) == pytest.approx([min(x for x, _ in expected), max(x for _, x in expected)])


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A portrait, a protector and two small manipulators as if they shipped."""
    write_portraits(tmp_path / "in", 1, size=96)
    Protector(generator_config={"channels": 8, "norm": "instance"}, size=32).save_pretrained(tmp_path / "model")
    for model in tiny_manipulators(("stargan", "relgan")):
        model.save_pretrained(tmp_path / model.name)
    monkeypatch.setattr(manipulators, "shipped_manipulators", lambda: [tmp_path / "stargan", tmp_path / "relgan"])
    return tmp_path


@pytest.fixture
def protect(place, capsys):
    """Run the batch on the folder; gives how many failed, its output, and the bytes of the results and their record."""

    def run(*inputs, **options):
        failed = batch.protect_files(
            inputs or [str(place / "in")], model=str(place / "model"), output=place / "out", **options
        )
        there = [path.read_bytes() for name in ("000.protected.png", NAME) if (path := place / "out" / name).is_file()]
        return failed, capsys.readouterr(), there

    return run


@pytest.mark.slow
def test_a_result_is_verified_by_all_that_ship_also_later_and_stays(place, protect):
    table = place / "table.csv"
    before = protect(check=str(place / "stargan"))[2]
    failed, said, there = protect(verify=True, csv=table)
    assert (failed, there) == (0, before)
    found = re.search(r"StarGAN: (still|not) recognisable.*; RelGAN: (still|not) recognisable", said.out)
    assert found
    assert "skipped: " in said.out
    assert re.search(r"loading.*\n.*verifying.*0/2", said.err, re.S)
    assert "0 protected, 1 skipped, 0 failed" in said.err
    failed, said, there = protect(verify=True, csv=table, overwrite=True)
    assert "1 protected, 0 skipped, 0 failed" in said.err
    assert found[0] in said.out
    with table.open(newline="") as file:
        later, anew = csv.DictReader(file)
    assert later["verdict"] == anew["verdict"]
    assert re.match("(Weak|Fair|Strong): ", anew["verdict"])
    assert (later["error"][:9], anew["error"]) == ("skipped: ", "")
    assert protect(check=str(place / "stargan"))[1].out.count("skipped: ") == 1


def test_one_manipulator_verifies_where_it_is_named(place, protect):
    said = protect(verify=True, check=str(place / "relgan"))[1].out
    assert re.search(r": (Weak|Fair|Strong): RelGAN .*; RelGAN: ", said)
    assert "StarGAN" not in said


def test_without_a_face_there_is_no_verdict(place, protect):
    Image.new("RGB", (64, 64), "gray").save(place / "grey.png")
    for _ in range(2):
        failed, said, _ = protect(str(place / "grey.png"), verify=True, whole=True)
        assert failed == 0
        assert "as a whole, changed by at most" in said.out
        assert "there is no face to judge it by" in said.out


@pytest.mark.parametrize("asked", [{"verify": True}, {"until": "holds"}])
def test_verifying_with_nobody_is_refused(protect, asked):
    with pytest.raises(IDGuardError, match="check is none, which leaves nobody to verify with"):
        protect(check="none", **asked)


@pytest.mark.slow
@pytest.mark.parametrize("recognised", [False, True])
def test_refining_until_it_holds_ends_where_it_does_or_with_the_time(protect, monkeypatch, recognised):
    """Whoever judges; the line on the photo is of `--verify`."""
    asked = []

    def left(clean, protected, *_):
        asked.append((protected - clean).abs().max().item())
        similarity = 0.9 if recognised and len(asked) < 2 else 0.1  # at first
        return {AS_IT_IS: Effect(0.5, similarity)}

    monkeypatch.setattr(judging, "effects_left", left)
    failed, said, _ = protect(until="holds", minutes=60)
    assert failed == 0
    assert ": Strong: none of 2 tools" in said.out
    assert "StarGAN: not recognisable (0.10); RelGAN: not" in said.out
    assert len(asked) == recognised + 2 + 2  # the first that recognises ends a round
    assert all(0 < change <= 0.05 + 1e-6 for change in asked)


def test_refining_ends_with_the_time(protect, monkeypatch):
    """And then what is left is said, and what to try."""
    monkeypatch.setattr(judging, "effects_left", lambda *_: {AS_IT_IS: Effect(0.5, 0.9)})
    said = protect(until="holds", minutes=0)[1]
    assert ": Weak: all 2 tools still produce a recognisable you; try more --minutes; StarGAN: still" in said.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"until": "holds", "strength": 0.5}, "strength is 0.5; until holds needs all of it"),
        ({"minutes": 3}, "minutes end the refining, and there is none; give refine or until, too"),
        (
            {"refine_against": ("photo",)},
            "refine_against says whom refining knows, and nothing is refined; give refine",
        ),
    ],
)
def test_senseless_limits_of_refining_are_refused(options, message):
    with pytest.raises(IDGuardError, match=message):
        ProtectConfig.from_recipe(None, **options)

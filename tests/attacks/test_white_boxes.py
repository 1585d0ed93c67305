"""Table VII: white-box attacks on a manipulator and on its hardened version."""

import json
from functools import partial

import numpy as np
import pytest
import torch

from art_idguard import recognizers
from art_idguard.attacks import white_boxes
from art_idguard.attacks.robustness import white_box_table
from art_idguard.attacks.white_boxes import EPSILON, WHITE_BOXES
from art_idguard.baselines.carlini_wagner import carlini_wagner
from art_idguard.baselines.criterion import attack_criterion
from art_idguard.cli import main
from art_idguard.data.reading import read_faces
from art_idguard.errors import IDGuardError
from art_idguard.estimators.manipulator import PyTorchManipulator
from art_idguard.images import from_uint8, to_unit
from art_idguard.recognizers import SFace
from art_idguard.types import ATTRIBUTES
from tests import ROOT
from tests.toys import tiny_manipulators, write_portraits

SIZE = 64
ADAPTIVE = "Criterion (ours, adaptive, 100 steps)"
QUICK = ["Gaussian noise (sigma 0.05)", "FGSM (ART)", "PGD (ours)", "C&W (the paper's, bounded)"]


@pytest.fixture(autouse=True)
def _fewer_steps(monkeypatch):
    """Of the adaptive attack, whose title has the real number."""
    monkeypatch.setattr(white_boxes, "attack_criterion", partial(attack_criterion, steps=25))


@pytest.fixture(scope="module")
def x(tmp_path_factory):
    faces = read_faces(write_portraits(tmp_path_factory.mktemp("faces"), 6, SIZE), size=SIZE)
    return to_unit(from_uint8(faces.images)).numpy()


@pytest.fixture(scope="module")
def model():
    return tiny_manipulators(["stargan"])[0]


@pytest.fixture(scope="module")
def judge():
    return recognizers.default()


@pytest.mark.slow
def test_a_cell_is_what_a_direct_call_gives(x, model, judge):
    table = white_box_table({"original": model}, x, judge, attacks=QUICK, metadata={"data": "toy"})
    values = []
    for e, edit in enumerate(PyTorchManipulator(model).edit_names):
        estimator = PyTorchManipulator(model, edit=edit, input_shape=x.shape[1:])
        attacked = WHITE_BOXES["PGD (ours)"].run(estimator, x[e::5], judge)
        values += list(zip(range(e, len(x), 5), estimator.disruption(x[e::5], attacked, judge).l2_face, strict=True))
    expected = np.mean([v for _, v in sorted(values)])
    assert table.cell("original", "PGD (ours)", "l2_face").mean == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("attack", ["PGD (ART)", "PGD (torchattacks)"])
def test_random_starts_are_those_of_the_seed(attack, x, model, judge):
    tables = []
    for before in (1, 2):  # what the program drew before the table
        torch.manual_seed(before)
        np.random.seed(before)
        tables.append(white_box_table({"original": model}, x[:1], judge, attacks=[attack], metadata={}))
    assert tables[0].records[0]["l2_face"] == tables[1].records[0]["l2_face"]


@pytest.mark.slow
def test_all_attacks_but_noise_keep_the_ball_or_say_that_they_have_none(x, model, judge):
    table = white_box_table({"original": model}, x[:1], judge, metadata={"data": "toy"})
    for record in table.records:
        bounded = "unbounded" not in record["attack"] and "noise" not in record["attack"]
        assert record["notes"] or None not in record["l2_face"], record["attack"]
        if bounded and None not in record["linf"]:
            assert max(record["linf"]) <= EPSILON + 1e-5, record["attack"]
    unbounded = table.cell("original", "C&W (the paper's, unbounded)", "linf")
    assert unbounded.mean > 2 * EPSILON
    noise, pgd = (table.cell("original", a, "l2_face").mean for a in ("Gaussian noise (sigma 0.05)", "PGD (ours)"))
    assert pgd > 2 * noise > 0


@pytest.mark.slow
def test_the_adaptive_attack_reaches_the_identity_that_pgd_leaves(x, model, judge):
    attacks = ["PGD (ours)", ADAPTIVE]
    table = white_box_table({"original": model}, x[:2], judge, attacks=attacks, metadata={"data": "toy"})
    pgd, aimed = (table.cell("original", attack, "similarity").mean for attack in attacks)
    assert aimed < pgd - 0.1
    assert table.cell("original", ADAPTIVE, "linf").high <= EPSILON + 1e-5
    assert f"| {ADAPTIVE} |" in table.markdown()
    assert "the adaptive attack knows the judging recogniser" in table.markdown()


@pytest.mark.slow
def test_the_adaptive_attack_works_without_a_face(model, judge):
    grey = np.full((1, 3, SIZE, SIZE), 0.5, np.float32)
    estimator = PyTorchManipulator(model, input_shape=grey.shape[1:])
    attacked = WHITE_BOXES[ADAPTIVE].run(estimator, grey, judge)
    assert 0 < 2 * np.abs(attacked - grey).max() <= EPSILON + 1e-5


def test_a_brightness_shift_is_what_a_faithful_generator_passes_on(x, judge):
    """For M(x) = x its distance is known, epsilon ** 2; it is less where a shift meets white or black."""
    estimator = PyTorchManipulator(torch.nn.Identity(), input_shape=x.shape[1:])
    middle = (0.1 + 0.8 * x).astype(np.float32)
    attacked = WHITE_BOXES["Brightness (uniform shift)"].run(estimator, middle, judge)
    effect = estimator.disruption(middle, attacked)
    assert effect.l2_face == pytest.approx([EPSILON**2] * len(x), rel=1e-4)
    white = WHITE_BOXES["Brightness (uniform shift)"].run(estimator, np.ones_like(x), judge)
    assert white == pytest.approx(np.full_like(x, 1 - EPSILON / 2))  # up is no way


@pytest.mark.slow
def test_a_model_beside_itself_has_ratio_one_and_a_rerun_repeats_nothing(x, model, judge, tmp_path, monkeypatch):
    def run():
        return white_box_table(
            {"original": model, "hardened": model},
            x[:2],
            judge,
            attacks=QUICK,
            metadata={"data": "toy"},
            resume_file=tmp_path / "table.jsonl",
        )

    table = run()
    assert table.markdown().count("| 1.000 |") == len(QUICK)
    lines = (tmp_path / "table.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "table.jsonl").write_text("".join(lines[:-1]) + '{"cut')  # killed while writing the last
    calls = []
    monkeypatch.setattr(
        "art_idguard.attacks.robustness._measure", lambda *a: calls.append(a[2]) or json.loads(lines[-1])
    )
    assert run().json() == table.json()
    assert calls == [QUICK[-1]]


def test_what_could_not_be_attacked_is_tried_again_by_a_rerun(x, model, judge, tmp_path, monkeypatch):
    def missing(estimator, faces, recognizer):
        raise IDGuardError("torchattacks is not installed")

    def run():
        resumed = tmp_path / "table.jsonl"
        attacks = ["FGSM (torchattacks)", "FGSM (ART)"]
        return white_box_table({"original": model}, x[:1], judge, attacks=attacks, metadata={}, resume_file=resumed)

    with monkeypatch.context() as without:
        row = WHITE_BOXES["FGSM (torchattacks)"]
        without.setitem(WHITE_BOXES, "FGSM (torchattacks)", row._replace(run=missing))
        assert run().records[0]["notes"] == ["torchattacks is not installed"]
    first, second = run().records
    assert (first["attack"], second["attack"]) == ("FGSM (torchattacks)", "FGSM (ART)")
    assert first["l2_face"] == pytest.approx(second["l2_face"], rel=1e-4)


def test_carlini_wagner_unbounded_minimises_what_the_paper_writes():
    """For M(x) = x the optimum of ||z - x||^2 - c ||z - x|| is known: moving away pays once the image has left x."""
    x = torch.full((2, 3, 8, 8), 0.5)
    attacked = carlini_wagner(lambda z: (z - x).square().mean(dim=(1, 2, 3)), x, c=0.0, steps=60, restarts=1, lr=0.1)
    assert (attacked < torch.tanh(x) - 0.3).all()  # tanh(x) < x, so away is down
    held = carlini_wagner(lambda z: (z - x).square().mean(dim=(1, 2, 3)), x, c=10.0, steps=60, restarts=1, lr=0.01)
    assert (held - x).abs().max() < (torch.tanh(x) - x).abs().max()  # the norm weighs more: back towards x


def test_the_command_writes_table_json_and_picture(tmp_path, model, capsys):
    model.save_pretrained(tmp_path / "model")
    write_portraits(tmp_path / "faces", 2, SIZE)
    arguments = ["--data", f"toy={tmp_path / 'faces'}", "--output", str(tmp_path / "out"), "--size", str(SIZE)]
    command = ["attack-manipulator", str(tmp_path / "model"), *arguments, "--attacks", *QUICK[:2]]
    assert main(command) == 0
    shown, bar = capsys.readouterr()
    assert "attacking: 100%" in bar
    assert "FGSM (ART)" in shown
    assert "Quality of the edits: expected at least 4 faces, found 2" in shown
    assert {p.suffix for p in (tmp_path / "out").glob("toy.*")} == {".json", ".jsonl", ".md", ".png"}
    rows = json.loads((tmp_path / "out" / "toy.json").read_text())["rows"]
    assert [r["attack"] for r in rows] == QUICK[:2]
    assert "# White-box attacks on original, toy (test)\n\n- data: toy (test)\n- faces: 2\n" in shown
    assert (tmp_path / "out" / "report.html").read_text().count('src="data:image/png') == 2
    SFace(width=2).save_pretrained(tmp_path / "judge")
    assert main([*command, "--recognizer", str(tmp_path / "judge")]) == 1  # similarities would be another's
    assert "belongs to another evaluation: metadata changed" in capsys.readouterr().err
    assert main([*command[:1], str(tmp_path / "none"), *command[2:]]) == 1


@pytest.mark.slow
def test_the_quality_of_both_models_goes_with_the_table(tmp_path, model, capsys):
    model.save_pretrained(tmp_path / "model")
    write_portraits(tmp_path / "faces", 4, SIZE)
    rows = [["file", *ATTRIBUTES], *([f"{i:03d}.png", "1", "0", "0", "0", "1"] for i in range(4))]
    (tmp_path / "faces" / "test.csv").write_text("\n".join(map(",".join, rows)))
    words = ["attack-manipulator", str(tmp_path / "model"), "--data", f"toy={tmp_path / 'faces'}", "--size", str(SIZE)]
    words += ["--output", str(tmp_path / "out"), "--attacks", QUICK[0], "--quiet", "--hardened"]
    assert main([*words, str(tmp_path / "model")]) == 0
    shown, bar = capsys.readouterr()
    assert bar == ""
    assert "| original | Male |" in shown
    assert "| hardened | all edits |" in shown
    original, hardened = json.loads((tmp_path / "out" / "toy.json").read_text())["quality"]
    assert original["model"] == "original"
    assert original["all edits"] == hardened["all edits"]
    assert original["Male"]["kid"]["mean"] is not None
    tiny_manipulators(["relgan"])[0].save_pretrained(tmp_path / "other")
    assert main([*words, str(tmp_path / "other")]) == 1
    assert "no hardened version" in capsys.readouterr().err


def test_an_unknown_attack_is_named(x, model, judge):
    with pytest.raises(IDGuardError, match=r"unknown attacks: none.*PGD \(ART\)"):
        white_box_table({"original": model}, x, judge, attacks=["none"], metadata={"data": "toy"})


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(folder.name for folder in (ROOT / "hub" / "hardened").iterdir()))
def test_what_ships_as_hardened_stands_pgd_and_still_edits(name, tmp_path, judge):
    faces = read_faces(write_portraits(tmp_path, 1, 128), size=128)
    x = to_unit(from_uint8(faces.images)).numpy()
    reached, edited = [], []
    for kind in ("manipulators", "hardened"):
        estimator = PyTorchManipulator.from_pretrained(ROOT / "hub" / kind / name, input_shape=(3, 128, 128))
        forged = estimator.predict(x)
        attacked = WHITE_BOXES["PGD (ours)"].run(estimator, x, judge)
        reached.append(float(estimator.compute_loss(attacked, forged)[0]))
        edited.append(np.abs(forged - x).mean())
    assert reached[1] < 0.5 * reached[0]
    assert edited[1] > 0.7 * edited[0]

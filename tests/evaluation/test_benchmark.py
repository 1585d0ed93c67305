"""`art-idguard evaluate`: which rows its options add, and what the report says of them."""

import json
from importlib import import_module

import pytest
import torch

from art_idguard.baselines import generator
from art_idguard.baselines.registry import BASELINES
from art_idguard.cli import main
from art_idguard.data.reading import read_faces
from art_idguard.errors import IDGuardError
from art_idguard.evaluation import parts as evaluate_command
from art_idguard.evaluation.parts import ProtectorSpec
from art_idguard.evaluation.report import REFERENCES
from art_idguard.manipulators import load as load_manipulator
from art_idguard.metrics import l2_face
from art_idguard.perturbation import Protector
from art_idguard.recognizers import SFace
from art_idguard.regions import face_mask
from art_idguard.restorers import Restored, find
from tests.toys import tiny_manipulators, write_portraits

SIZE = 64


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Tiny models and faces on disk."""
    folder = tmp_path_factory.mktemp("place")
    write_portraits(folder / "faces", 2, SIZE)
    write_portraits(folder / "others", 6, SIZE)
    for name in ("000.png", "001.png"):  # which are those of faces
        (folder / "others" / name).unlink()
    for model in tiny_manipulators(("stargan", "relgan")):
        model.save_pretrained(folder / model.name)
    torch.manual_seed(0)
    for name in ("first", "second", "third"):
        SFace(width=8).save_pretrained(folder / name)
        protector(name).save_pretrained(folder / "protectors" / name)
    return folder


def protector(name, **options):
    torch.manual_seed(len(name))
    made = Protector(generator_config={"channels": 8, "norm": "instance"}, size=SIZE, **options)
    torch.nn.init.uniform_(made.prior, -0.03, 0.03)
    return made


@pytest.fixture
def evaluate(place, tmp_path):
    """Run the command on the toys; returns the report as JSON and as Markdown."""

    def run(*words, code=0, output=tmp_path / "report"):
        places = [] if "--manipulators" in words else ["--manipulators", place / "stargan"]
        places += ["--data", f"toy={place / 'faces'}", "--output", output]
        places += [] if "--protector" in words else ["--protector", place / "protectors" / "first"]
        assert main(["evaluate", *map(str, (*places, "--edits", "cycle", *words))]) == code
        if code:
            return None
        return json.loads((output / "toy.json").read_text()), (output / "toy.md").read_text()

    return run


@pytest.mark.slow
@pytest.mark.parametrize(("count", "known"), [(1, ["sface"]), (2, ["sface"]), (3, ["sface", "sface-2"])])
def test_the_criterions_reference_knows_all_recognisers_but_the_last_of_several(
    count, known, place, evaluate, monkeypatch
):
    made, seen = evaluate_command.criterion_white_box, []
    monkeypatch.setattr(
        evaluate_command, "criterion_white_box", lambda judges, **o: seen.append((judges, o)) or made(judges, **o)
    )
    judges = [place / name for name in ("first", "second", "third")[:count]]
    words = ["--reference-faces", "1", "--reference-steps", "3", "--reference-restarts", "2"]
    report, table = evaluate("--recognizers", *judges, *words)
    assert list(report["summary"])[-2:] == list(REFERENCES)
    assert report["metadata"]["references"] == {
        "steps": 3,
        "precision": "no",
        "restarts": 2,
        "recognizers": known,
    }
    ((attacked, options),) = seen
    assert (options["steps"], options["restarts"]) == (3, 2)
    states = [SFace.from_pretrained(judge).state_dict() for judge in judges[: len(known)]]
    for recognizer, state in zip(attacked, states, strict=True):
        assert all(torch.equal(value, state[key]) for key, value in recognizer.state_dict().items())
    unseen = f", not sface{f'-{count}' if count > 1 else ''}" if count > 1 else ""
    assert f"1 faces, 3 steps each; the criterion's knows {' and '.join(known)}{unseen}." in table


@pytest.mark.slow
def test_a_rerun_writes_the_same_page_with_all_plots_and_tables(evaluate, tmp_path):
    words = ["--operations", "none", "jpeg=75"]
    evaluate(*words)
    folder = tmp_path / "report"
    written = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".html", ".md", ".png")}
    assert set(written) == {"report.html", "toy.md", "toy.png", "toy-bars.png", "toy-jpeg.png"}
    page = written["report.html"].decode()
    assert page.count("data:image/png;base64,") == 3
    assert "<h1>Protections on toy (test)</h1>" in page
    evaluate(*words)
    assert {name: (folder / name).read_bytes() for name in written} == written


def test_a_damaged_training_log_is_told_before_anything_is_measured(place, evaluate, tmp_path, capsys):
    protector("logged").save_pretrained(tmp_path / "logged")
    (tmp_path / "logged" / "log.jsonl").write_text("nonsense\n")
    evaluate("--protector", tmp_path / "logged", code=1)
    assert "log.jsonl is no log of a training" in capsys.readouterr().err
    assert not (tmp_path / "report" / "toy.jsonl").exists()


def module(baseline):
    """Whose name may be that of a function in the package."""
    return import_module(f"art_idguard.baselines.{baseline}")


ALWAYS = ("Brightness +epsilon", "±epsilon noise")
"""Rows that stand beside every protector."""


@pytest.mark.slow
def test_protectors_stand_side_by_side_each_with_its_p_pert(place, evaluate):
    folder = place / "protectors"
    words = ["--protector", folder / "first", folder / "second", "--protector", f"S-I={folder / 'third'}"]
    report, _ = evaluate(*words, "--refine", "1")
    rows = ["ID-Guard", "P-Pert", "second", "P-Pert (second)", "S-I", "P-Pert (S-I)", "ID-Guard, refined"]
    assert list(report["summary"]) == [*rows, *ALWAYS]
    hashes = [evaluate_command.weights_sha256(str(folder / name)) for name in ("first", "second", "third")]
    assert [report["metadata"]["weights"][name] for name in ("ID-Guard", "second", "S-I")] == hashes
    alone, _ = evaluate("--protector", folder / "third", output=place / "alone")
    for ours, theirs in (("S-I", "ID-Guard"), ("P-Pert (S-I)", "P-Pert")):
        assert report["summary"][ours] == alone["summary"][theirs]


@pytest.mark.slow
def test_the_first_protector_may_have_a_name_and_the_refined_one_is_its(place, evaluate):
    folder = place / "protectors"
    report, _ = evaluate("--protector", f"S-II={folder / 'first'}", folder / "first", "--refine", "1")
    rows = ["S-II", "P-Pert (S-II)", "first", "P-Pert (first)", "S-II, refined"]
    assert list(report["summary"]) == [*rows, *ALWAYS]


@pytest.mark.slow
def test_each_number_of_steps_has_a_row_which_is_what_it_is_alone(place, evaluate):
    words = ["--protector", place / "protectors" / "first", "--refine"]
    report, _ = evaluate(*words, "1", "2", "auto")
    rows = [f"ID-Guard, refined {steps}" for steps in (1, 2, "auto")]
    assert list(report["summary"]) == ["ID-Guard", "P-Pert", *rows, *ALWAYS]
    alone, _ = evaluate(*words, "0", "2", output=place / "two")
    assert report["summary"][rows[1]] == alone["summary"]["ID-Guard, refined"]
    assert len({json.dumps(report["summary"][row]) for row in rows}) == 3


@pytest.mark.parametrize(
    ("spec", "parsed"), [("a/b", (None, "a/b")), ("S-I=a/b", ("S-I", "a/b")), ("user/name", (None, "user/name"))]
)
def test_a_protectors_specification(spec, parsed):
    assert ProtectorSpec.parse(spec) == parsed


def test_protectors_that_cannot_stand_together_are_named(place, evaluate, tmp_path, capsys):
    protector("wide", epsilon=0.1).save_pretrained(tmp_path / "wide")
    evaluate("--protector", place / "protectors" / "first", tmp_path / "wide", code=1)
    assert "different epsilons (ID-Guard 0.05, wide 0.1)" in capsys.readouterr().err
    for wrong in ("=a", "a=", ""):
        with pytest.raises(IDGuardError, match="expected FOLDER or NAME=FOLDER"):
            ProtectorSpec.parse(wrong)


@pytest.mark.slow
def test_baselines_without_names_are_all_with_their_budgets(place, evaluate, monkeypatch):
    monkeypatch.setattr(module("anti_forgery"), "STEPS", 2)
    monkeypatch.setattr(generator, "GENERATOR", {"channels": 8, "norm": "instance"})
    words = ["--baseline-faces", f"others={place / 'others'}", "--baseline-steps", "2", "--baselines"]
    report, table = evaluate(*words)
    each = [f"{name} (stargan)" for name in ("Disrupting", "PG", "Anti-Forgery")]
    rows = ["Uniform noise", each[0], "CMUA", each[1], "IAP", each[2]]
    assert list(report["summary"])[2:] == [*ALWAYS, *rows]
    assert all(f"| {row} |" in table for row in rows)
    about = report["metadata"]["baselines"]
    assert list(about) == list(BASELINES)
    assert (about["cmua"]["steps"], about["cmua"]["edits"], about["cmua"]["faces"]) == (10, "in turn", 4)
    assert about["pg"] == about["iap"]
    assert (about["iap"]["steps"], about["iap"]["faces"], about["anti-forgery"]["steps"]) == (2, 4, 2)
    moved = {row: report["summary"][row]["mean over manipulators"]["l2_face"]["mean"] for row in rows}
    assert len(set(moved.values())) == len(rows)
    assert max(report["summary"][row]["photo"]["max_delta"]["mean"] for row in rows) <= 0.05 + 1e-6


@pytest.mark.slow
def test_what_baselines_learnt_is_kept_and_belongs_to_its_setting(place, evaluate, tmp_path, monkeypatch):
    monkeypatch.setattr(generator, "GENERATOR", {"channels": 8, "norm": "instance"})
    trained, train, spread = [], generator.train_generator, module("cmua").cmua

    def counted(made, *given, title, **options):
        trained.append(title)
        return train(made, *given, title=title, **options)

    monkeypatch.setattr(generator, "train_generator", counted)
    monkeypatch.setattr(
        module("cmua"),
        "cmua",
        lambda *given, **options: trained.append(options["each_edit"]) or spread(*given, **options),
    )
    words = ["--manipulators", place / "stargan", place / "relgan", "--baseline-faces", f"others={place / 'others'}"]
    words += ["--baselines", "iap", "pg", "cmua", "--baseline-steps"]
    first, _ = evaluate(*words, 2)
    pg, iap = ["training pg-stargan", "training pg-relgan"], ["training iap"]
    assert trained == [False, *pg, *iap]
    made = sorted((tmp_path / "report" / "baselines").iterdir())
    assert len(made) == 3
    assert all((folder / "model.safetensors").is_file() for folder in made)
    (tmp_path / "report" / "toy.jsonl").unlink()
    again, _ = evaluate(*words, 2)
    assert again["summary"] == first["summary"]
    assert len(trained) == 4
    (made[0] / "config.json").unlink()  # killed while it was written
    (tmp_path / "report" / "toy.jsonl").unlink()
    again, _ = evaluate(*words, 2)
    assert again["summary"] == first["summary"]
    assert trained[4:] == iap
    (tmp_path / "report" / "toy.jsonl").unlink()
    evaluate(*words, 1, "--cmua-edits", "each")
    assert trained[5:] == [True, *pg, *iap]
    assert "each" in (tmp_path / "report" / "toy.json").read_text()


def test_no_faces_are_read_for_baselines_that_learn_nothing(place, evaluate):
    report, _ = evaluate("--baselines", "noise", "disrupting", "--baseline-faces", "others=absent")
    assert list(report["summary"])[2:] == [*ALWAYS, "Uniform noise", "Disrupting (stargan)"]
    assert report["metadata"]["baselines"] == {"noise": {}, "disrupting": {}}


def test_baselines_may_know_others_than_are_measured_or_one_of_them(place, evaluate, monkeypatch):
    known, seen = [place / "stargan", place / "relgan"], []
    disrupting = module("disrupting").disrupting
    monkeypatch.setattr(module("disrupting"), "disrupting", lambda m, **of: seen.append(m.name) or disrupting(m, **of))
    words = ["--manipulators", place / "stargan", "--baseline-manipulators", *known, "--baselines"]
    report, _ = evaluate(*words, "disrupting=relgan")
    assert seen == ["relgan"]
    assert list(report["summary"])[-1] == "Disrupting (relgan)"
    assert list(report["metadata"]["baselines know"]) == ["stargan", "relgan"]
    assert report["metadata"]["baselines"] == {"disrupting=relgan": {}}


def test_a_baseline_that_is_to_know_nobody_there_is_refused(evaluate, capsys):
    evaluate("--baselines", "disrupting=hisd", code=1)
    assert "is to know 'hisd', which is none of its manipulators: stargan" in capsys.readouterr().err


def test_a_protector_with_the_name_of_a_baseline_is_refused(place, evaluate, capsys):
    evaluate("--protector", f"Uniform noise={place / 'protectors' / 'first'}", "--baselines", "noise", code=1)
    assert "the name of a baseline's row, Uniform noise" in capsys.readouterr().err


def test_an_unknown_baseline_is_named(evaluate, capsys):
    evaluate("--baselines", "noise", "magic", code=1)
    assert (
        "unknown baselines: magic; choose from: noise, disrupting, cmua, pg, iap, anti-forgery"
        in capsys.readouterr().err
    )


@pytest.mark.slow
def test_a_restorers_columns_are_compared_with_the_forgery_as_it_is(place, evaluate):
    report, _ = evaluate("--restorers", "telea", "navier-stokes")
    columns = {name for name in report["summary"]["ID-Guard"] if "," in name}
    assert columns == {"stargan, telea", "stargan, navier-stokes"}
    guard, stargan = Protector.from_pretrained(place / "protectors" / "first"), load_manipulator(place / "stargan")
    faces = read_faces(place / "faces", size=SIZE)
    by_hand = []
    for i in range(len(faces)):
        batch = faces.batch(slice(i, i + 1))
        edit = stargan.edits(batch.attributes)[i % 5]
        clean = stargan(batch.images, edit).output
        restored = Restored(stargan, find("telea"))(guard(batch.images).specific, edit).output
        by_hand.append(l2_face(clean, restored, face_mask(batch.landmarks, (SIZE, SIZE))).item())
    found = report["summary"]["ID-Guard"]["stargan, telea"]["l2_face"]["mean"]
    assert found == pytest.approx(sum(by_hand) / len(by_hand), abs=1e-5)

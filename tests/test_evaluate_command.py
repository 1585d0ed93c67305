"""`art-idguard evaluate`: which rows its options add, and what the report says of them."""

import json

import pytest
import torch

from art_idguard import evaluate_command
from art_idguard.cli import main
from art_idguard.errors import IDGuardError
from art_idguard.evaluate_command import ProtectorSpec
from art_idguard.perturbation import Protector
from art_idguard.recognizers import SFace
from art_idguard.report import REFERENCES
from tests.toys import tiny_manipulators, write_portraits

SIZE = 64


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Tiny models and faces on disk."""
    folder = tmp_path_factory.mktemp("place")
    write_portraits(folder / "faces", 2, SIZE)
    write_portraits(folder / "others", 4, SIZE)
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
        places = ["--manipulators", place / "stargan", "--data", f"toy={place / 'faces'}", "--output", output]
        places += [] if "--protector" in words else ["--protector", place / "protectors" / "first"]
        assert main(["evaluate", *map(str, (*places, "--edits", "cycle", *words))]) == code
        if code:
            return None
        return json.loads((output / "toy.json").read_text()), (output / "toy.md").read_text()

    return run


@pytest.mark.parametrize(("count", "known"), [(1, ["sface"]), (2, ["sface"]), (3, ["sface", "sface-2"])])
def test_the_criterions_reference_knows_all_recognisers_but_the_last_of_several(
    count, known, place, evaluate, monkeypatch
):
    made, seen = evaluate_command.criterion_white_box, []
    monkeypatch.setattr(
        evaluate_command, "criterion_white_box", lambda judges, **o: seen.append((judges, o)) or made(judges, **o)
    )
    judges = [place / name for name in ("first", "second", "third")[:count]]
    report, table = evaluate("--recognizers", *judges, "--reference-faces", "1", "--reference-steps", "3")
    assert list(report["summary"])[-2:] == list(REFERENCES)
    assert report["metadata"]["references"] == {"steps": 3, "recognizers": known}
    ((attacked, options),) = seen
    assert options["steps"] == 3
    states = [SFace.from_pretrained(judge).state_dict() for judge in judges[: len(known)]]
    for recognizer, state in zip(attacked, states, strict=True):
        assert all(torch.equal(value, state[key]) for key, value in recognizer.state_dict().items())
    unseen = f", not sface{f'-{count}' if count > 1 else ''}" if count > 1 else ""
    assert f"1 faces, 3 steps each; the criterion's knows {' and '.join(known)}{unseen}." in table


def test_protectors_stand_side_by_side_each_with_its_p_pert(place, evaluate):
    folder = place / "protectors"
    words = ["--protector", folder / "first", folder / "second", "--protector", f"S-I={folder / 'third'}"]
    report, _ = evaluate(*words, "--refine", "1")
    rows = ["ID-Guard", "P-Pert", "second", "P-Pert (second)", "S-I", "P-Pert (S-I)", "ID-Guard, refined"]
    assert list(report["summary"]) == rows
    hashes = [evaluate_command.weights_sha256(str(folder / name)) for name in ("first", "second", "third")]
    assert [report["metadata"]["weights"][name] for name in ("ID-Guard", "second", "S-I")] == hashes
    alone, _ = evaluate("--protector", folder / "third", output=place / "alone")
    for ours, theirs in (("S-I", "ID-Guard"), ("P-Pert (S-I)", "P-Pert")):
        assert report["summary"][ours] == alone["summary"][theirs]


def test_the_first_protector_may_have_a_name_and_the_refined_one_is_its(place, evaluate):
    folder = place / "protectors"
    report, _ = evaluate("--protector", f"S-II={folder / 'first'}", folder / "first", "--refine", "1")
    assert list(report["summary"]) == ["S-II", "P-Pert (S-II)", "first", "P-Pert (first)", "S-II, refined"]


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

"""`art-idguard evaluate`: which rows its options add, and what the report says of them."""

import json

import pytest
import torch

from art_idguard import evaluate_command
from art_idguard.cli import main
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

    def run(*words, code=0):
        output = tmp_path / "report"
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

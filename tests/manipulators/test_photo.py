"""The photo itself as a member of the family: no weights, no forgery."""

import json

import torch

from art_idguard import manipulators
from art_idguard.cli import main
from art_idguard.training.protector import train_protector
from tests.toys import tiny, write_portraits
from tests.training.trainings import protector_config


def test_nothing_is_forged():
    photo, face = manipulators.load("photo"), torch.rand(2, 3, 32, 32) * 2 - 1
    (edit,) = photo.edits(torch.zeros(2, 5))
    found = photo(face, edit)
    assert torch.equal(found.output, face)
    assert found.features.shape == (2, 0, 32, 32)
    assert not list(photo.parameters())


def test_a_protector_learns_from_photos_and_forgeries(workplace, tmp_path):
    targets = ("photo", str(workplace / "stargan"))
    train_protector(protector_config(workplace, tmp_path, manipulators=targets, alpha=(1.0, 1.0)), verbose=False)
    record = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert list(record["weights"]) == ["photo", "stargan"]
    assert all(record["kpi"][name] > 0 for name in record["kpi"])


def test_similarity_of_the_photo_itself_is_measured_like_that_of_forgeries(workplace, tmp_path):
    faces, judge = write_portraits(tmp_path / "faces", 2), tmp_path / "judge"
    tiny("sface").save_pretrained(judge)
    tiny("protector").save_pretrained(tmp_path / "protector")
    words = ["--protector", tmp_path / "protector", "--manipulators", "photo", workplace / "stargan", "--size", 32]
    words += ["--recognizers", judge, "--data", f"toy={faces}", "--output", tmp_path / "report", "--quiet"]
    assert main(["evaluate", *map(str, words)]) == 0
    found = json.loads((tmp_path / "report" / "toy.json").read_text())
    assert found["metadata"]["manipulators"] == ["photo", "stargan"]
    assert found["metadata"]["weights"]["photo"] is None
    cell = found["summary"]["ID-Guard"]["photo"]
    assert 0 < cell["l2_face"]["mean"] <= 0.03**2 + 1e-6

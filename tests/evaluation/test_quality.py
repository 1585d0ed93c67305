"""The quality of manipulators, and the classifier that judges their edits."""

import json
import math
import re

import pytest
import torch
from PIL import Image

from art_idguard import attribute_classifier as attributes
from art_idguard import recognizers
from art_idguard.attribute_classifier import LABELS, AttributeClassifier, predictions
from art_idguard.cli import main
from art_idguard.data.reading import faces_of, read_faces, read_labelled
from art_idguard.errors import IDGuardError
from art_idguard.evaluation.kid import kernel_distance, kid_estimate
from art_idguard.evaluation.quality import MEASURES, measure_quality
from art_idguard.faces.alignment import arcface_frame
from art_idguard.files.grid import CAPTION, GAP
from art_idguard.hub import cards
from art_idguard.images import from_uint8
from art_idguard.manipulators import MANIPULATORS
from art_idguard.manipulators.base import Manipulator
from art_idguard.metrics import identity_similarity
from art_idguard.types import ATTRIBUTES, Edit, Manipulation
from tests.toys import PORTRAIT, TINY, tiny_manipulators, write_portraits

SIZE = 64
TINY_HISD = {"widths": (8, 16, 32), "style_widths": (8, 8, 16, 16, 16), "style": 16, "translator_width": 16}


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    images = read_faces(write_portraits(tmp_path_factory.mktemp("faces"), 6, SIZE), size=SIZE).images
    labels = torch.tensor([[1.0, 0, 0, 0, 1], [0, 1, 0, 1, 0], [0, 0, 1, 0, 1], [1, 0, 0, 1, 1]] * 2)[: len(images)]
    return faces_of(images, labels)


@pytest.fixture(scope="module")
def judge():
    return recognizers.default()


class Painter(Manipulator):
    """Knows its edits perfectly: paints the first pixel by the edit, and its way back removes the paint."""

    name = "painter"

    def edits(self, attributes):
        return tuple(Edit(name, torch.full((len(attributes), 1), float(i))) for i, name in enumerate(ATTRIBUTES))

    def forward(self, x, edit):
        output = x.clone()
        output[:, :, 0, 0] = edit.condition / 10
        return Manipulation(output, x)

    def inverse_edit(self, edit, x, attributes):
        return Edit("back", 10 * x[:, :1, 0, 0])


class Reader(AttributeClassifier):
    """Reads the paint: the attribute that was asked for is there, the others are not; photos show nothing."""

    def forward(self, x):
        logits = -torch.ones(len(x), len(LABELS))
        for row, value in zip(logits, x[:, 0, 0, 0] * 10, strict=True):
            i = round(value.item())
            if abs(value - i) < 1e-4 and 0 <= i < len(ATTRIBUTES):
                row[LABELS.index(ATTRIBUTES[i])] = 1
        return logits


@pytest.mark.slow
def test_perfect_edits_succeed_where_something_is_to_change(faces, judge):
    quality = measure_quality(Painter(), faces, Reader(channels=4), judge, batch_size=4)
    for e, edit in enumerate(ATTRIBUTES):
        labels = faces.attributes[:, e]
        concerned = torch.ones_like(labels).bool() if edit in ("Male", "Young") else labels == 0
        values = quality.values["success"][:, e]
        assert torch.equal(values.isfinite(), concerned)
        expected = 1 - labels if edit in ("Male", "Young") else torch.ones_like(labels)
        assert torch.equal(values[concerned], (expected[concerned] == 1).float())  # paint shows 1, never 0
    size = torch.stack([(f.output - from_uint8(faces.images)).abs().mean((1, 2, 3)) for f in _forged(faces)], 1)
    torch.testing.assert_close(quality.values["size"], size)
    frame = arcface_frame(faces.landmarks, (SIZE, SIZE))
    photos, forged = from_uint8(faces.images), _forged(faces)[1].output
    torch.testing.assert_close(
        quality.values["similarity"][:, 1], identity_similarity(judge(photos, frame), judge(forged, frame))
    )


def _forged(faces):
    photos = from_uint8(faces.images)
    return [Painter()(photos, edit) for edit in Painter().edits(faces.attributes)]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, kind in MANIPULATORS.items() if kind.published is None])
def test_every_manipulator_is_measured_and_knows_a_way_back(name, faces, judge):
    torch.manual_seed(0)
    model = MANIPULATORS[name](**(TINY_HISD if name == "hisd" else TINY)).eval().requires_grad_(False)
    quality = measure_quality(model, faces, AttributeClassifier(channels=4).eval(), judge, batch_size=4)
    assert set(quality.values) == set(MEASURES)
    assert len(quality.edits) == 5
    assert all(quality.values[m].isfinite().all() for m in ("similarity", "size", "cycle"))
    x, labels = from_uint8(faces.images), faces.attributes
    edit = model.edits(labels)[1]
    output = model(x, edit).output
    cycled = model(output, model.inverse_edit(edit, x, labels)).output
    torch.testing.assert_close(quality.values["cycle"][:, 1], (cycled - x).abs().mean((1, 2, 3)), rtol=1e-4, atol=1e-5)
    assert json.loads(json.dumps(quality.summary(), allow_nan=False))["all edits"]["size"]["mean"] > 0
    assert quality.markdown().count("\n| ") == 8


def test_relgans_way_back_is_the_opposite_edit(faces):
    (relgan,) = tiny_manipulators(["relgan"])
    edit = relgan.edits(faces.attributes)[0]
    assert torch.equal(relgan.inverse_edit(edit, from_uint8(faces.images), faces.attributes).condition, -edit.condition)


def test_kernel_distance_is_the_unbiased_squared_mmd():
    random = torch.Generator().manual_seed(0)
    a, b = torch.randn(7, 5, generator=random), torch.randn(9, 5, generator=random) + 0.5

    def k(x, y):  # the definition, pair by pair
        return (float(x @ y / x.norm() / y.norm()) + 1) ** 3

    aa = sum(k(x, y) for i, x in enumerate(a) for j, y in enumerate(a) if i != j) / (7 * 6)
    bb = sum(k(x, y) for i, x in enumerate(b) for j, y in enumerate(b) if i != j) / (9 * 8)
    ab = sum(k(x, y) for x in a for y in b) / 63
    assert kernel_distance(a, b) == pytest.approx(aa + bb - 2 * ab, abs=1e-5)
    same = [kernel_distance(*torch.randn(2, 50, 5, generator=random)) for _ in range(40)]
    assert abs(sum(same) / 40) < 3 * torch.tensor(same).std() / math.sqrt(40)  # unbiased: zero on the mean


@pytest.mark.slow
def test_kids_interval_is_as_wide_as_independent_samples_scatter():
    random = torch.Generator().manual_seed(0)
    found = [
        kid_estimate(torch.randn(60, 8, generator=random), torch.randn(60, 8, generator=random) + 0.4)
        for _ in range(60)
    ]
    scatter = torch.tensor([e.mean for e in found]).std().item()
    margin = sum(e.high - e.low for e in found) / len(found) / 2
    assert margin == pytest.approx(1.96 * scatter, rel=0.3)
    assert kid_estimate(torch.randn(3, 8), torch.randn(3, 8)).low is math.nan


def test_of_the_hair_colours_only_the_most_likely_one_is_seen():
    logits = torch.tensor([[2.0, 3, 1, -1, 1, -1, 1, -1], [-3, -2, -1, -4, -1, 1, -1, 1]])
    assert predictions(logits).tolist() == [[0, 1, 0, 0, 1, 0, 1, 0], [0, 0, 1, 0, 0, 1, 0, 1]]


def test_the_shipped_classifier_reports_what_it_was_measured_at():
    classifier = attributes.default()
    assert classifier(torch.zeros(2, 3, 128, 128)).shape == (2, len(LABELS))
    folder = attributes.shipped("classifiers/attributes-celeba128")
    report = json.loads((folder / "quality.json").read_text())
    assert report["metadata"]["weights"] == json.loads((folder / "config.json").read_text())["sha256"]
    for name, found in report["summary"].items():
        accuracy = found["accuracy"]
        assert accuracy["low"] <= accuracy["mean"] <= accuracy["high"]
        assert accuracy["mean"] > found["majority"], name


def test_the_shipped_classifier_on_real_faces(shared):
    images, labels = read_labelled(shared / "data" / "celeba128", attributes=LABELS, size=128, split="test", limit=200)
    right = ((attributes.default()(from_uint8(images)) > 0) == labels.bool()).float().mean(0)
    assert right[LABELS.index("Male")] > 0.9
    assert right[LABELS.index("Eyeglasses")] > 0.95


@pytest.mark.slow
def test_the_command_writes_beside_each_model(tmp_path, capsys):
    (model,) = tiny_manipulators(["stargan"])
    model.save_pretrained(tmp_path / "mine")
    again = tmp_path / "lr=1" / "mine"  # no name=file: it is a folder
    model.save_pretrained(again)
    write_portraits(tmp_path / "faces", 4, SIZE)
    rows = [["file", *ATTRIBUTES], *([f"{i:03d}.png", "1", "0", "0", "0", "1"] for i in range(4))]
    (tmp_path / "faces" / "test.csv").write_text("\n".join(map(",".join, rows)))
    arguments = ["--data", f"toy={tmp_path / 'faces'}", "--output", str(tmp_path / "out"), "--size", str(SIZE)]
    arguments += ["--portrait", str(PORTRAIT), "--quiet"]
    assert main(["evaluate-manipulator", str(tmp_path / "mine"), str(again), *arguments]) == 0
    shown, bar = capsys.readouterr()
    assert "all edits" in shown
    assert bar == ""
    report = json.loads((tmp_path / "out" / "mine" / "quality.json").read_text())
    assert report["metadata"]["n"] == 4
    assert report["summary"]["Black_Hair"]["success"]["mean"] is None, "all have black hair already"
    assert report["summary"]["Male"]["success"]["mean"] is not None
    text = (tmp_path / "out" / "mine" / "quality.md").read_text()
    assert text.startswith("# Edits of mine\n")
    page = (tmp_path / "out" / "report.html").read_text()
    assert re.findall("<h1>(.*)</h1>", page) == ["Edits of mine", "Edits of mine-2"]
    assert page.count('src="data:image/png') == page.count('src="data:image/jpeg') == 2
    with Image.open(tmp_path / "out" / "mine" / "edits.jpg") as picture:  # photo and five edits; the same under PGD
        assert picture.size == (6 * (SIZE + GAP) - GAP, 2 * (SIZE + CAPTION + GAP) - GAP)
    assert "(edits.jpg)" in str(cards.generate(tmp_path / "out" / "mine"))
    assert json.loads((tmp_path / "out" / "mine-2" / "quality.json").read_text()) == report
    assert main(["evaluate-manipulator", str(tmp_path / "none"), *arguments]) == 1


def test_what_cannot_be_measured_is_named(faces, judge):
    with pytest.raises(IDGuardError, match="at least 4"):
        measure_quality(Painter(), faces.select([0, 1]), Reader(channels=4), judge)
    with pytest.raises(IDGuardError, match="no labels"):
        measure_quality(Painter(), faces_of(faces.images), Reader(channels=4), judge)

    class Other(Painter):
        def edits(self, attributes):
            return (Edit("Smiling", attributes[:, :1]),)

    with pytest.raises(IDGuardError, match="does not know Smiling"):
        measure_quality(Other(), faces, Reader(channels=4), judge)

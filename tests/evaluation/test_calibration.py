from dataclasses import replace
from itertools import combinations

import pytest
import torch

from art_idguard.data.faces import Faces
from art_idguard.data.reading import read_faces
from art_idguard.errors import IDGuardError
from art_idguard.evaluation import calibration
from art_idguard.evaluation.calibration import impostor_pairs, impostor_similarities, people, threshold, thresholds
from art_idguard.faces.alignment import arcface_frame
from art_idguard.metrics import identity_similarity
from art_idguard.recognizers import default
from art_idguard.recognizers.base import Recognizer

POINTS = torch.tensor([[10.0, 12.0], [21.0, 12.0], [16.0, 18.0], [11.0, 23.0], [20.0, 23.0]])


class Eye(Recognizer):
    """Mean colours of a coarse grid; counts the faces it sees."""

    name = "eye"
    size = 16

    def __init__(self):
        super().__init__()
        self.seen = 0

    def backbone(self, faces):
        self.seen += len(faces)
        return torch.nn.functional.adaptive_avg_pool2d(faces, 4)

    def head(self, features):
        return features.flatten(1)


@pytest.fixture
def faces():
    """Two of Ada, one of each other."""
    names = ("Ada_Lovelace_0001.jpg", "Ada_Lovelace_0002.jpg", "B_1.jpg", "C_1.jpg", "D_1.jpg", "E_1.jpg")
    images = torch.randint(0, 255, (6, 3, 32, 32), dtype=torch.uint8)
    return Faces(names, images, torch.zeros(6, 5), POINTS + torch.arange(6.0)[:, None, None] / 3)


@pytest.fixture
def few(monkeypatch):
    """Rates that six faces can estimate."""
    monkeypatch.setattr(calibration, "FALSE_ACCEPTS", {"1%": 2, "0.1%": 7})
    monkeypatch.setattr(calibration, "FEWEST", 1)


@pytest.mark.parametrize("name", ["000001.jpg", "Ada_Lovelace.jpg", "_0001.jpg", "Ada_0001_left.jpg"])
def test_a_file_that_does_not_say_who_it_is_is_named(name):
    with pytest.raises(IDGuardError, match=rf"{name} does not say who it is; expected .* Ada_Lovelace_0001.jpg"):
        people(["Grace_Hopper_0001.jpg", name])


def test_impostors_are_all_pairs_of_different_people(faces):
    eye = Eye()
    batch = faces.batch(slice(None))
    embeddings = eye(batch.images, arcface_frame(batch.landmarks, (32, 32)))
    expected = [
        identity_similarity(embeddings[i : i + 1], embeddings[j : j + 1]).item()
        for i, j in combinations(range(6), 2)
        if (i, j) != (0, 1)
    ]
    found = impostor_similarities(eye, faces, batch_size=4)
    assert found.tolist() == pytest.approx(expected, abs=1e-5)
    assert len(found) == impostor_pairs(faces.names) == 14


@pytest.mark.parametrize("n", [3000, 3099, 5200])
def test_at_the_threshold_as_many_pass_as_may_and_below_it_more(n):
    similarities = 2 * torch.rand(n) - 1
    limit = threshold(similarities, 100)
    assert (similarities >= limit).sum() == n // 100
    lower = torch.nextafter(torch.tensor(limit), torch.tensor(-2.0))
    assert (similarities >= lower).sum() == n // 100 + 1


def test_equal_similarities_are_refused_together():
    similarities = torch.linspace(-1, 1, 4000).mul(10).round() / 10  # steps of 0.1: 100 pairs at 1, 200 at 0.9
    assert (similarities >= threshold(similarities, 100)).sum() == 0
    assert (similarities >= threshold(similarities, 30)).sum() == 100


@pytest.mark.parametrize(("one_in", "people"), [(100, 78), (1000, 246)])
def test_too_few_pairs_for_a_rate_are_an_error_that_says_how_many_it_takes(one_in, people):
    needed = 30 * one_in
    assert people * (people - 1) // 2 >= needed > (people - 1) * (people - 2) // 2
    threshold(torch.rand(needed), one_in)
    with pytest.raises(IDGuardError, match=rf"1 in {one_in}; expected {needed} or more, such as {people} people"):
        threshold(torch.rand(needed - 1), one_in)


def test_thresholds_are_kept_for_the_same_faces_people_and_weights(faces, few, tmp_path):
    eye, kept = Eye(), tmp_path / "calibration.safetensors"

    def calibrated(faces=faces, weights="a"):
        eye.seen = 0
        return thresholds({"eye": eye}, faces, weights={"eye": weights}, kept=kept)["eye"]

    first = calibrated()
    assert eye.seen == 6
    impostors = impostor_similarities(eye, faces)
    assert first == {"1%": threshold(impostors, 2), "0.1%": threshold(impostors, 7)}
    assert first["1%"] < first["0.1%"]
    assert calibrated() == first
    assert eye.seen == 0
    calibrated(weights="b")
    assert eye.seen == 6
    calibrated(replace(faces, names=("A_1", "B_1", "C_1", "D_1", "E_1", "F_1")))
    assert eye.seen == 6
    calibrated(replace(faces, images=faces.images.flip(3)))
    assert eye.seen == 6


@pytest.mark.slow
def test_the_recogniser_that_ships_knows_people_of_lfw(shared, monkeypatch):
    monkeypatch.setattr(calibration, "FALSE_ACCEPTS", {"1%": 100})
    faces = read_faces(shared / "data" / "lfw-sample.tar", size=128, limit=80, framing="align")
    limit = thresholds({"sface": default()}, faces, weights={"sface": None})["sface"]["1%"]
    assert 0.1 < limit < 0.5
    batch, who = faces.batch(slice(None)), people(faces.names)
    embeddings = default()(batch.images, arcface_frame(batch.landmarks, (128, 128)))
    same = torch.tensor([i for i in range(len(who) - 1) if who[i] == who[i + 1]])
    genuine = identity_similarity(embeddings[same], embeddings[same + 1])
    assert (genuine >= limit).double().mean() > 0.9

"""A narrow protector learns to do what a wide one does; what holds for every training is in test_contract.py."""

import json

import numpy as np
import pytest
import torch

from art_idguard.errors import IDGuardError
from art_idguard.images import from_uint8
from art_idguard.perturbation import Protector
from art_idguard.training.protector.config import DistillationConfig
from art_idguard.training.protector.distillation import build_run, distance, distill, narrow
from tests.training.trainings import distillation_config

VISIBILITY = {"lowpass": 5, "chroma": 0.25, "fade": 3}


def test_the_student_has_the_teachers_bound_visibility_and_p_pert():
    teacher = Protector(generator="unet", bound="residual", epsilon=0.1, size=64, **VISIBILITY)
    teacher.prior.data.uniform_(-0.1, 0.1)
    student = narrow(teacher, channels=4)
    x = torch.rand(2, 3, 64, 64) * 2 - 1
    torch.testing.assert_close(student.universal(x), teacher.universal(x), rtol=0, atol=0)
    assert (student.epsilon, student.bound, student.visibility) == (0.1, "residual", teacher.visibility)
    assert {p.shape[0] for p in student.generator.parameters() if p.dim() == 4} == {3, 4, 8, 16}


def test_the_distance_is_the_mean_square_in_units_of_epsilon():
    teacher, student = (Protector(epsilon=0.1, size=32, generator_config={"channels": 4}).eval() for _ in range(2))
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        one, other = (protector(x).specific.numpy().astype(np.float64) for protector in (student, teacher))
        found = distance(student, teacher, x).item()
    assert found == pytest.approx(np.mean(((one - other) / 0.1) ** 2), rel=1e-5)


@pytest.mark.slow
def test_the_saved_student_does_what_the_teacher_does(labelled, tmp_path):
    settings = distillation_config(labelled, tmp_path, channels=8, steps=150, checkpoint_every=150, ema=0.9)
    teacher = Protector.from_pretrained(settings.teacher)
    images = from_uint8(build_run(distillation_config(labelled, tmp_path / "look")).images)
    before = (teacher(images).specific - images).square().mean().item() / teacher.epsilon**2
    student = Protector.from_pretrained(distill(settings, verbose=False))
    assert distance(student, teacher, images).item() < before / 2
    losses = [json.loads(line)["loss"]["student"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert np.mean(losses[-10:]) < np.mean(losses[:10]) / 4


def test_the_shipped_recipe_is_valid():
    assert DistillationConfig.from_recipe("student").teacher == "protector-wide"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 99}, "10 faces do not fill a batch of 99"),
        ({"size": 30}, "size is 30; expected a multiple of 4"),
        ({"ema": 1.0}, "ema is 1.0; expected the share of the average that stays, less than 1"),
        ({"teacher": "faces"}, "no config.json in faces"),
    ],
)
def test_what_cannot_be_used_is_said(changes, message, labelled, tmp_path, monkeypatch):
    monkeypatch.chdir(labelled)
    with pytest.raises(IDGuardError, match=message):
        distill(distillation_config(labelled, tmp_path, **changes), verbose=False)

import shutil
from pathlib import Path

import pytest
import torch

from art_idguard import recognizers
from art_idguard.faces.detection import FaceDetector
from art_idguard.perturbation import Protector
from art_idguard.serve.work import Models
from tests.toys import PORTRAIT, tiny_manipulators


@pytest.fixture(scope="module")
def models():
    torch.manual_seed(0)
    protector = Protector(size=64, generator_config={"channels": 8, "norm": "instance"}).eval().requires_grad_(False)
    manipulators = tuple(tiny_manipulators(("stargan", "relgan")))
    return Models(protector, manipulators, recognizers.default(), FaceDetector())


@pytest.fixture
def photo(tmp_path):
    return Path(shutil.copy(PORTRAIT, tmp_path / "photo.png"))

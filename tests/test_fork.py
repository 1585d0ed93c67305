"""A process that has used several threads and forks then, as the README's limits have it."""

import os
import subprocess
import sys

from tests import ROOT

SCRIPT = """
import os

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader

from art_idguard import Protector
from art_idguard.faces import FaceDetector
from art_idguard.weighting.mgda import min_norm_weights

torch.set_num_threads(2)
protector = Protector(size=64, generator_config={"channels": 16, "norm": "instance"}).eval().requires_grad_(False)
faces = torch.rand(2, 3, 64, 64) * 2 - 1
rows = torch.randn(3, 5, dtype=torch.float64)
photo = np.tile(np.asarray(Image.open("examples/astronaut.png").convert("RGB")), (3, 3, 1))


class Protected:
    def __len__(self):
        return 1

    def __getitem__(self, index):
        return protector(faces).specific


def without_torch():
    return min_norm_weights(rows @ rows.T).tolist(), len(FaceDetector().detect(photo))


def with_torch():
    torch.set_num_threads(1)
    return protector(faces).specific


def in_a_fork(work, expected):
    if not (child := os.fork()):
        os._exit(work() != expected if isinstance(expected, tuple) else not torch.allclose(work(), expected))
    assert os.waitpid(child, 0)[1] == 0


protected, others = protector(faces).specific, without_torch()
in_a_fork(without_torch, others)
in_a_fork(with_torch, protected)
(loaded,) = DataLoader(Protected(), batch_size=None, num_workers=1, multiprocessing_context="fork")
assert torch.allclose(loaded, protected)
"""


def test_what_survives_a_fork_after_use():
    """The solver, the detector, and a network on one thread; on two it would wait for threads that are gone."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    environment.pop("OMP_NUM_THREADS", None)
    subprocess.run([sys.executable, "-c", SCRIPT], check=True, cwd=ROOT, env=environment, timeout=200)

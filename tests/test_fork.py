"""A process that has used several threads and forks then, as the README's limits have it."""

import os
import subprocess
import sys

from tests import ROOT

SCRIPT = """
import os
import traceback

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader

from art_idguard import Protector
from art_idguard.faces import FaceDetector
from art_idguard.weighting.mgda import min_norm_weights

torch.manual_seed(0)
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
    return torch.tensor([*min_norm_weights(rows @ rows.T), len(FaceDetector().detect(photo))])


def with_torch():
    torch.set_num_threads(1)
    return protector(faces).specific


def require_same(found, expected, where):
    # A processor may choose another convolution for one thread than for two, which rounds otherwise.
    apart = (found - expected).abs().max().item()
    assert apart < 1e-4, f"{where}: {apart} apart"


def in_a_fork(work, expected):
    if not (child := os.fork()):
        try:
            require_same(work(), expected, work.__name__)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert status == 0, f"{work.__name__}: the fork ended with {os.waitstatus_to_exitcode(status)}"


protected, others = protector(faces).specific, without_torch()
in_a_fork(without_torch, others)
in_a_fork(with_torch, protected)
(loaded,) = DataLoader(Protected(), batch_size=None, num_workers=1, multiprocessing_context="fork")
require_same(loaded, protected, "a loader's worker")
"""


def test_what_survives_a_fork_after_use():
    """The solver, the detector, and a network on one thread; on two it would wait for threads that are gone."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    environment.pop("OMP_NUM_THREADS", None)
    command = [sys.executable, "-c", SCRIPT]
    ended = subprocess.run(command, check=False, cwd=ROOT, env=environment, timeout=200, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr

"""Faces for the examples: one's own, or the portrait beside this file; and a table of what attacks did to them."""

import shutil
import time
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from art.attacks.attack import EvasionAttack

from art_idguard import PyTorchManipulator
from art_idguard.data import read_faces
from art_idguard.evaluation.statistics import Estimate, estimate
from art_idguard.images import from_uint8, to_unit

PORTRAIT = Path(__file__).with_name("astronaut.png")


def load_faces(folder: str | None, *, size: int, limit: int = 8) -> np.ndarray:
    """Aligned faces (N, 3, size, size) on [0, 1], as ART has images."""
    with TemporaryDirectory() as only_the_portrait:
        shutil.copy(PORTRAIT, only_the_portrait)
        faces = read_faces(folder or only_the_portrait, size=size, split="test", limit=limit, framing="align")
    return to_unit(from_uint8(faces.images)).numpy()


def print_table(estimator: PyTorchManipulator, attacks: dict[str, EvasionAttack], x: np.ndarray) -> None:
    """Run the attacks on x and print what they cost and did, as a Markdown table; their warnings follow as notes."""
    notes: list[str] = []
    print(f"n = {len(x)} faces of {x.shape[2]} px; mean [95 % interval over the faces]\n")
    print("| attack | seconds per image | L2_face↑ | ID similarity↓ | L-inf on [0, 1] |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, attack in attacks.items():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            start = time.perf_counter()
            attacked = attack.generate(x)
            seconds = (time.perf_counter() - start) / len(x)
            found = estimator.disruption(x, attacked)
        notes += [f"{name}: {warning.message}" for warning in caught]
        l2, similarity = (_cell(values) for values in found)
        print(f"| {name} | {seconds:.3f} | {l2} | {similarity} | {np.abs(attacked - x).max():.4f} |")
    print(*dict.fromkeys(["", *notes]), sep="\n")


def _cell(values: Any) -> str:
    found: Estimate = estimate(torch.from_numpy(values)[:, None])
    return f"{found.mean:.4f}" + (f" [{found.low:.4f}, {found.high:.4f}]" if len(values) > 1 else "")

"""Attacks on one manipulator, side by side: those of ART, of torchattacks where it is installed, and ID-Guard.

`python examples/compare_attacks.py --faces FOLDER` prints a Markdown table. All bounds are L-inf 0.025 on [0, 1]
(0.05 on [-1, 1]) but that of CW, which has none.
"""

import argparse
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from art.attacks.attack import EvasionAttack
from art.attacks.evasion import (
    AutoProjectedGradientDescent,
    BasicIterativeMethod,
    FastGradientMethod,
    ProjectedGradientDescent,
)
from portraits import load_faces, print_table

from art_idguard import IDGuardAttack, IDGuardUniversalAttack, PyTorchManipulator
from art_idguard.attacks import ClassifierAttack, TorchAttack
from art_idguard.hub import shipped

EPS = 0.025
THRESHOLD = 0.005  # of the class "disrupted": APGD and CW give up what does not reach it


class UniformNoise(EvasionAttack):
    """What a perturbation of this size does without an aim."""

    _estimator_requirements = ()

    def generate(self, x: np.ndarray, y: np.ndarray | None = None, **_: Any) -> np.ndarray:
        """The images with noise."""
        noise = np.random.default_rng(0).uniform(-EPS, EPS, x.shape).astype(x.dtype)
        return (x + noise).clip(0, 1)


def attacks_of(estimator: PyTorchManipulator, protector: str | None, steps: int) -> dict[str, EvasionAttack]:
    """The attacks by the name that the table has."""
    iterated = {"eps": EPS, "eps_step": EPS / 5, "max_iter": steps, "verbose": False}
    quiet = {"threshold": THRESHOLD, "verbose": False}
    found: dict[str, EvasionAttack] = {
        "uniform noise": UniformNoise(estimator=estimator),
        "ID-Guard": IDGuardAttack.from_pretrained(protector, estimator=estimator, verbose=False),
        "P-Pert": IDGuardUniversalAttack.from_pretrained(protector, verbose=False),
        "ART FGSM": FastGradientMethod(estimator, eps=EPS),
        "ART BIM": BasicIterativeMethod(estimator, **iterated),
        "ART PGD": ProjectedGradientDescent(estimator, **iterated),
        "ART APGD": ClassifierAttack(estimator, AutoProjectedGradientDescent, nb_random_init=1, **iterated | quiet),
    }
    if find_spec("torchattacks"):
        stepped = {"eps": EPS, "alpha": EPS / 5, "steps": steps}
        params = {"PGD": stepped, "CW": {"c": 100, "steps": steps}, "DIFGSM": stepped, "EOTPGD": stepped}
        found |= {f"torchattacks {name}": TorchAttack(estimator, name, **quiet, **p) for name, p in params.items()}
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manipulator", default=shipped("manipulators/stargan-celeba128"), help="folder or Hub id")
    parser.add_argument("--protector", help="folder or Hub id; by default the one that ships")
    parser.add_argument("--faces", help="folder or tar of faces; by default the portrait alone")
    parser.add_argument("--limit", type=int, default=8, help="faces")
    parser.add_argument("--size", type=int, default=128, help="side of the faces in pixels")
    parser.add_argument("--steps", type=int, default=10, help="of the attacks that make steps")
    options = parser.parse_args(argv)
    x = load_faces(options.faces, size=options.size, limit=options.limit)
    estimator = PyTorchManipulator.from_pretrained(options.manipulator, input_shape=x.shape[1:])
    print_table(estimator, attacks_of(estimator, options.protector, options.steps), x)


if __name__ == "__main__":
    main()

"""Which attacks of ART and torchattacks run against a manipulator, written to ATTACKS.md.

`python examples/attack_support.py --faces FOLDER` runs every attack on StarGAN and compares what it does to the forged
faces with uniform noise of the same L-inf size.
"""

import argparse
import random
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import art.attacks.evasion
import numpy as np
import torch

from art_idguard import IDGuardError, PyTorchManipulator
from art_idguard.attacks import ClassifierAttack, TorchAttack
from art_idguard.data import read_faces
from art_idguard.errors import NullAttackWarning
from art_idguard.files.atomic import replacing
from art_idguard.images import from_uint8, to_unit

EPSILON = 0.025
"""Of the attacks with a bound, on [0, 1]: the paper's 0.05 on [-1, 1]."""

THRESHOLD = 0.01
"""Of the class "disrupted": a modest aim, since the attacks here make few steps."""

PAGE = """# Attacks of ART and torchattacks against a face manipulator

`PyTorchManipulator`: ART's attack takes the estimator as it is. `ClassifierAttack`, `TorchAttack`: through the wrapper
of that name in `art_idguard.attacks`. L-inf: mean size of the perturbation on [0, 1]. L2: mean squared difference of a
forged image from the clean one's, on [-1, 1]; beside it that of uniform noise of the same L-inf size. "Runs": L2 is
larger than the noise's on every image. The attacks make few steps: the figures show that they work, not which is best.

CarliniL2Method, HopSkipJump, CW and torchattacks' Square and APGD keep nothing that stays under the threshold; they
return the image, with a `NullAttackWarning`. Their parameters were chosen to reach it. Attacks without a bound
move some pixels far: see their L-inf.

{conditions} Written by `examples/attack_support.py`; a test repeats the column "result" on a tiny model.

| attack | library | surface | result | L-inf | L2 | L2 of noise |
| --- | --- | --- | --- | ---: | ---: | ---: |
{rows}
"""

ROOT = Path(__file__).parents[1]
ART_STEPS = {"eps": EPSILON, "eps_step": 0.005, "max_iter": 10}
TORCH_STEPS = {"eps": EPSILON, "alpha": 0.005, "steps": 10}


class Case(NamedTuple):
    """An attack, the surface that it runs on, and its parameters."""

    attack: str
    surface: str
    params: dict[str, Any]


CASES = (
    Case("ProjectedGradientDescent", "PyTorchManipulator", ART_STEPS),
    Case("ProjectedGradientDescentNumpy", "PyTorchManipulator", ART_STEPS),
    Case("FastGradientMethod", "PyTorchManipulator", {"eps": EPSILON}),
    Case("BasicIterativeMethod", "PyTorchManipulator", ART_STEPS),
    Case("MomentumIterativeMethod", "PyTorchManipulator", ART_STEPS),
    Case("ProjectedGradientDescentPyTorch", "ClassifierAttack", ART_STEPS),
    Case("AutoProjectedGradientDescent", "ClassifierAttack", ART_STEPS | {"nb_random_init": 1}),
    Case(
        "CarliniL2Method",
        "ClassifierAttack",
        {"initial_const": 20.0, "binary_search_steps": 1, "max_iter": 12, "max_doubling": 3},
    ),
    Case(
        "CarliniLInfMethod",
        "ClassifierAttack",
        {"initial_const": 1.0, "largest_const": 1.5, "decrease_factor": 0.7, "max_iter": 8},
    ),
    Case("SquareAttack", "ClassifierAttack", {"eps": EPSILON, "max_iter": 100}),
    Case("HopSkipJump", "ClassifierAttack", {"norm": np.inf, "max_iter": 4, "init_eval": 20, "max_eval": 100}),
    Case(
        "UniversalPerturbation",
        "ClassifierAttack",
        {"attacker": "pgd", "attacker_params": ART_STEPS | {"verbose": False}, "eps": EPSILON, "max_iter": 2},
    ),
    Case("PGD", "TorchAttack", TORCH_STEPS),
    Case("FGSM", "TorchAttack", {"eps": EPSILON}),
    Case("BIM", "TorchAttack", TORCH_STEPS),
    Case("CW", "TorchAttack", {"c": 100, "steps": 30, "lr": 0.005}),
    Case("MIFGSM", "TorchAttack", TORCH_STEPS),
    Case("DIFGSM", "TorchAttack", TORCH_STEPS),
    Case("TIFGSM", "TorchAttack", TORCH_STEPS),
    Case("EOTPGD", "TorchAttack", TORCH_STEPS),
    Case("APGD", "TorchAttack", {"eps": EPSILON, "steps": 10}),
    Case("Square", "TorchAttack", {"eps": EPSILON, "n_queries": 300, "threshold": 0.003}),  # it keeps what reaches that
)


class Row(NamedTuple):
    """What came of a case; L2 is the mean squared difference of the forged images on the [-1, 1] scale."""

    case: Case
    result: str
    l_inf: float
    l2: float
    noise: float

    @property
    def support(self) -> tuple[str, str, str, str]:
        """What is the same on every machine: attack, library, surface, result."""
        library = "torchattacks" if self.case.surface == "TorchAttack" else "ART"
        return self.case.attack, library, self.case.surface, self.result

    def __str__(self) -> str:
        figures = (f"{self.l_inf:.3f}", f"{self.l2:.4f}", f"{self.noise:.4f}")
        return " | ".join((*self.support, *figures))


def run(case: Case, estimator: PyTorchManipulator, x: np.ndarray, seed: int = 0) -> Row:
    """One attack on the images (N, 3, H, W) within [0, 1]."""
    random.seed(seed)
    np.random.seed(seed)  # ART's attacks know no other
    torch.manual_seed(seed)
    nothing = float("nan")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", NullAttackWarning)
            attacked = _attack(case, estimator).generate(x)
    except (IDGuardError, NullAttackWarning) as error:
        return Row(case, f"refuses: {error}", nothing, nothing, nothing)
    clean, size = estimator.predict(x), np.abs(attacked - x).max(axis=(1, 2, 3), keepdims=True)
    noise = np.random.default_rng(seed).uniform(-size, size, x.shape)
    noisy = np.clip(x + noise, 0, 1).astype(np.float32)
    l2, by_noise = (estimator.compute_loss(images, clean) for images in (attacked, noisy))
    result = "runs" if (l2 > by_noise).all() else "no better than noise"
    return Row(case, result, float(size.mean()), float(l2.mean()), float(by_noise.mean()))


def _attack(case: Case, estimator: PyTorchManipulator) -> Any:
    if case.surface == "TorchAttack":
        return TorchAttack(estimator, case.attack, verbose=False, **({"threshold": THRESHOLD} | case.params))
    attack = getattr(art.attacks.evasion, case.attack)
    if case.surface == "ClassifierAttack":
        return ClassifierAttack(estimator, attack, threshold=THRESHOLD, verbose=False, **case.params)
    return attack(estimator, **case.params, **({"verbose": False} if "verbose" in attack.attack_params else {}))


def table(rows: Sequence[Row], conditions: str) -> str:
    """The page ATTACKS.md."""
    return PAGE.format(conditions=conditions, rows="\n".join(f"| {row} |" for row in rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", required=True, help="folder or tar of faces")
    parser.add_argument("--weights", default="hub/manipulators/stargan-celeba128", help="of StarGAN")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--count", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=ROOT / "examples" / "ATTACKS.md")
    options = parser.parse_args()
    faces = read_faces(options.faces, size=options.size, split="test", limit=options.count)
    x = to_unit(from_uint8(faces.images)).numpy()
    estimator = PyTorchManipulator.from_pretrained(options.weights, input_shape=x.shape[1:])
    rows = []
    for case in CASES:
        rows.append(run(case, estimator, x, options.seed))
        print(rows[-1], flush=True)
    source = "/".join(Path(options.faces).parts[-2:])
    conditions = (
        f"Weights {options.weights}, edit {estimator.edit}, {len(x)} faces of {source} at "
        f"{options.size} x {options.size}, epsilon {EPSILON} on [0, 1], threshold {THRESHOLD} (torchattacks' Square: "
        f"{CASES[-1].params['threshold']}), seed {options.seed}."
    )
    with replacing(options.output) as temporary:
        temporary.write_text(table(rows, conditions))


if __name__ == "__main__":
    main()

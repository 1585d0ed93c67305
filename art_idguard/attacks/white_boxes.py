"""The attacks of Table VII, each white box: from torchattacks, from ART, as the paper's source has them, and adaptive.

The paper's move the whole picture. A hardened model that stands those may still lose the identity, so that one row aims
at the criterion, face and identity, and knows the recogniser that judges.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from art.attacks.evasion import (
    BasicIterativeMethod,
    CarliniL2Method,
    CarliniLInfMethod,
    FastGradientMethod,
    ProjectedGradientDescentPyTorch,
)

from art_idguard.attacks.classifier import ClassifierAttack
from art_idguard.attacks.idguard import IDGuardAttack
from art_idguard.attacks.torchattacks import TorchAttack
from art_idguard.baselines.carlini_wagner import carlini_wagner
from art_idguard.baselines.criterion import STEPS as CRITERION_STEPS
from art_idguard.baselines.criterion import attack_criterion
from art_idguard.data.reading import find_landmarks
from art_idguard.estimators.manipulator import PyTorchManipulator
from art_idguard.faces.alignment import celeba_landmarks
from art_idguard.images import epsilon_to_unit, to_uint8
from art_idguard.perturbation import pgd
from art_idguard.recognizers import Recognizer

EPSILON, STEP, STEPS, SIGMA = 0.05, 0.01, 10, 0.05
"""The paper's values, on the [-1, 1] scale."""
_EPS, _EPS_STEP = epsilon_to_unit(EPSILON), epsilon_to_unit(STEP)

RunAttack = Callable[[PyTorchManipulator, np.ndarray, Recognizer], np.ndarray]
"""Attacks images within [0, 1] against one edit of a manipulator, and in the adaptive row against a recogniser."""


class WhiteBox(NamedTuple):
    """A row of the table."""

    name: str
    library: str
    run: RunAttack

    @property
    def title(self) -> str:
        """Attack and library."""
        return f"{self.name} ({self.library})"


def _gaussian(estimator: PyTorchManipulator, x: np.ndarray, recognizer: Recognizer) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, epsilon_to_unit(SIGMA), x.shape)
    return (x + noise).clip(0, 1).astype(x.dtype)


def _brightness(estimator: PyTorchManipulator, x: np.ndarray, recognizer: Recognizer) -> np.ndarray:
    """The uniform shift, up or down, that moves the forgery further.

    It needs no gradient, and a generator that keeps a photo's brightness passes it on, as epsilon ** 2: an attack that
    stays below has missed something.
    """
    _, objective = _objective(estimator, x)
    shifted = [(x + shift).clip(0, 1).astype(x.dtype) for shift in (_EPS, -_EPS)]
    with torch.no_grad():
        up, down = (objective(estimator.signed(torch.tensor(s, device=estimator.device))) for s in shifted)
    return np.where((up > down).cpu().numpy()[:, None, None, None], *shifted)


def _objective(estimator: PyTorchManipulator, x: np.ndarray) -> tuple[torch.Tensor, Callable[..., torch.Tensor]]:
    """Faces on the [-1, 1] scale, and the squared distance of their forgery from the clean one."""
    faces = torch.tensor(x, device=estimator.device)
    clean = torch.tensor(estimator.predict(x), device=estimator.device)
    return estimator.signed(faces), lambda z: estimator.distance(estimator.unsigned(z), clean)


def reference_pgd(estimator: PyTorchManipulator, x: np.ndarray) -> np.ndarray:
    """PGD of this package: random start, then sign ascent on the distance from the clean forgery."""
    faces, objective = _objective(estimator, x)
    start = torch.Generator().manual_seed(0)
    attacked = pgd(objective, faces, epsilon=EPSILON, steps=STEPS, step_size=STEP, generator=start)
    return estimator.unsigned(attacked).cpu().numpy()


def _criterion(estimator: PyTorchManipulator, x: np.ndarray, recognizer: Recognizer) -> np.ndarray:
    """`criterion.attack_criterion`; where no face is found, CelebA's framing is assumed."""
    faces = estimator.signed(torch.tensor(x, device=estimator.device))
    landmarks = find_landmarks(to_uint8(faces).cpu()).to(faces)
    landmarks = landmarks.where(landmarks.isfinite(), celeba_landmarks((x.shape[-2], x.shape[-1])).to(faces))
    attacked = attack_criterion(
        lambda z: estimator.signed(estimator.forward(estimator.unsigned(z))),
        faces,
        landmarks,
        [recognizer.to(estimator.device)],
        epsilon=EPSILON,
        generator=torch.Generator().manual_seed(0),
    )
    return estimator.unsigned(attacked).cpu().numpy()


def _carlini_wagner(epsilon: float | None) -> RunAttack:
    def run(estimator: PyTorchManipulator, x: np.ndarray, recognizer: Recognizer) -> np.ndarray:
        faces, objective = _objective(estimator, x)
        attacked = carlini_wagner(objective, faces, epsilon=epsilon, generator=torch.Generator().manual_seed(0))
        return estimator.unsigned(attacked).cpu().numpy()

    return run


def _by_torchattacks(name: str, **params: Any) -> RunAttack:
    return lambda estimator, x, _: TorchAttack(estimator, name, verbose=False, **params).generate(x)


def _by_classifier(attack: type, **params: Any) -> RunAttack:
    return lambda estimator, x, _: ClassifierAttack(estimator, attack, verbose=False, **params).generate(x)


_ITERATED: dict[str, Any] = {"eps": _EPS, "eps_step": _EPS_STEP, "max_iter": STEPS}

WHITE_BOXES: dict[str, WhiteBox] = {
    row.title: row
    for row in (
        WhiteBox("Gaussian noise", f"sigma {SIGMA}", _gaussian),
        WhiteBox("Brightness", "uniform shift", _brightness),
        WhiteBox("FGSM", "ART", lambda e, x, _: FastGradientMethod(e, eps=_EPS).generate(x)),
        WhiteBox("FGSM", "torchattacks", _by_torchattacks("FGSM", eps=_EPS)),
        WhiteBox("I-FGSM", "ART", lambda e, x, _: BasicIterativeMethod(e, verbose=False, **_ITERATED).generate(x)),
        WhiteBox("I-FGSM", "torchattacks", _by_torchattacks("BIM", eps=_EPS, alpha=_EPS_STEP, steps=STEPS)),
        WhiteBox("PGD", "ours", lambda e, x, _: reference_pgd(e, x)),
        WhiteBox("PGD", "ART", _by_classifier(ProjectedGradientDescentPyTorch, num_random_init=1, **_ITERATED)),
        WhiteBox("PGD", "torchattacks", _by_torchattacks("PGD", eps=_EPS, alpha=_EPS_STEP, steps=STEPS)),
        WhiteBox("Criterion", f"ours, adaptive, {CRITERION_STEPS} steps", _criterion),
        WhiteBox("C&W", "the paper's, unbounded", _carlini_wagner(None)),
        WhiteBox("C&W", "the paper's, bounded", _carlini_wagner(EPSILON)),
        WhiteBox("C&W L2", "torchattacks, unbounded", _by_torchattacks("CW", c=100.0, steps=50, lr=0.01)),
        WhiteBox("C&W L2", "ART, unbounded", _by_classifier(CarliniL2Method, max_iter=10, initial_const=10.0)),
        WhiteBox("C&W L-inf", "ART, unbounded", _by_classifier(CarliniLInfMethod, max_iter=10)),
        WhiteBox("ID-Guard", "shipped protector", lambda e, x, _: IDGuardAttack(e, verbose=False).generate(x)),
    )
}

"""Disrupting Deepfakes (Ruiz et al., ECCV workshops 2020) as an ART attack."""

from typing import Literal, Unpack, get_args

import numpy as np
import torch

from art_idguard.attacks.bounded import BoundedAttack, BoundedParams, all_edits
from art_idguard.baselines.base import face_generator, forgery_distance
from art_idguard.errors import IDGuardError
from art_idguard.estimators.arrays import to_tensor
from art_idguard.estimators.manipulator import PyTorchManipulator
from art_idguard.perturbation import pgd
from art_idguard.types import Images

Mode = Literal["iterative", "joint", "image"]


class DisruptingAttack(BoundedAttack):
    """PGD on the distance between the forged faces of protected and clean photos (Ruiz et al., ECCV workshops 2020).

    Examples:
        >>> stargan = PyTorchManipulator.from_pretrained("stargan", input_shape=(3, 32, 32))
        >>> attack = DisruptingAttack(stargan, eps=0.025, max_iter=2, verbose=False)
        >>> x = np.full((1, 3, 32, 32), 0.5, np.float32)
        >>> bool(abs(attack.generate(x) - x).max() <= 0.02501)
        True

    Args:
        estimator: the manipulator under attack.
        eps_step: length of a step in every pixel, in units of the estimator's `clip_values`.
        max_iter: steps.
        mode: "image" is ART's own PGD on the estimator and knows the estimator's edit, nothing else; its start is
            random only where the estimator jitters. The class transferable attacks know all its edits: "iterative"
            takes another one at each step, "joint" their sum; both start at random in the ball.
        target: a picture (3, H, W) within `clip_values` to drive all forged faces to, instead of away from the clean
            ones; "white" is the target of TAFIM (Aneja et al., ECCV 2022), whose generator and
            unbounded perturbation are not taken over.
        common: eps, seed, batch_size, verbose and summary_writer, see `attacks.BoundedParams`.

    Raises:
        EstimatorError: `estimator` is no `PyTorchManipulator`.
        ValueError: a parameter has a wrong type or value.
    """

    attack_params = [  # noqa: RUF012 - ART's convention
        *BoundedAttack.attack_params,
        *("eps_step", "max_iter", "mode", "target"),
    ]

    def __init__(
        self,
        estimator: PyTorchManipulator,
        *,
        eps_step: float = 0.005,
        max_iter: int = 10,
        mode: Mode = "iterative",
        target: np.ndarray | Literal["white"] | None = None,
        **common: Unpack[BoundedParams],
    ) -> None:
        self.eps_step, self.max_iter, self.mode, self.target = eps_step, max_iter, mode, target
        super().__init__(estimator, **common)

    def protect(self, x: Images) -> Images:
        """Protected faces on the [-1, 1] scale.

        Raises:
            IDGuardError: the target is no picture of their size; or in the class transferable modes: a preprocessing
                defence, or the model, has no gradient.
        """
        target = self._target(x)
        if self.mode == "image":
            return self._by_art(x, target)
        distance = forgery_distance(all_edits(self.estimator), x, joint=self.mode == "joint", target=target)
        return pgd(
            distance,
            x,
            epsilon=self.epsilon,
            steps=self.max_iter,
            step_size=self.signed_length(self.eps_step),
            generator=face_generator(x, self.seed),
        )

    def _by_art(self, x: Images, target: Images | None) -> Images:
        from art.attacks.evasion import ProjectedGradientDescent  # imports all of ART's attacks: seconds

        estimator = self.estimator
        attack = ProjectedGradientDescent(
            estimator,
            eps=float(self.eps),
            eps_step=float(self.eps_step),
            max_iter=self.max_iter,
            targeted=target is not None,
            batch_size=self.batch_size,
            verbose=False,
        )
        images = estimator.unsigned(x).cpu().numpy().clip(*self.clip_values)
        y = None if target is None else estimator.unsigned(target).cpu().numpy()
        return estimator.signed(torch.from_numpy(attack.generate(images, y)).to(x))

    def _target(self, x: Images) -> Images | None:
        if self.target is None:
            return None
        if isinstance(self.target, str):
            return torch.ones_like(x)
        if self.target.shape != x.shape[1:]:
            raise IDGuardError(f"a target of {self.target.shape} does not fit images of {tuple(x.shape[1:])}")
        return self.estimator.signed(to_tensor(self.target, x.device)).expand_as(x)

    def _check_params(self) -> None:
        super()._check_params()
        self._check_positive("eps_step")
        self._check_whole(1, "max_iter")
        if self.mode not in get_args(Mode):
            raise ValueError(f"`mode` has to be one of {', '.join(get_args(Mode))}, found {self.mode!r}")
        if self.target is None or (isinstance(self.target, str) and self.target == "white"):
            return
        low, high = self.clip_values
        if not isinstance(self.target, np.ndarray) or not ((self.target >= low) & (self.target <= high)).all():
            raise ValueError(f"`target` has to be None, 'white' or an array within {low:g}..{high:g}")

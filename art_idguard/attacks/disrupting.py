"""Disrupting (Ruiz et al., ECCV workshops 2020): PGD from a manipulator's clean output."""

from copy import copy
from itertools import cycle
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from art_idguard.attacks.base import ProtectionAttack
from art_idguard.estimators import PyTorchManipulator
from art_idguard.perturbation import pgd
from art_idguard.types import Images

Mode = Literal["iterative", "joint", "image"]


class DisruptingAttack(ProtectionAttack):
    """PGD on the distance between the forged faces of protected and clean photos.

    Args:
        estimator: the manipulator under attack.
        eps: L-inf bound in units of the estimator's `clip_values`; 0.025 on [0, 1] is the paper's 0.05 on [-1, 1].
        eps_step: length of a step in every pixel.
        max_iter: steps.
        mode: "image" attacks the estimator's own edit, as ART's PGD on the estimator does; the class transferable
            attacks know all edits: "joint" climbs their sum, "iterative" takes one a step, in turn.
        target: an image or images (3, H, W) within `clip_values` to drive the forged faces to, instead of away from
            the clean ones; "white" is TAFIM's (Aneja et al., ECCV 2022), whose generator and unbounded perturbation are
            not taken over.
        random_start: start anywhere in the ball, not just beside the image.
        seed: of the start.
        batch_size: images at a time.
        verbose: show a progress bar.
        summary_writer: as in ART.

    Raises:
        EstimatorError: `estimator` is no `PyTorchManipulator`.
        ValueError: a parameter has a wrong type or value.
    """

    attack_params = [  # noqa: RUF012 - ART's convention
        *ProtectionAttack.attack_params,
        *("eps", "eps_step", "max_iter", "mode", "target", "random_start", "seed"),
    ]

    def __init__(
        self,
        estimator: PyTorchManipulator,
        *,
        eps: float = 0.025,
        eps_step: float = 0.005,
        max_iter: int = 10,
        mode: Mode = "iterative",
        target: np.ndarray | Literal["white"] | None = None,
        random_start: bool = True,
        seed: int = 0,
        batch_size: int = 32,
        verbose: bool = True,
        summary_writer: Any = False,
    ) -> None:
        self.eps, self.eps_step, self.max_iter = eps, eps_step, max_iter
        self.mode, self.target, self.random_start, self.seed = mode, target, random_start, seed
        super().__init__(estimator, batch_size=batch_size, verbose=verbose, summary_writer=summary_writer)
        self._check_params()

    def protect(self, x: Images) -> Images:
        """Protected faces on the [-1, 1] scale."""
        low, high = self.clip_values
        scale = 2 / (high - low)
        return pgd(
            self._objective(x),
            x,
            epsilon=self.eps * scale,
            steps=self.max_iter,
            step_size=self.eps_step * scale,
            random_start=self.random_start,
            generator=torch.Generator().manual_seed(self.seed),
        )

    def _objective(self, x: Images) -> Any:
        """What PGD climbs: for each image the distance of an edit's forgery, in turn, or summed over the edits."""
        pairs = [(estimator, self._reference(estimator, x)) for estimator in self._estimators()]
        turns = cycle(pairs)
        sign = 1 if self.target is None else -1

        def distance(attacked: Images) -> Float[Tensor, " B"]:
            now = pairs if self.mode == "joint" else [next(turns)]
            each = [estimator.distance(estimator.unsigned(attacked), reference) for estimator, reference in now]
            return sign * torch.stack(each).sum(dim=0)

        return distance

    def _estimators(self) -> list[PyTorchManipulator]:
        """The estimator, once for each edit that the mode knows."""
        if self.mode == "image" or not self.estimator.edit_names:
            return [self.estimator]
        each = [copy(self.estimator) for _ in self.estimator.edit_names]
        for estimator, name in zip(each, self.estimator.edit_names, strict=True):
            estimator.edit = name
        return each

    @torch.no_grad()
    def _reference(self, estimator: PyTorchManipulator, x: Images) -> Images:
        if self.target is None:
            return estimator.forward(estimator.unsigned(x))
        if isinstance(self.target, str):
            return torch.full_like(x, self.clip_values[1])
        return torch.tensor(self.target, device=x.device, dtype=x.dtype).expand_as(x)

    def _check_params(self) -> None:
        super()._check_params()
        for name in ("eps", "eps_step"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not value > 0:
                raise ValueError(f"`{name}` has to be a positive number, found {value!r}")
        if not isinstance(self.max_iter, int) or self.max_iter < 1:
            raise ValueError(f"`max_iter` has to be a positive int, found {self.max_iter!r}")
        if self.mode not in get_args(Mode):
            raise ValueError(f"`mode` has to be one of {', '.join(get_args(Mode))}, found {self.mode!r}")
        if isinstance(self.target, str) and self.target != "white":
            raise ValueError(f"`target` has to be an array, 'white' or None, found {self.target!r}")

"""ID-Guard as an ART attack: one forward pass protects an image."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self, Unpack, get_args

import numpy as np
import torch
from torch import nn

from art_idguard.attacks.base import CommonParams, ProtectionAttack
from art_idguard.estimators.manipulator import PyTorchManipulator
from art_idguard.estimators.wrappers import unwrapped
from art_idguard.perturbation import Protector
from art_idguard.perturbation.precision import Precision, autocast
from art_idguard.perturbation.weakened import WeakenedProtector
from art_idguard.types import Images


class IDGuardAttack(ProtectionAttack):
    """Eq. (14) for ART: x + G(cat(x, delta_p)), bounded by the protector's epsilon.

    Images of any size, as faces fill them: the shipped generator takes about 1 KB of memory for each pixel of a batch.
    For photos of many megapixels there is `photos.protect_photo`, which works on the faces in them.

    Examples:
        >>> attack = IDGuardAttack.from_pretrained(verbose=False)
        >>> attack.eps
        0.025
        >>> x = np.full((1, 3, 64, 64), 0.5, np.float32)
        >>> bool(0.01 < abs(attack.generate(x) - x).max() <= 0.02501)
        True
        >>> attack.set_params(eps=0.01)  # shows less, and protects less
        >>> bool(abs(attack.generate(x) - x).max() <= 0.01001)
        True

    Args:
        estimator: a manipulator under attack; only the summary writer asks for it, protection needs none.
        protector: a trained protector; by default the one that ships. What DataParallel or torch.compile put around it
            is taken off.
        eps: L-inf bound in units of `clip_values`; by default, and at most, the protector's: epsilon on its [-1, 1]
            scale, half of that on [0, 1]. A smaller one scales the perturbation down: less is seen, and less protected.
        precision: of the generator: "no" is float32; "bf16" is faster on GPUs and on processors with AMX; "auto" is the
            faster of the two here. bfloat16 moves few pixels by more than half a level of 255.
        common: batch_size, verbose and summary_writer, see `attacks.CommonParams`.

    Raises:
        EstimatorError: `estimator` is no `PyTorchManipulator`.
        ValueError: a parameter has a wrong type or value.
    """

    attack_params = [*ProtectionAttack.attack_params, "eps", "precision"]  # noqa: RUF012 - ART's convention
    _estimator_requirements = ((PyTorchManipulator, type(None)),)

    def __init__(
        self,
        estimator: PyTorchManipulator | None = None,
        protector: Protector | nn.Module | None = None,
        *,
        eps: float | None = None,
        precision: Precision = "no",
        **common: Unpack[CommonParams],
    ) -> None:
        super().__init__(estimator, **common)
        self.protector = Protector.from_pretrained() if protector is None else unwrapped(protector)
        self.eps, self.precision = eps, precision
        self._check_params()

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path | None = None,
        *,
        estimator: PyTorchManipulator | None = None,
        revision: str | None = None,
        **options: Any,
    ) -> Self:
        """The attack with a trained protector.

        Args:
            model: folder or Hub id; by default the protector that ships.
            estimator: see the class.
            revision: of the Hub model.
            options: as the class takes them.

        Raises:
            WeightsError: there are no weights, or they are damaged or do not fit.
        """
        return cls(estimator, Protector.from_pretrained(model, revision=revision), **options)

    def fit(
        self,
        x: np.ndarray,
        y: np.ndarray | None = None,
        *,
        estimators: Sequence[PyTorchManipulator] | None = None,
        batch_size: int = 32,
        nb_epochs: int = 20,
        output: str | Path | None = None,
        **settings: Any,
    ) -> None:
        """Train a copy of the protector further, by Algorithm 1, on one's own faces and manipulators, and take that.

        Ctrl-C ends the training early, with what is learnt so far.

        Args:
            x: square faces (N, 3, S, S) within `clip_values`; those in which no face is found are left out.
            y: 0/1 labels (N, 5) in the order of `types.ATTRIBUTES`; by default every face has the first estimator's
                `attributes`.
            estimators: the manipulators to protect against, by default the attack's own; each a `Manipulator` inside,
                without preprocessing, with the attack's `clip_values` and device.
            batch_size: faces in a step.
            nb_epochs: how often each face is seen.
            output: folder that keeps the run's checkpoint, log and samples; by default nothing is kept.
            settings: any other field of `training.config.ProtectorConfig`, such as weighting="mgda" or lr=1e-4.

        Raises:
            IDGuardError: unusable faces, labels, manipulators or settings, or a loss that is not finite.
        """
        from art_idguard.attacks.fit import fit_protector  # accelerate is not needed to protect

        own = () if self.estimator is None else (self.estimator,)
        self.protector = fit_protector(
            self.protector,
            x,
            y,
            estimators=own if estimators is None else estimators,
            clip_values=self.clip_values,
            device=self.device,
            batch_size=batch_size,
            nb_epochs=nb_epochs,
            output=output,
            verbose=self.verbose,
            **settings,
        )

    @property
    def eps(self) -> float:
        """The L-inf bound in the units of `clip_values`; set it to None for the protector's."""
        return self._full_eps if self._eps is None else self._eps

    @eps.setter
    def eps(self, value: float | None) -> None:
        self._eps = value

    @property
    def _full_eps(self) -> float:
        return self.protector.epsilon * self.clip_values.span / 2

    @property
    def weakened(self) -> Protector:
        """The protector as it is used, on the attack's device: at `eps`."""
        protector = self.protector.to(self.device).eval()
        return protector if self.eps == self._full_eps else WeakenedProtector(protector, self.eps / self._full_eps)

    @torch.no_grad()  # not inference_mode: a RefinedProtector takes gradients
    def protect(self, x: Images) -> Images:
        """Eq. (14) on the [-1, 1] scale."""
        with autocast(self.precision, self.device):
            return self.weakened(x).specific

    def _default_batch(self) -> int:
        return 4 if self.device.type == "cpu" else 32  # on a CPU more are slower

    def _check_params(self) -> None:
        super()._check_params()
        if not isinstance(self.protector, Protector):
            raise ValueError(f"`protector` has to be a Protector, found {type(self.protector).__name__}")
        self._check_positive("eps")
        if self.precision not in (known := get_args(Precision)):
            raise ValueError(f"`precision` has to be one of {', '.join(known)}, found {self.precision!r}")
        if self.eps > self._full_eps:
            raise ValueError(
                f"`eps` has to be at most the protector's bound, {self._full_eps:g}, found {self.eps:g}; a protector "
                "with a larger one has to be trained"
            )

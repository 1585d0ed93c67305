"""Base class of attacks with an L-inf bound; an estimator as a list of forging functions."""

from functools import partial
from typing import Any

from art_idguard.attacks.base import ProtectionAttack
from art_idguard.baselines.base import Forge
from art_idguard.errors import IDGuardError
from art_idguard.estimators.manipulator import PyTorchManipulator
from art_idguard.types import Images


class BoundedAttack(ProtectionAttack):
    """An attack with a bound in the units of `clip_values` and a seed; subclasses write `protect`.

    Args:
        estimator: the manipulator under attack.
        eps: L-inf bound in units of the estimator's `clip_values`; 0.025 on [0, 1] is the paper's 0.05 on [-1, 1].
        seed: of everything random.
        batch_size: images at a time.
        verbose: show a progress bar.
        summary_writer: as in ART.

    Raises:
        EstimatorError: `estimator` is no `PyTorchManipulator`.
        ValueError: a parameter has a wrong type or value.
    """

    attack_params = [*ProtectionAttack.attack_params, "eps", "seed"]  # noqa: RUF012 - ART's convention

    def __init__(
        self,
        estimator: PyTorchManipulator,
        *,
        eps: float = 0.025,
        seed: int = 0,
        batch_size: int = 32,
        verbose: bool = True,
        summary_writer: Any = False,
    ) -> None:
        super().__init__(estimator, batch_size=batch_size, verbose=verbose, summary_writer=summary_writer)
        self.eps, self.seed = eps, seed
        self._check_params()

    @property
    def epsilon(self) -> float:
        """The bound on the [-1, 1] scale."""
        return self.signed_length(self.eps)

    def signed_length(self, length: float) -> float:
        """A bound or step in units of `clip_values` as one on the [-1, 1] scale."""
        return 2 * length / self.clip_values.span

    def _check_params(self) -> None:
        super()._check_params()
        self._check_positive("eps")
        self._check_whole(0, "seed")

    def _check_positive(self, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < float("inf"):
                raise ValueError(f"`{name}` has to be a positive number, found {value!r}")

    def _check_whole(self, least: int, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(f"`{name}` has to be an int of at least {least}, found {value!r}")


def all_edits(estimator: PyTorchManipulator) -> list[Forge]:
    """The estimator with each of its edits, gradients through its defences; one forge for a model without edits.

    Raises:
        IDGuardError: a preprocessing defence is not made for PyTorch, so that it has no gradient.
    """
    if not estimator.all_framework_preprocessing:
        raise IDGuardError(
            "a preprocessing defence of this estimator is not made for PyTorch; leave it out, or take "
            'DisruptingAttack(mode="image"), which is ART\'s own PGD'
        )
    return [partial(_forged, estimator, edit) for edit in estimator.edit_names or (None,)]


def _forged(estimator: PyTorchManipulator, edit: str | None, x: Images) -> Images:
    return estimator.signed(estimator.forward(estimator.unsigned(x), edit))

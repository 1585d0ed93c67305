"""Base class of attacks with an L-inf bound; an estimator as a list of forging functions."""

from functools import partial
from typing import Unpack

from art_idguard.attacks.base import CommonParams, ProtectionAttack
from art_idguard.baselines.base import Forge
from art_idguard.errors import IDGuardError
from art_idguard.estimators.manipulator import PyTorchManipulator
from art_idguard.types import Images


class BoundedParams(CommonParams, total=False):
    """What every attack with a bound takes besides its own parameters: `CommonParams`, and these.

    Attributes:
        eps: L-inf bound in units of the estimator's `clip_values`. Default: 0.025, on [0, 1] the paper's 0.05 on
            [-1, 1].
        seed: of everything random; of a random start together with the images. Default: 0.
    """

    eps: float
    seed: int


class BoundedAttack(ProtectionAttack):
    """An attack with a bound in the units of `clip_values` and a seed; subclasses write `protect`.

    Args:
        estimator: the manipulator under attack.
        eps: see `BoundedParams`.
        seed: of everything random.
        common: batch_size, verbose and summary_writer, see `attacks.CommonParams`.

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
        **common: Unpack[CommonParams],
    ) -> None:
        super().__init__(estimator, **common)
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

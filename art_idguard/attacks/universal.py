"""P-Pert as an ART attack: one perturbation for every image."""

from typing import Any, Unpack

import numpy as np
import torch

from art_idguard.attacks.base import CommonParams, ProtectionAttack
from art_idguard.attacks.idguard import IDGuardAttack
from art_idguard.estimators.manipulator import PyTorchManipulator
from art_idguard.perturbation import Protector
from art_idguard.types import Images


class IDGuardUniversalAttack(IDGuardAttack):
    """P-Pert of Eq. (14) for ART: x + delta_p, the jointly trained prior alone.

    After `generate`, as in ART's universal perturbations:
        noise: (1, 3, H, W), what was added to every image (before clipping), in the units of `clip_values`.
        fooling_rate: the defence success rate (DSR) on the estimator; None without one.
        converged: whether it reaches 1 - delta; None without an estimator.

    Examples:
        >>> attack = IDGuardUniversalAttack(verbose=False)
        >>> _ = attack.generate(np.full((2, 3, 64, 64), 0.5, np.float32))
        >>> attack.noise.shape
        (1, 3, 64, 64)

    Args:
        estimator: the manipulator that the fooling rate is measured on.
        protector: see `IDGuardAttack`.
        eps: see `IDGuardAttack`.
        delta: share of images whose forgeries may stay intact.
        common: batch_size, verbose and summary_writer, see `attacks.CommonParams`.

    Raises:
        EstimatorError: `estimator` is no `PyTorchManipulator`.
        ValueError: a parameter has a wrong type or value.
    """

    attack_params = [*ProtectionAttack.attack_params, "eps", "delta"]  # noqa: RUF012 - ART's convention

    def __init__(
        self,
        estimator: PyTorchManipulator | None = None,
        protector: Protector | None = None,
        *,
        eps: float | None = None,
        delta: float = 0.2,
        **common: Unpack[CommonParams],
    ) -> None:
        self.delta = delta
        self.noise: np.ndarray | None = None
        self.fooling_rate: float | None = None
        super().__init__(estimator, protector, eps=eps, **common)

    @property
    def converged(self) -> bool | None:
        """Whether the fooling rate reaches 1 - delta."""
        return None if self.fooling_rate is None else self.fooling_rate >= 1 - self.delta

    def fit(self, *args: Any, **kwargs: Any) -> None:
        """Train P-Pert along with the generator, see `IDGuardAttack.fit`; forgets `noise` and `fooling_rate`."""
        self.noise = self.fooling_rate = None
        super().fit(*args, **kwargs)

    def generate(
        self, x: np.ndarray, y: np.ndarray | None = None, *, mask: np.ndarray | None = None, **_: Any
    ) -> np.ndarray:
        """Protected images; sets `noise`, `fooling_rate` and `converged`. See `ProtectionAttack.generate`."""
        self.fooling_rate = None
        protected = super().generate(x, y, mask=mask)
        if not len(protected):
            return protected
        first = self.clip_values.signed(torch.from_numpy(np.array(x[:1], np.float32)).to(self.device))
        with torch.inference_mode():
            self.noise = (self.weakened.universal(first) * self.clip_values.span / 2).cpu().numpy()
        if self.estimator is not None:
            self.fooling_rate = self.estimator.disruption(np.asarray(x), protected).dsr
        return protected

    @torch.inference_mode()
    def protect(self, x: Images) -> Images:
        """P-Pert on the [-1, 1] scale: x + delta_p."""
        return (x + self.weakened.universal(x)).clamp(-1, 1)

    def _check_params(self) -> None:
        super()._check_params()
        if not isinstance(self.delta, (int, float)) or isinstance(self.delta, bool) or not 0 <= self.delta <= 1:
            raise ValueError(f"`delta` has to be a number within [0, 1], found {self.delta!r}")

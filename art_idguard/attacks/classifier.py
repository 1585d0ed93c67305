"""ART's attacks on classifiers, run on a manipulator: one classifier for each image, and nothing done in silence."""

import warnings
from typing import Any

import numpy as np
import torch
from art.attacks.attack import EvasionAttack
from tqdm import trange

from art_idguard.errors import IDGuardError, NullAttackWarning
from art_idguard.estimators.arrays import check_images, check_mask, warn_if_null
from art_idguard.estimators.classifier import DisruptionClassifier
from art_idguard.estimators.manipulator import PyTorchManipulator
from art_idguard.metrics import L2_THRESHOLD


class ClassifierAttack(EvasionAttack):
    """Any evasion attack of ART that takes a classifier, against a manipulator.

    Each image gets its own `DisruptionClassifier` (class 0: its forgery is intact, 1: disrupted), and the attack moves
    it out of class 0. So UniversalPerturbation finds one perturbation for each image here, not one for all.

    Some attacks (Carlini, HopSkipJump, Square, APGD) give up what does not reach class 1, or stop once it does: with a
    `threshold` that the bound cannot reach they return the image, or noise, and a `NullAttackWarning` says so. A lower
    threshold helps.

    Examples:
        >>> from art.attacks.evasion import FastGradientMethod
        >>> invert = PyTorchManipulator(lambda x: 1 - x, input_shape=(3, 8, 8))
        >>> attack = ClassifierAttack(invert, FastGradientMethod, eps=0.1, threshold=0.01, verbose=False)
        >>> x = np.full((1, 3, 8, 8), 0.5, np.float32)
        >>> bool(0.09 < abs(invert.predict(attack.generate(x)) - invert.predict(x)).max() < 0.11)
        True

    Args:
        estimator: the manipulator.
        attack: the class of the attack, such as `art.attacks.evasion.AutoProjectedGradientDescent`.
        threshold: mean squared difference of the forgeries, on the [-1, 1] scale, from which on one is disrupted.
        verbose: show a progress bar over the images.
        params: of the attack, such as eps=0.025; its bounds are in units of the estimator's `clip_values`.

    Raises:
        EstimatorError: `estimator` is no `PyTorchManipulator`.
        ValueError: a parameter has a wrong type or value.
    """

    attack_params = [*EvasionAttack.attack_params, "attack", "params", "threshold", "verbose"]  # noqa: RUF012 - ART's
    _estimator_requirements = (PyTorchManipulator,)

    def __init__(
        self,
        estimator: PyTorchManipulator,
        attack: Any,
        *,
        threshold: float = L2_THRESHOLD,
        verbose: bool = True,
        **params: Any,
    ) -> None:
        super().__init__(estimator=estimator)
        self.attack = attack
        self.threshold = threshold
        self.verbose = verbose
        self.params = params
        self._check_params()

    def generate(
        self, x: np.ndarray, y: np.ndarray | None = None, *, mask: np.ndarray | None = None, **_: Any
    ) -> np.ndarray:
        """Attacked images; warns (`NullAttackWarning`) of those that the attack left alone or moved no more than noise.

        Args:
            x: (N, 3, H, W) within the estimator's `clip_values`.
            y: not used.
            mask: broadcastable to x, 0 where nothing may change. Attacks that know masks get it; it is enforced on all.

        Returns:
            Images with the shape, range and float type of x.

        Raises:
            IDGuardError: see `arrays.check_images`; a mask of another shape; or the attack cannot be used, and why.
        """
        x = check_images(x, self.estimator.clip_values)
        mask = check_mask(mask, x)
        attacked, idle = np.empty_like(x, order="C"), 0
        for i in trange(len(x), desc=self.attack.__name__, unit="image", disable=not self.verbose):
            clean = np.array(x[i : i + 1], dtype=np.float32)
            allowed = None if mask is None else mask[i : i + 1].astype(np.float32)
            classifier = DisruptionClassifier(self.estimator, clean, threshold=self.threshold, guarded=False)
            image = self._attacked(classifier, clean, allowed)
            idle += _no_better_than_noise(classifier, clean, image, allowed)
            attacked[i] = np.where(image == clean, x[i : i + 1], image)[0]
        self._warn(x, attacked, idle)
        return attacked

    def run(self, classifier: DisruptionClassifier, clean: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        """The attack on one image (1, 3, H, W)."""
        quiet = {"verbose": False} if "verbose" in self.attack.attack_params else {}
        attack = self.attack(classifier, **(quiet | self.params))
        label = np.eye(2)[[int(bool(attack.targeted))]]  # away from intact is towards disrupted
        return attack.generate(clean.copy(), y=label, **({} if mask is None else {"mask": mask}))

    def _attacked(self, classifier: DisruptionClassifier, clean: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        name = self.attack.__name__
        try:
            attacked = np.asarray(self.run(classifier, clean, mask), dtype=np.float32)
        except IDGuardError:
            raise
        except Exception as error:  # third-party attacks fail in any way, seldom with a reason that fits
            raise IDGuardError(
                f"{name} cannot be used: {type(error).__name__}: {error}. It met one image and a classifier with "
                "logits of two classes, 0 (intact) and 1 (disrupted)"
            ) from error
        if attacked.shape != clean.shape or not np.isfinite(attacked).all():
            raise IDGuardError(f"{name} cannot be used: it returned no finite image of shape {clean.shape}")
        attacked = attacked.clip(*self.estimator.pixel_range)
        return attacked if mask is None else clean + (attacked - clean) * mask

    def _warn(self, x: np.ndarray, attacked: np.ndarray, idle: int) -> None:
        name, help_ = self.attack.__name__, f"raise its bound or its steps, or lower threshold={self.threshold:g}"
        reason = f"its bound, its mask or its gradient is zero, or no forgery came to class 1 (disrupted); {help_}"
        warn_if_null(name, x, attacked, clip_values=self.estimator.clip_values, reason=reason)
        if idle:
            warnings.warn(
                f"{name} moved the forgeries of {idle} of {len(x)} images no further than uniform noise of the same "
                f"L-inf size does; {help_}",
                NullAttackWarning,
                stacklevel=3,
            )

    def _check_params(self) -> None:
        super()._check_params()
        if not isinstance(self.attack, type) or not self._fits(self.attack):
            raise ValueError(f"`attack` has to be the class of an attack, found {self.attack!r}")
        if not isinstance(self.threshold, (int, float)) or not self.threshold > 0:
            raise ValueError(f"`threshold` has to be a positive number, found {self.threshold!r}")
        if not isinstance(self.verbose, bool):
            raise ValueError(f"`verbose` has to be a bool, found {self.verbose!r}")

    def _fits(self, attack: type) -> bool:
        return issubclass(attack, EvasionAttack)


@torch.no_grad()
def _no_better_than_noise(
    classifier: DisruptionClassifier, clean: np.ndarray, attacked: np.ndarray, mask: np.ndarray | None
) -> bool:
    """Whether uniform noise of the same L-inf size moves the forgery as far; False for an image that did not change."""
    size = np.abs(attacked - clean).max()
    noise = np.random.default_rng(0).uniform(-size, size, clean.shape).astype(np.float32)
    noisy = (clean + noise * (1 if mask is None else mask)).clip(*classifier.clip_values)
    both = torch.from_numpy(np.concatenate([attacked, noisy])).to(classifier.device)
    moved, by_noise = classifier.logits.distance(both).tolist()
    return bool(size > 0 and moved <= by_noise)

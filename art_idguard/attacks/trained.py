"""Base classes of attacks that are trained once and then protect at no cost."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Self, Unpack

import numpy as np
import torch
from art.exceptions import EstimatorError
from jaxtyping import Float
from torch import Tensor

from art_idguard.attacks.bounded import BoundedAttack, BoundedParams
from art_idguard.baselines.generator import GeneratorObjective, train_generator
from art_idguard.errors import IDGuardError
from art_idguard.estimators.arrays import check_images, to_tensor
from art_idguard.estimators.manipulator import PyTorchManipulator
from art_idguard.images import project
from art_idguard.manipulators.base import Manipulator
from art_idguard.perturbation import Protector
from art_idguard.types import ATTRIBUTES, Images, float32


class TrainedAttack(BoundedAttack):
    """An attack with `fit(x, y)`; subclasses write `train` and `protect`.

    Args:
        estimators: the manipulators to train against, one or more; the first gives `clip_values` and device.
        common: eps, seed, batch_size, verbose and summary_writer, see `attacks.BoundedParams`.

    Raises:
        EstimatorError: an estimator is no `PyTorchManipulator`.
        ValueError: a parameter has a wrong type or value; or an estimator's model is no `Manipulator`, has
            preprocessing, or differs from the first in `clip_values` or device.
    """

    def __init__(
        self,
        estimators: PyTorchManipulator | Sequence[PyTorchManipulator],
        **common: Unpack[BoundedParams],
    ) -> None:
        every: list[Any] = list(estimators) if isinstance(estimators, (list, tuple)) else [estimators]
        if not every:
            raise ValueError("`estimators` has to hold at least one PyTorchManipulator")
        if others := [e for e in every if not isinstance(e, PyTorchManipulator)]:
            raise EstimatorError(type(self), list(self._estimator_requirements), others[0])
        self.estimators: list[PyTorchManipulator] = every
        self._fitted = float("inf")  # the `eps` that it was trained with
        super().__init__(every[0], **common)

    @float32()
    def fit(self, x: np.ndarray, y: np.ndarray | None = None) -> Self:
        """Train on faces.

        Args:
            x: (N, 3, H, W) within `clip_values`.
            y: 0/1 labels (N, 5) in the order of `types.ATTRIBUTES`; by default every face has the
                first estimator's `attributes`.

        Raises:
            IDGuardError: unusable images or labels.
        """
        x = check_images(x, self.clip_values)
        labels = np.tile(self.estimator.attributes, (len(x), 1)) if y is None else np.asarray(y)
        if not len(x) or labels.shape != (len(x), len(ATTRIBUTES)):
            raise IDGuardError(f"expected faces with labels of shape (N, 5), found {x.shape} and {labels.shape}")
        images = to_tensor(x, self.device)
        self.train(self.estimator.signed(images), torch.tensor(labels, dtype=torch.float32, device=self.device))
        self._fitted = self.eps
        return self

    @abstractmethod
    def train(self, x: Images, attributes: Float[Tensor, "B 5"]) -> None:
        """Learn from faces on the [-1, 1] scale."""

    @property
    def manipulators(self) -> list[Manipulator]:
        """What is trained against."""
        return [estimator.model for estimator in self.estimators]

    def _check_params(self) -> None:
        super()._check_params()
        require_trainable(self.estimators, self.clip_values, self.device)
        if self.eps > self._fitted:
            raise ValueError(f"`eps` was {self._fitted:g} in fit and may not grow; make a new attack and fit that")


def require_trainable(
    estimators: Sequence[PyTorchManipulator], clip_values: tuple[float, float], device: torch.device
) -> None:
    """Refuse what cannot be trained against.

    Raises:
        ValueError: an estimator's model is no `Manipulator`, it has preprocessing, or another range or device.
    """
    for estimator in estimators:
        name = type(estimator.model).__name__
        if not isinstance(estimator.model, Manipulator):
            raise ValueError(f"training needs a Manipulator, which {name} is not; subclass it")
        if estimator.preprocessing_defences or not _is_identity(estimator.preprocessing):
            raise ValueError(f"training meets the bare manipulator; leave preprocessing out of {name}'s estimator")
        if (estimator.pixel_range, estimator.device) != (clip_values, device):
            raise ValueError(
                f"the estimators and the attack have to agree in clip_values and device, found {estimator.pixel_range} "
                f"on {estimator.device} and {clip_values} on {device}"
            )


def _is_identity(preprocessing: Any) -> bool:
    """Whether it is ART's default, a standardisation that changes nothing."""
    mean, std = getattr(preprocessing, "mean", 0), getattr(preprocessing, "std", 1)
    return not np.any(mean) and bool(np.all(np.equal(std, 1)))


class GeneratorAttack(TrainedAttack):
    """A trained generator protects an image in one forward pass; subclasses write `objective`.

    Args:
        estimators: see `TrainedAttack`.
        steps: of the training.
        lr: of Adam.
        channels: width of the generator, ID-Guard's ResNet without its prior.
        train_batch: faces in a step.
        common: eps, seed, batch_size, verbose and summary_writer, see `attacks.BoundedParams`.

    Raises:
        EstimatorError: an estimator is no `PyTorchManipulator`.
        ValueError: a parameter has a wrong type or value.
    """

    attack_params = [  # noqa: RUF012 - ART's convention
        *TrainedAttack.attack_params,
        *("steps", "lr", "channels", "train_batch"),
    ]

    def __init__(
        self,
        estimators: PyTorchManipulator | Sequence[PyTorchManipulator],
        *,
        steps: int = 1000,
        lr: float = 1e-4,
        channels: int = 64,
        train_batch: int = 8,
        **common: Unpack[BoundedParams],
    ) -> None:
        self.steps, self.lr, self.channels, self.train_batch = steps, lr, channels, train_batch
        self.protector: Protector | None = None
        super().__init__(estimators, **common)

    @abstractmethod
    def objective(self) -> GeneratorObjective:
        """What the generator maximises."""

    def train(self, x: Images, attributes: Float[Tensor, "B 5"]) -> None:
        """Learn from faces on the [-1, 1] scale, from a random generator and a prior of zero on."""
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            options = {"channels": self.channels, "norm": "instance"}
            protector = Protector(generator_config=options, epsilon=self.epsilon, size=x.shape[-1]).to(self.device)
        self.protector = train_generator(
            protector,
            x,
            attributes,
            self.objective(),
            steps=self.steps,
            batch_size=self.train_batch,
            lr=self.lr,
            seed=self.seed,
            verbose=self.verbose,
        )

    @torch.inference_mode()
    def protect(self, x: Images) -> Images:
        """The generator's face on the [-1, 1] scale.

        Raises:
            IDGuardError: before `fit`.
        """
        if self.protector is None:
            raise IDGuardError(f"{type(self).__name__} has nothing to protect with yet; call fit(x) first")
        return project(self.protector(x).specific, x, self.epsilon)  # `eps` may have become smaller since

    def _check_params(self) -> None:
        super()._check_params()
        self._check_whole(1, "steps", "channels", "train_batch")
        self._check_positive("lr")

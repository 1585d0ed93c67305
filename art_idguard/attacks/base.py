"""Base class of the attacks: ART's conventions around one function from faces to protected faces."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from art.attacks.attack import EvasionAttack
from tqdm import tqdm

from art_idguard.errors import IDGuardError
from art_idguard.estimators.arrays import batches, check_images, check_mask, to_tensor, warn_if_null
from art_idguard.estimators.manipulator import PyTorchManipulator
from art_idguard.images import PixelRange
from art_idguard.types import Images, float32


class ProtectionAttack(EvasionAttack, ABC):
    """An ART attack that makes photos whose forgeries are spoilt; subclasses write `protect`.

    Args:
        estimator: the manipulator under attack; None for attacks that need none.
        batch_size: images at a time.
        verbose: show a progress bar.
        summary_writer: as in ART; it notes the estimator's loss on each batch.

    Raises:
        EstimatorError: another kind of estimator.
        ValueError: a parameter has a wrong type or value, or a summary writer has no estimator to ask.
        IDGuardError: ART's own summary writer was asked for, and tensorboardX is not installed.
    """

    attack_params = [*EvasionAttack.attack_params, "batch_size", "verbose"]  # noqa: RUF012 - ART's convention
    _estimator_requirements: tuple[Any, ...] = (PyTorchManipulator,)

    def __init__(
        self,
        estimator: PyTorchManipulator | None,
        *,
        batch_size: int = 32,
        verbose: bool = True,
        summary_writer: Any = False,
    ) -> None:
        try:
            super().__init__(estimator=estimator, summary_writer=summary_writer)
        except ModuleNotFoundError as error:
            raise IDGuardError(
                f"ART's summary writer needs {error.name}: pip install {error.name}, or pass your own SummaryWriter"
            ) from error
        self.batch_size = batch_size
        self.verbose = verbose
        ProtectionAttack._check_params(self)

    @abstractmethod
    def protect(self, x: Images) -> Images:
        """Protected faces for faces on the [-1, 1] scale, on the attack's device."""

    @float32()
    def generate(
        self, x: np.ndarray, y: np.ndarray | None = None, *, mask: np.ndarray | None = None, **_: Any
    ) -> np.ndarray:
        """Protected images.

        Args:
            x: (N, 3, H, W) within the estimator's `clip_values`, by default [0, 1].
            y: not used.
            mask: broadcastable to x, within [0, 1]; the perturbation is multiplied by it.

        Returns:
            Images with the shape, range and float type of x (float16 rounds what it is given).

        Raises:
            IDGuardError: see `arrays.check_images`; a mask of another shape or range; or a result that is not finite.
        """
        x = check_images(x, self.clip_values)
        mask = check_mask(mask, x)
        pixels = self.clip_values
        protected = np.empty_like(x, order="C")
        with tqdm(total=len(x), desc=type(self).__name__, unit="image", disable=not self.verbose) as bar:
            for i, part in enumerate(batches(x, self.batch_size)):
                images = self.protect(pixels.signed(to_tensor(x[part], self.device))).detach()
                protected[part] = pixels.unsigned(images).clamp(*pixels).cpu().numpy()
                if not np.isfinite(protected[part]).all():
                    raise IDGuardError(
                        f"{type(self).__name__} made images that are not finite: its weights, or what the model "
                        "returns, hold NaN or infinity"
                    )
                if mask is not None:
                    masked = x[part] + (protected[part] - x[part]) * mask[part].astype(x.dtype)
                    protected[part] = masked.clip(*pixels)
                self._summarise(i, x[part], protected[part])
                bar.update(len(images))
        if self.summary_writer is not None:
            self.summary_writer.reset()
        warn_if_null(type(self).__name__, x, protected, clip_values=self.clip_values)
        return protected

    @property
    def clip_values(self) -> PixelRange:
        """Lowest and highest value of a pixel: the estimator's, or (0, 1) without one."""
        return PixelRange() if self.estimator is None else self.estimator.pixel_range

    @property
    def device(self) -> torch.device:
        """Where the images are protected: the estimator's device, or the GPU if there is one."""
        if self.estimator is not None:
            return self.estimator.device
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def _summarise(self, batch_id: int, x: np.ndarray, protected: np.ndarray) -> None:
        if self.summary_writer is not None and self.estimator is not None:
            y = self.estimator.predict(x)
            self.summary_writer.update(batch_id, 0, estimator=self.estimator, x=protected, y=y)

    def _check_params(self) -> None:
        super()._check_params()
        if not isinstance(self.batch_size, int) or isinstance(self.batch_size, bool) or self.batch_size < 1:
            raise ValueError(f"`batch_size` has to be a positive int, found {self.batch_size!r}")
        if not isinstance(self.verbose, bool):
            raise ValueError(f"`verbose` has to be a bool, found {self.verbose!r}")
        if self.summary_writer is not None and self.estimator is None:
            raise ValueError("`summary_writer` notes the loss of an estimator, and there is none; give `estimator`")

"""Base class of the attacks: ART's conventions around one function from faces to protected faces."""

from abc import ABC, abstractmethod
from typing import Any, TypedDict

import numpy as np
import torch
from art.attacks.attack import EvasionAttack
from art.exceptions import EstimatorError
from tqdm import tqdm

from art_idguard.errors import IDGuardError
from art_idguard.estimators.arrays import batches, check_images, check_mask, to_tensor, warn_if_null
from art_idguard.estimators.manipulator import PyTorchManipulator
from art_idguard.images import PixelRange
from art_idguard.types import Images, float32


class CommonParams(TypedDict, total=False):
    """What every attack takes, besides its own parameters.

    Attributes:
        batch_size: images at a time, of CMUA in training as well. Default: 32, of CMUA 64, of ID-Guard on a CPU 4.
        verbose: show a progress bar. Default: True.
        summary_writer: as in ART; it notes the estimator's loss on each batch. Default: False, none.
    """

    batch_size: int | None
    verbose: bool
    summary_writer: Any


ADVICE = (
    "These attacks spoil forgeries of faces, so the estimator is a face manipulator: "
    'PyTorchManipulator.from_pretrained("stargan"), or PyTorchManipulator(your_image_to_image_module). IDGuardAttack() '
    "needs none; to protect what a classifier sees, give the classifier an IDGuardPreprocessor."
)


class ProtectionAttack(EvasionAttack, ABC):
    """An ART attack that makes photos whose forgeries are spoilt; subclasses write `protect`.

    Args:
        estimator: the manipulator under attack; None for attacks that need none.
        batch_size: see `CommonParams`, and likewise:
        verbose: show a progress bar.
        summary_writer: as in ART.

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
        batch_size: int | None = None,
        verbose: bool = True,
        summary_writer: Any = False,
    ) -> None:
        try:
            super().__init__(estimator=estimator, summary_writer=summary_writer)
        except EstimatorError as error:
            error.message += " " + ADVICE
            raise
        except ModuleNotFoundError as error:
            raise IDGuardError(
                f"ART's summary writer needs {error.name}: pip install {error.name}, or pass your own SummaryWriter"
            ) from error
        self.batch_size = self._default_batch() if batch_size is None else batch_size
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

    def _default_batch(self) -> int:
        return 32

    def _check_params(self) -> None:
        super()._check_params()
        self._check_whole(1, "batch_size")
        self._check_flag("verbose")
        if self.summary_writer is not None and self.estimator is None:
            raise ValueError("`summary_writer` notes the loss of an estimator, and there is none; give `estimator`")

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

    def _check_flag(self, name: str) -> None:
        if not isinstance(getattr(self, name), bool):
            raise ValueError(f"`{name}` has to be a bool, found {getattr(self, name)!r}")

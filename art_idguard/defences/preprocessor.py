"""ID-Guard as an ART preprocessing defence."""

from copy import deepcopy
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from art.defences.preprocessor.preprocessor import PreprocessorPyTorch
from jaxtyping import Float
from torch import Tensor

from art_idguard.errors import IDGuardError
from art_idguard.estimators.arrays import batches, check_images, to_tensor
from art_idguard.images import PixelRange
from art_idguard.perturbation import Protector


class IDGuardPreprocessor(PreprocessorPyTorch):
    """Eq. (14) before a model: it sees x + G(cat(x, delta_p)) instead of x.

    Differentiable, so that attacks reach through it: in `PyTorchManipulator(preprocessing_defences=...)`, in ART's
    `PyTorchClassifier`, or wherever ART takes a preprocessor.

    Examples:
        >>> x = np.full((1, 3, 64, 64), 0.5, np.float32)
        >>> protected, labels = IDGuardPreprocessor()(x, np.array([7]))
        >>> protected.shape, labels
        ((1, 3, 64, 64), array([7]))

    Args:
        protector: a trained protector, by default the one that ships; a frozen copy of it is used.
        clip_values: lowest and highest value of a pixel, those of the estimator.
        batch_size: images at a time in `__call__`.
        apply_fit: protect images that a model is fitted to.
        apply_predict: protect images that a model is applied to.
        device_type: "gpu" (where there is one) or "cpu".

    Raises:
        ValueError: a parameter has a wrong type or value.
    """

    params = ["clip_values", "batch_size"]  # noqa: RUF012 - ART's convention
    BESIDE = 0.1  # of the range: attacks and jitter step outside of it a little, images of another range by far

    def __init__(
        self,
        protector: Protector | None = None,
        *,
        clip_values: tuple[float, float] = (0.0, 1.0),
        batch_size: int = 32,
        apply_fit: bool = False,
        apply_predict: bool = True,
        device_type: str = "gpu",
    ) -> None:
        super().__init__(device_type=device_type, is_fitted=True, apply_fit=apply_fit, apply_predict=apply_predict)
        if not isinstance(protector, (Protector, type(None))):
            raise ValueError(f"`protector` has to be a Protector, found {type(protector).__name__}")
        self.clip_values = clip_values
        self.batch_size = batch_size
        self._check_params()
        own = Protector.from_pretrained() if protector is None else deepcopy(protector)
        self.protector = own.to(self.device).eval().requires_grad_(False)

    @classmethod
    def from_pretrained(cls, model: str | Path | None = None, *, revision: str | None = None, **options: Any) -> Self:
        """The preprocessor with a trained protector.

        Args:
            model: folder or Hub id; by default the protector that ships.
            revision: of the Hub model.
            options: as the class takes them.

        Raises:
            WeightsError: there are no weights, or they are damaged or do not fit.
        """
        return cls(Protector.from_pretrained(model, revision=revision), **options)

    def forward(self, x: Float[Tensor, "B 3 H W"], y: Any = None) -> tuple[Float[Tensor, "B 3 H W"], Any]:
        """Eq. (14) within `clip_values`, differentiable by x; y is passed on.

        Raises:
            IDGuardError: x has another range.
        """
        pixels = PixelRange(*map(float, self.clip_values))
        signed = pixels.signed(x.to(self.protector.prior))
        if signed.numel() and signed.abs().max() > 1 + 2 * self.BESIDE:
            raise IDGuardError(
                f"expected pixels within [{pixels.low:g}, {pixels.high:g}], found [{x.min():.3g}, {x.max():.3g}]; "
                "give the preprocessor the clip_values of the estimator"
            )
        return pixels.unsigned(self.protector(signed.clamp(-1, 1)).specific).to(x.dtype), y

    def __call__(self, x: np.ndarray, y: Any = None) -> tuple[np.ndarray, Any]:
        """Protected images with the shape, range and float type of x; y is passed on.

        Raises:
            IDGuardError: see `arrays.check_images`.
        """
        x = check_images(x, self.clip_values)
        protected = np.empty_like(x, order="C")
        with torch.no_grad():
            for part in batches(x, self.batch_size):
                images = to_tensor(x[part], self.device)
                protected[part] = self.forward(images)[0].cpu().numpy()
        return protected, y

    def _check_params(self) -> None:
        if np.shape(self.clip_values) != (2,) or not np.isfinite(self.clip_values).all():
            raise ValueError(f"`clip_values` has to be a pair, lowest and highest, found {self.clip_values!r}")
        if not self.clip_values[0] < self.clip_values[1]:
            raise ValueError(f"`clip_values` has to be (lowest, highest), found {self.clip_values!r}")
        if not isinstance(self.batch_size, int) or isinstance(self.batch_size, bool) or self.batch_size < 1:
            raise ValueError(f"`batch_size` has to be a positive int, found {self.batch_size!r}")

"""A minimal estimator of image-to-image models for ART, in ART's own style; see art-upstream.md."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from art.estimators.pytorch import PyTorchEstimator


class PyTorchImageToImage(PyTorchEstimator):
    """
    Estimator of a PyTorch model that maps images to images of the same shape, such as a GAN that edits faces.

    Its loss is the mean squared difference between the model's output and `y`. Attacks without a target take the output
    for the clean images as `y`.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        input_shape: tuple[int, ...],
        clip_values: tuple[float, float] = (0.0, 1.0),
        jitter: float = 1e-3,
        preprocessing_defences: Any = None,
        postprocessing_defences: Any = None,
        preprocessing: Any = (0.0, 1.0),
        device_type: str = "gpu",
    ) -> None:
        """
        Initialization.

        :param model: PyTorch model from images of shape NCHW within `clip_values` to the same.
        :param input_shape: Shape of one image.
        :param clip_values: Lowest and highest value of a pixel.
        :param jitter: Sigma of a fixed noise in units of the images, beside which `loss_gradient` looks: at the clean
                       images the loss has no gradient.
        :param preprocessing_defences: Preprocessing defence(s) to be applied.
        :param postprocessing_defences: Postprocessing defence(s) to be applied.
        :param preprocessing: Tuple of subtrahend and divisor.
        :param device_type: `cpu` or `gpu`.
        """
        super().__init__(
            model=model,
            clip_values=clip_values,
            channels_first=True,
            preprocessing_defences=preprocessing_defences,
            postprocessing_defences=postprocessing_defences,
            preprocessing=preprocessing,
            device_type=device_type,
        )
        self._input_shape = input_shape
        self.jitter = jitter
        self._model.to(self._device).eval()

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one image."""
        return self._input_shape

    def predict(self, x: np.ndarray, batch_size: int = 128, **kwargs: Any) -> np.ndarray:
        """Outputs of the model, with the shape of `x`."""
        x, _ = self._apply_preprocessing(x, y=None, fit=False)
        with torch.no_grad():
            parts = [self._model(self._tensor(x[i : i + batch_size])) for i in range(0, len(x), batch_size)]
        return self._apply_postprocessing(torch.cat(parts).cpu().numpy(), fit=False)

    def compute_loss(self, x: np.ndarray, y: np.ndarray, **kwargs: Any) -> np.ndarray:
        """Mean squared difference of each output from `y`, of shape (N,)."""
        return np.square(self.predict(x) - y).mean(axis=(1, 2, 3))

    def loss_gradient(self, x: np.ndarray, y: np.ndarray, **kwargs: Any) -> np.ndarray:
        """Gradient of each image's loss by `x`, with the shape of `x`."""
        noise = np.random.default_rng(0).normal(0, self.jitter, x.shape[1:]).astype(x.dtype)
        x_preprocessed, y = self._apply_preprocessing(x + noise, y=y, fit=False)
        inputs = self._tensor(x_preprocessed).requires_grad_()
        loss = (self._model(inputs) - self._tensor(y)).square().mean(dim=(1, 2, 3)).sum()
        (gradient,) = torch.autograd.grad(loss, inputs)
        return self._apply_preprocessing_gradient(x, gradient.cpu().numpy())

    def fit(self, x: np.ndarray, y: np.ndarray, batch_size: int = 128, nb_epochs: int = 20, **kwargs: Any) -> None:
        """Not available: such models are rarely fitted to pairs of images."""
        raise NotImplementedError

    def get_activations(
        self, x: np.ndarray, layer: int | str, batch_size: int = 128, framework: bool = False
    ) -> np.ndarray:
        """Not available in this version."""
        raise NotImplementedError

    def _tensor(self, x: np.ndarray) -> torch.Tensor:
        return torch.tensor(x, dtype=torch.float32, device=self._device)

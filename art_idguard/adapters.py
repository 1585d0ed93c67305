"""A manipulator, seen by attacks on classifiers: is the forgery of this image intact or disrupted?"""

from typing import Any

import numpy as np
import torch
from art.estimators.classification import PyTorchClassifier
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from art_idguard.errors import IDGuardError
from art_idguard.estimators import PyTorchManipulator
from art_idguard.metrics import L2_THRESHOLD


class DisruptionLogits(nn.Module):
    """The two logits of versions of one image: [threshold, distance of its forgery from the clean one's] x scale.

    The class "disrupted" wins where the distance exceeds the threshold: half of the paper's DSR test. This is what
    attacks on classifiers need, ART's and those of torchattacks.

    Args:
        estimator: the manipulator.
        x: the one clean image (1, 3, H, W), within the estimator's `clip_values`.
        threshold: on the [-1, 1] scale.
        scale: of the logits; it keeps soft-max and margins away from rounding.

    Raises:
        IDGuardError: not exactly one image.
    """

    reference: Tensor
    DIFFERENT = 0.1  # of the range: mean difference of 8 x 8 thumbnails, above any noise in a small ball

    def __init__(
        self, estimator: PyTorchManipulator, x: np.ndarray, *, threshold: float = L2_THRESHOLD, scale: float = 100.0
    ) -> None:
        super().__init__()
        if len(x) != 1:
            raise IDGuardError(
                f"expected one clean image, found {len(x)}: attacks on classifiers mix the images of a batch, and each "
                "has its own reference; make one classifier for each image, or use attacks.ClassifierAttack"
            )
        if not estimator.all_framework_preprocessing:
            raise IDGuardError("a preprocessing defence of this estimator is not made for PyTorch; leave it out")
        self.estimator = estimator
        self.threshold = threshold
        self.scale = scale
        self.register_buffer("reference", torch.from_numpy(estimator.predict(x)).to(estimator.device))

    def forward(self, x: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 2"]:
        """The logits of B versions of the image."""
        x = x.to(self.reference.dtype)  # some of ART's attacks compute in float64
        self.require_one_picture(x)
        distance = self.estimator.distance(x, self.reference.expand_as(x))
        return self.scale * torch.stack([torch.full_like(distance, self.threshold), distance], dim=1)

    def require_one_picture(self, x: Tensor) -> None:
        """Refuse a batch of different pictures.

        Raises:
            IDGuardError: the batch holds pictures that are no versions of each other.
        """
        low, high = (float(v) for v in self.estimator.clip_values)
        thumbnails = F.adaptive_avg_pool2d(x.detach(), 8)
        if ((thumbnails - thumbnails[:1]).abs().mean(dim=(1, 2, 3)) > self.DIFFERENT * (high - low)).any():
            raise IDGuardError(
                f"the batch of {len(x)} holds different pictures, and this classifier knows the reference of one; make "
                "one classifier for each image, or use attacks.ClassifierAttack"
            )


class DisruptionClassifier(PyTorchClassifier):
    """`DisruptionLogits` as an ART classifier with the classes 0 (intact) and 1 (disrupted)."""

    def __init__(self, estimator: PyTorchManipulator, x: np.ndarray, *, threshold: float = L2_THRESHOLD) -> None:
        self.logits = DisruptionLogits(estimator, x, threshold=threshold)
        super().__init__(
            model=self.logits,
            loss=nn.CrossEntropyLoss(),
            input_shape=x.shape[1:],
            nb_classes=2,
            clip_values=tuple(float(v) for v in estimator.clip_values),
            device_type=estimator.device_type,
        )

    def predict(self, x: np.ndarray, *args: Any, **kwargs: Any) -> np.ndarray:
        """Logits (N, 2) of versions of the one image.

        Raises:
            IDGuardError: the images are no versions of each other, whatever the batch size.
        """
        self.logits.require_one_picture(torch.tensor(np.asarray(x, dtype=np.float32)))
        return super().predict(x, *args, **kwargs)

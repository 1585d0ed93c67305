"""A manipulator, seen by attacks on classifiers: is the forgery of this image intact or disrupted?"""

import warnings
from typing import Any

import numpy as np
import torch
from art.estimators.classification import PyTorchClassifier
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from art_idguard.errors import IDGuardError, NullAttackWarning
from art_idguard.estimators.manipulator import PyTorchManipulator
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
        guarded: look out for other pictures. Whoever sees to it that only versions of x come turns this off, for some
            attacks change a picture beyond recognition on their way.

    Raises:
        IDGuardError: not exactly one image; a defence that is not made for PyTorch; a threshold that the clean image
            exceeds by itself, or one so high that the cross entropy has no gradient.
    """

    thumbnail: Tensor
    SATURATED = 60.0  # a difference of logits beyond which gradients of the soft-max leave float32
    # Mean differences of 8 x 8 thumbnails, as shares of the range: two faces of CelebA differ by 0.26 (median; one pair
    # in 1,000 by less than 0.1), PGD with epsilon 0.1 of the range moves one by 0.035, with 0.3 by 0.11.
    DIFFERENT, STRANGE = 0.1, 0.2

    def __init__(
        self,
        estimator: PyTorchManipulator,
        x: np.ndarray,
        *,
        threshold: float = L2_THRESHOLD,
        scale: float = 100.0,
        guarded: bool = True,
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
        self.guarded = guarded
        if scale * threshold > self.SATURATED:
            raise IDGuardError(
                f"scale x threshold = {scale * threshold:g} saturates the soft-max: no attack would find a gradient; "
                f"at most {self.SATURATED:g}"
            )
        clean = torch.tensor(np.asarray(x, dtype=np.float32), device=estimator.device)
        with torch.no_grad():
            forged = estimator.forward(clean)
        self.reference = nn.Parameter(forged, requires_grad=False)  # torchattacks looks for the device of a parameter
        self.register_buffer("thumbnail", F.adaptive_avg_pool2d(clean, 8))
        with torch.no_grad():
            already = float(self.distance(clean))
        if already >= threshold:
            raise IDGuardError(
                f"the clean image counts as disrupted: the estimator's jitter alone moves its forgery by {already:.2g}"
                f", the threshold is {threshold:g}; raise the threshold or lower the jitter"
            )

    def forward(self, x: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 2"]:
        """The logits of B versions of the image.

        Raises:
            IDGuardError: the batch holds another picture.
        """
        x = x.to(self.reference.dtype)  # some of ART's attacks compute in float64
        if self.guarded:
            self.require_one_picture(x)
            if x.requires_grad:  # attacks without gradients begin with noise, far from the image
                self._require_near(x, self.thumbnail, self.STRANGE)
        distance = self.distance(x)
        return self.scale * torch.stack([torch.full_like(distance, self.threshold), distance], dim=1)

    def distance(self, x: Float[Tensor, "B 3 H W"]) -> Float[Tensor, " B"]:
        """How far the forgeries of B versions are from the clean one, on the [-1, 1] scale; see the estimator."""
        return self.estimator.distance(x, self.reference.expand_as(x))

    def require_one_picture(self, x: Tensor) -> None:
        """Refuse a batch of different pictures.

        Raises:
            IDGuardError: the batch holds pictures that are no versions of each other.
        """
        self._require_near(x, F.adaptive_avg_pool2d(x[:1].detach(), 8), self.DIFFERENT)

    def is_near(self, x: Tensor, thumbnail: Tensor, bound: float) -> bool:
        """Whether all pictures look like the thumbnail, within a share of the range."""
        difference = (F.adaptive_avg_pool2d(x.detach(), 8) - thumbnail).abs().mean(dim=(1, 2, 3))
        return bool((difference <= bound * self.estimator.pixel_range.span).all())

    def _require_near(self, x: Tensor, thumbnail: Tensor, bound: float) -> None:
        if not self.is_near(x, thumbnail, bound):
            raise IDGuardError(
                f"the batch of {len(x)} holds another picture (or one changed beyond recognition), and this classifier "
                "knows the reference of one; make one classifier for each image, or use attacks.ClassifierAttack"
            )


class DisruptionClassifier(PyTorchClassifier):
    """`DisruptionLogits` as an ART classifier with the classes 0 (intact) and 1 (disrupted)."""

    def __init__(
        self,
        estimator: PyTorchManipulator,
        x: np.ndarray,
        *,
        threshold: float = L2_THRESHOLD,
        guarded: bool = True,
    ) -> None:
        self.logits = DisruptionLogits(estimator, x, threshold=threshold, guarded=guarded)
        super().__init__(
            model=self.logits,
            loss=nn.CrossEntropyLoss(),
            input_shape=x.shape[1:],
            nb_classes=2,
            clip_values=estimator.pixel_range,
            device_type=estimator.device_type,
        )

    def predict(self, x: np.ndarray, *args: Any, **kwargs: Any) -> np.ndarray:
        """Logits (N, 2) of versions of the one image; warns where they may be of another one.

        Raises:
            IDGuardError: the images are no versions of each other, whatever the batch size.
        """
        logits, images = self.logits, torch.tensor(np.asarray(x, dtype=np.float32))
        if logits.guarded and len(images):
            logits.require_one_picture(images)
            if not logits.is_near(images[:1], logits.thumbnail.cpu(), logits.STRANGE):
                warnings.warn(
                    "these images are far from the one that this classifier was made for (noise, or another picture, "
                    "which counts as disrupted from the start); attacks.ClassifierAttack makes one for each image",
                    NullAttackWarning,
                    stacklevel=2,
                )
        return super().predict(x, *args, **kwargs)

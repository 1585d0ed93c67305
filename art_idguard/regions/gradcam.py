"""Making the heat map m^hm of Eq. (6): where a recogniser looks, by torchcam's Grad-CAM or Grad-CAM++.

A module of its own, since training on prepared faces does without torchcam.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torchcam.methods import GradCAM, GradCAMpp

from art_idguard.recognizers.base import Recognizer
from art_idguard.regions.heatmap import HeatMethod
from art_idguard.types import Frames, Images


class _Scores(nn.Module):
    """From a recogniser's last convolutional features to (B, classes), for torchcam to hook."""

    def __init__(self, recognizer: Recognizer) -> None:
        super().__init__()
        self.recognizer = recognizer
        self.layer = nn.Identity()

    def forward(self, features: Float[Tensor, "B C h w"]) -> Float[Tensor, "B classes"]:
        features = self.layer(features)
        classify = getattr(self.recognizer, "classify", None)
        if classify is not None:
            return classify(features)
        embedding = self.recognizer.head(features)
        return (embedding * F.normalize(embedding.detach(), dim=1)).sum(1, keepdim=True)


class _GradCAMpp(GradCAMpp):
    """With the published weights: torchcam 0.5 loses the division by alpha's denominator."""

    def _get_weights(self, class_idx: int | list[int], scores: Tensor, eps: float = 1e-6, **_: Any) -> list[Tensor]:
        self._backprop(scores, class_idx)
        (g,), (a,) = self.hook_g, self.hook_a
        alpha = g**2 / (2 * g**2 + a.sum((2, 3), keepdim=True) * g**3 + eps)
        return [(alpha * F.relu(g)).sum((2, 3))]


def heat_map(
    images: Images,
    recognizer: Recognizer,
    frame: Frames | None,
    *,
    method: HeatMethod = "grad-cam",
) -> Float[Tensor, "B 1 h w"]:
    """The heat map of Eq. (6) on the recogniser's last feature grid, in its input's coordinates.

    The score that is explained is the likeliest class of the picture (official code), where the
    recogniser has a method `classify`.

    Deviates: a recogniser without classes is asked what makes the face similar to itself: its score
        is the embedding's product with its own direction. The paper and the official code
        have VGGFace only.

    Args:
        images: clean faces on the [-1, 1] scale.
        recognizer: frozen; its parameters' gradients are left alone.
        frame: where the recogniser's crop lies; None shows it the whole picture (official code).
        method: the paper's or the official code's.

    Returns:
        (B, 1, h, w) such as 7x7, float32; each is stretched to [0, 1] (a constant one becomes 0).
    """
    network = _Scores(recognizer)
    with torch.no_grad():
        features = recognizer.feature_map(images, frame)
    extractor = {"grad-cam": GradCAM, "grad-cam++": _GradCAMpp}[method]
    with torch.enable_grad(), extractor(network, "layer") as cam:
        scores = network(features.requires_grad_())
        heat = cam(scores.argmax(1).tolist(), scores, normalized=False)[0][:, None]
    # torchcam's own scaling adds 1e-8 to the range, which dwarfs the heat of an unsure network.
    low, high = heat.amin((2, 3), keepdim=True), heat.amax((2, 3), keepdim=True)
    return ((heat - low) / (high - low).clamp(min=torch.finfo(heat.dtype).tiny)).float()

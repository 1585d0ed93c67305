"""Disruption of forged faces by an attack (section IV-A4), and outputs of a model's layer."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from art_idguard.data.reading import find_landmarks
from art_idguard.images import to_uint8
from art_idguard.metrics import disrupted, forgery_distance
from art_idguard.recognizers.base import Recognizer
from art_idguard.types import Images


class Disruption(NamedTuple):
    """What protecting N images did to their forged faces (section IV-A4).

    Examples:
        >>> Disruption(np.array([0.06, 0.06], np.float32), np.array([0.3, 0.5], np.float32)).dsr
        0.5
    """

    l2_face: Float[np.ndarray, " N"]
    """Eq. (16), on the [-1, 1] scale."""
    similarity: Float[np.ndarray, " N"]
    """Cosine of the embeddings of the two forged faces."""

    @property
    def dsr(self) -> float:
        """Defence success rate: the share of forged faces that are both far and of another identity."""
        spoilt = disrupted(torch.from_numpy(self.l2_face), torch.from_numpy(self.similarity))
        return float(spoilt.double().mean())


def disruption(x: Images, y: Images, y_hat: Images, recognizer: Recognizer) -> Float[Tensor, "2 B"]:
    """L2_face of Eq. (16) and identity similarity of forged faces; NaN where no face is found in the clean image.

    Args:
        x: clean images on the [-1, 1] scale.
        y: their forgeries.
        y_hat: forgeries of the attacked images.
        recognizer: judges identity.
    """
    landmarks = find_landmarks(to_uint8(x).cpu()).to(x.device)
    pair = torch.stack(forgery_distance(y, y_hat, landmarks.nan_to_num(), recognizer))
    return pair.where(landmarks.isfinite().all(dim=(1, 2)), torch.nan).cpu()


@contextmanager
def output_of(model: nn.Module, layer: str) -> Iterator[list[Tensor]]:
    """What a layer returns at each call of the model within the block."""
    outputs: list[Tensor] = []
    handle = model.get_submodule(layer).register_forward_hook(lambda *call: outputs.append(call[2]))
    try:
        yield outputs
    finally:
        handle.remove()

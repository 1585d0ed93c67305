"""The contract of a face recogniser: face -> embedding."""

from abc import ABC, abstractmethod
from typing import ClassVar, Self

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from art_idguard.faces.alignment import align
from art_idguard.hub.model import HubModel
from art_idguard.types import Frames, Images


class Recognizer(HubModel, ABC):
    """Who is it: a frozen network from faces on the [-1, 1] scale to embeddings.

    With `frame` the face is warped to the ArcFace template first (differentiably); the frame comes from
    the clean photo and serves all its manipulated versions. Without one the whole picture is resized,
    as the official ID-Guard code does.

    Examples:
        >>> from art_idguard import recognizers
        >>> recognizers.default()(torch.zeros(2, 3, 128, 128)).shape
        torch.Size([2, 128])
    """

    name: ClassVar[str]
    family = "recognizer"
    size: ClassVar[int]
    """Side of the square input in pixels."""

    @abstractmethod
    def backbone(self, faces: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B C h w"]:
        """The last convolutional features of faces of the right size on the [-1, 1] scale."""

    @abstractmethod
    def head(self, features: Float[Tensor, "B C h w"]) -> Float[Tensor, "B D"]:
        """The embedding of the backbone's features."""

    def crop(self, images: Images, frame: Frames | None = None) -> Float[Tensor, "B 3 S S"]:
        """The network's input: aligned by `frame`, or resized (bilinear, corners aligned).

        On a CPU its channels come last, in which depthwise convolutions in bfloat16 take half the time.
        """
        if frame is not None:
            crop = align(images, frame, self.size)
        else:
            crop = F.interpolate(images, (self.size, self.size), mode="bilinear", align_corners=True)
        return crop.contiguous(memory_format=torch.channels_last) if crop.device.type == "cpu" else crop

    def feature_map(self, images: Images, frame: Frames | None = None) -> Float[Tensor, "B C h w"]:
        """The convolutional features that the official identity loss compares."""
        return self.backbone(self.crop(images, frame))

    def forward(self, images: Images, frame: Frames | None = None) -> Float[Tensor, "B D"]:
        """Embeddings; compare them by cosine."""
        return self.head(self.feature_map(images, frame))

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode: batch statistics would make a face's embedding depend on its neighbours."""
        return super().train(False)


def cosine(a: Float[Tensor, "B D"], b: Float[Tensor, "B D"]) -> Float[Tensor, " B"]:
    """Identity similarity of embeddings, in [-1, 1].

    Examples:
        >>> cosine(torch.tensor([[1.0, 0.0]]), torch.tensor([[-2.0, 0.0]]))
        tensor([-1.])
    """
    return torch.nn.functional.cosine_similarity(a, b, dim=1)

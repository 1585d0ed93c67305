"""SFace (Zhong et al. 2021), the recogniser that ships with the package."""

from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

from art_idguard.recognizers.base import Recognizer
from art_idguard.recognizers.layers import Conv2d, Normalised, PReLU

# Output channels and stride of each depthwise-separable block, as multiples of the stem's width.
_BLOCKS = ((2, 1), (4, 2), (4, 1), (8, 2), (8, 1), (16, 2), *[(16, 1)] * 5, (32, 2), (32, 1))


class SFace(Recognizer):
    """A MobileNetV1-like network with 128-d embeddings (9.64 M parameters).

    Source: the OpenCV Zoo's face_recognition_sface, whose input is RGB (255 x - 127.5) / 128 with
    x in [0, 1].

    Args:
        width: channels of the first convolution.
    """

    name = "sface"
    size = 112

    def __init__(self, *, width: int = 32) -> None:
        super().__init__()
        self.stem = _convolution(3, width, 3)
        channels = [width, *(width * factor for factor, _ in _BLOCKS)]
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(
                    _convolution(before, before, 3, stride=stride, groups=before),
                    _convolution(before, after, 1),
                )
                for (before, after), (_, stride) in zip(pairwise(channels), _BLOCKS, strict=True)
            )
        )
        self.bn1 = nn.BatchNorm2d(channels[-1], eps=2e-5)
        self.fc = nn.Linear(channels[-1] * 7 * 7, 128)
        self.bn_out = nn.BatchNorm1d(128, eps=2e-5)
        self.eval()

    def backbone(self, faces: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B C h w"]:
        """(B, 1024, 7, 7), after the last PReLU."""
        return self.blocks(self.stem(faces * (127.5 / 128)))

    def head(self, features: Float[Tensor, "B C h w"]) -> Float[Tensor, "B D"]:
        """(B, 128)."""
        return self.bn_out(self.fc(self.bn1(features).flatten(1)))


def _convolution(before: int, after: int, kernel: int, *, stride: int = 1, groups: int = 1) -> Normalised:
    return Normalised(
        Conv2d(before, after, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(after, eps=1e-3),
        PReLU(after),
    )

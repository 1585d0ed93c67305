"""MobileFaceNet (Chen et al. 2018), a second recogniser for evaluation."""

from jaxtyping import Float
from torch import Tensor, nn

from art_idguard.recognizers.base import Recognizer
from art_idguard.recognizers.layers import Conv2d, PReLU


class MobileFaceNet(Recognizer):
    """512-d embeddings (1.19 M parameters); BatchNorms are folded into the convolutions.

    Source: the paper's table 1, with the stage names of InsightFace's PyTorch code; input is RGB
    (255 x - 127) / 128, x in [0, 1].

    Args:
        width: channels of the first convolution.
    """

    name = "mobilefacenet"
    size = 112

    def __init__(self, *, width: int = 64) -> None:
        super().__init__()
        self.conv1 = _convolution(3, width, 3, stride=2)
        self.conv2_dw = _convolution(width, width, 3, groups=width)
        self.conv_23 = _bottleneck(width, 2 * width, width, stride=2)
        self.conv_3 = _residuals(4, width, 2 * width)
        self.conv_34 = _bottleneck(width, 4 * width, 2 * width, stride=2)
        self.conv_4 = _residuals(6, 2 * width, 4 * width)
        self.conv_45 = _bottleneck(2 * width, 8 * width, 2 * width, stride=2)
        self.conv_5 = _residuals(2, 2 * width, 4 * width)
        self.conv_6_sep = _convolution(2 * width, 8 * width, 1)
        self.conv_6_dw = nn.Sequential(Conv2d(8 * width, 8 * width, 7, groups=8 * width))
        self.conv_6_pw = nn.Sequential(Conv2d(8 * width, 512, 1))

    def backbone(self, faces: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B C h w"]:
        """(B, 512, 7, 7), before the depthwise convolution that spans it."""
        x = self.conv2_dw(self.conv1((faces * 127.5 + 0.5) / 128))
        x = self.conv_3(self.conv_23(x))
        x = self.conv_4(self.conv_34(x))
        x = self.conv_5(self.conv_45(x))
        return self.conv_6_sep(x)

    def head(self, features: Float[Tensor, "B C h w"]) -> Float[Tensor, "B D"]:
        """(B, 512)."""
        return self.conv_6_pw(self.conv_6_dw(features)).flatten(1)


class _Residual(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


def _convolution(before: int, after: int, kernel: int, *, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(Conv2d(before, after, kernel, stride, kernel // 2, groups=groups), PReLU(after))


def _bottleneck(before: int, middle: int, after: int, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        _convolution(before, middle, 1),
        _convolution(middle, middle, 3, stride=stride, groups=middle),
        nn.Sequential(Conv2d(middle, after, 1)),
    )


def _residuals(count: int, channels: int, middle: int) -> nn.Sequential:
    return nn.Sequential(*(_Residual(*_bottleneck(channels, middle, channels)) for _ in range(count)))

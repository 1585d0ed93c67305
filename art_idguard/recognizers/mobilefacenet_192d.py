"""Another MobileFaceNet (Chen et al. 2018): the judge of identity, which takes part in no training."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from art_idguard.recognizers.base import Recognizer
from art_idguard.recognizers.layers import PReLU


class MobileFaceNet192(Recognizer):
    """192-d embeddings (1.29 M parameters) of a network that was trained in TensorFlow; BatchNorms are folded.

    Source: an app's tflite file, whose convolutions pad as TensorFlow does; input is RGB (255 x - 127.5) / 128,
    x in [0, 1]. The parameters are named after their places in that file's list of operations.

    Args:
        width: channels of the first convolution.
    """

    name = "mobilefacenet_192d"
    size = 112

    def __init__(self, *, width: int = 64) -> None:
        super().__init__()
        stages = ((width, 4, 2), (2 * width, 6, 4), (2 * width, 2, 8))  # channels, residuals, what a halving widens to
        layers = [*_unit(3, width, 3, stride=2), *_unit(width, width, 3, groups=width), _Convolution(width, width, 1)]
        for before, (channels, residuals, widened) in zip((width, width, 2 * width), stages, strict=True):
            layers += _bottleneck(before, widened * width, channels, stride=2)
            for _ in range(residuals):
                layers += [_Remember(), *_bottleneck(channels, 2 * channels, channels), _Add()]
        layers += _unit(2 * width, 8 * width, 1)
        self.features = len(layers)
        layers += [nn.Conv2d(8 * width, 8 * width, 7, groups=8 * width), nn.Conv2d(8 * width, 8 * width, 1)]
        self.m = nn.Sequential(*layers, nn.Conv2d(8 * width, 192, 1))

    def backbone(self, faces: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B C h w"]:
        """(B, 512, 7, 7), before the depthwise convolution that spans it."""
        x, remembered = faces * (127.5 / 128), faces
        for layer in list(self.m)[: self.features]:
            if isinstance(layer, _Remember):
                remembered = x
            else:
                x = x + remembered if isinstance(layer, _Add) else layer(x)
        return x

    def head(self, features: Float[Tensor, "B C h w"]) -> Float[Tensor, "B D"]:
        """(B, 192)."""
        return self.m[self.features :](features).flatten(1)


class _Remember(nn.Identity):
    """Where a residual's shortcut begins."""


class _Add(nn.Identity):
    """Where it ends."""


class _Convolution(nn.Conv2d):
    """Padded as TensorFlow's SAME: an odd pixel goes to the right and below."""

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        kernel, stride = self.kernel_size[0], self.stride[0]
        pads = [max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in (x.shape[3], x.shape[2])]
        return super().forward(F.pad(x, [side for pad in pads for side in (pad // 2, pad - pad // 2)]))


def _unit(before: int, after: int, kernel: int, *, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    return [_Convolution(before, after, kernel, stride, groups=groups), PReLU(after)]


def _bottleneck(before: int, middle: int, after: int, *, stride: int = 1) -> list[nn.Module]:
    widen = _unit(before, middle, 1)
    return [*widen, *_unit(middle, middle, 3, stride=stride, groups=middle), _Convolution(middle, after, 1)]

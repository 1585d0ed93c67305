"""ArcFace: the official ID-Guard's recogniser, an SE-IR-ResNet (Deng et al. 2019)."""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from art_idguard.recognizers.base import Recognizer
from art_idguard.recognizers.layers import PReLU

Normalisation = Literal["none", "imagenet"]


class ArcFace(Recognizer):
    """Improved residual network with squeeze-and-excitation, 512-d embeddings (52.2 M parameters).

    Source: `resnet101` of foamliu/InsightFace-v2, whose entry names it keeps, as the official
    ID-Guard does. Its dropout is left out: it does nothing in a frozen network.

    Args:
        blocks: residual blocks of the four stages; (3, 4, 6, 3) is the 50-layer network.
        width: channels of the first stage.
        normalisation: "none" feeds faces on the [-1, 1] scale, as the official ID-Guard does;
            "imagenet" subtracts ImageNet's mean and divides by its deviation, as in the weights'
            training. The default is "none" because the official losses were computed so; absolute
            similarities then differ from ArcFace's usual ones.
    """

    name = "arcface"
    size = 112
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        *,
        blocks: Sequence[int] = (3, 4, 23, 3),
        width: int = 64,
        normalisation: Normalisation = "none",
    ) -> None:
        super().__init__()
        imagenet = normalisation == "imagenet"  # its statistics on the [-1, 1] scale: 2 mean - 1, 2 std
        mean = [-0.03, -0.088, -0.188] if imagenet else [0.0] * 3
        std = [0.458, 0.448, 0.45] if imagenet else [1.0] * 3
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)
        self.conv1 = nn.Conv2d(3, width, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.prelu = PReLU()
        self.maxpool = nn.MaxPool2d(2)
        first, second, third, fourth = blocks
        self.layer1 = _stage(width, width, first, stride=1)
        self.layer2 = _stage(width, 2 * width, second, stride=2)
        self.layer3 = _stage(2 * width, 4 * width, third, stride=2)
        self.layer4 = _stage(4 * width, 8 * width, fourth, stride=2)
        self.bn2 = nn.BatchNorm2d(8 * width)
        self.fc = nn.Linear(8 * width * 7 * 7, 512)
        self.bn3 = nn.BatchNorm1d(512)
        self.eval()

    def backbone(self, faces: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B C h w"]:
        """(B, 512, 7, 7), after the last BatchNorm: what the official identity loss compares."""
        x = self.conv1((faces - self.mean) / self.std)
        x = self.maxpool(self.prelu(self.bn1(x)))
        return self.bn2(self.layer4(self.layer3(self.layer2(self.layer1(x)))))

    def head(self, features: Float[Tensor, "B C h w"]) -> Float[Tensor, "B D"]:
        """(B, 512)."""
        return self.bn3(self.fc(features.flatten(1)))


class _Block(nn.Module):
    """BN, conv, BN, PReLU, conv, BN, SE beside the identity; both activations share one PReLU."""

    def __init__(self, before: int, after: int, *, stride: int) -> None:
        super().__init__()
        self.bn0 = nn.BatchNorm2d(before)
        self.conv1 = nn.Conv2d(before, before, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(before)
        self.prelu = PReLU()
        self.conv2 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.downsample = nn.Sequential()
        if stride != 1 or before != after:
            self.downsample.append(nn.Conv2d(before, after, 1, stride, bias=False))
            self.downsample.append(nn.BatchNorm2d(after))
        self.se = _SqueezeExcitation(after)

    def forward(self, x: Tensor) -> Tensor:
        y = self.prelu(self.bn1(self.conv1(self.bn0(x))))
        return self.prelu(self.se(self.bn2(self.conv2(y))) + self.downsample(x))


class _SqueezeExcitation(nn.Module):
    def __init__(self, channels: int, *, reduction: int = 16) -> None:
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(channels, channels // reduction),
            PReLU(),
            nn.Linear(channels // reduction, channels),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.fc(x.mean(dim=(2, 3)))[:, :, None, None]


def _stage(before: int, after: int, blocks: int, *, stride: int) -> nn.Sequential:
    first = _Block(before, after, stride=stride)
    return nn.Sequential(first, *(_Block(after, after, stride=1) for _ in range(blocks - 1)))

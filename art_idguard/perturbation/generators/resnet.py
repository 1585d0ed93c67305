"""The ResNet generator, the paper's choice (section IV-C4, Table IV: 7,850,819 parameters)."""

from collections.abc import Callable
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from art_idguard.perturbation.generators.base import Generator, initialise

NORMS: dict[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm2d,
    "instance": nn.InstanceNorm2d,
}


def _stage(layer: nn.Conv2d | nn.ConvTranspose2d, norm: str, activation: nn.Module) -> list[nn.Module]:
    return [layer, NORMS[norm](layer.out_channels), activation]


class Residual(nn.Module):
    """x + norm(conv(ReLU(norm(conv(x)))))."""

    def __init__(self, channels: int, norm: str) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(2):
            conv = nn.Conv2d(channels, channels, 3, bias=norm == "instance")
            layers += [nn.ReflectionPad2d(1), *_stage(conv, norm, nn.ReLU(inplace=True))]
        self.conv_block = nn.Sequential(*layers[:-1])  # no activation after the second

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """The input plus what the block learnt."""
        return x + self.conv_block(x)


class ResnetGenerator(Generator):
    """The ResNet of Generative Adversarial Perturbations (Poursaeed et al., CVPR 2018).

    CycleGAN's resnet_6blocks, with SELU outside the residual blocks. Layout and parameter names of
    ZOMIN28/ID-Guard ac8f46e634, so that the official AdvG.pth loads.

    Args:
        channels: width of the first layer.
        blocks: residual blocks.
        norm: "batch" as published, or "instance" (7,847,107 parameters) for small batches.
    """

    name: ClassVar[str] = "resnet"

    # Two halvings, and reflection needs two pixels of what is left.
    multiple = 8

    def __init__(self, *, channels: int = 64, blocks: int = 6, norm: str = "batch") -> None:
        super().__init__()
        c, bias = channels, norm == "instance"

        def stage(layer: nn.Conv2d | nn.ConvTranspose2d) -> list[nn.Module]:
            return _stage(layer, norm, nn.SELU(inplace=True))

        def up(width: int) -> nn.ConvTranspose2d:
            return nn.ConvTranspose2d(2 * width, width, 3, stride=2, padding=1, output_padding=1, bias=bias)

        self.model0 = nn.Sequential(
            nn.ReflectionPad2d(3),
            *stage(nn.Conv2d(6, c, 7, bias=bias)),
            *stage(nn.Conv2d(c, 2 * c, 3, stride=2, padding=1, bias=bias)),
            *stage(nn.Conv2d(2 * c, 4 * c, 3, stride=2, padding=1, bias=bias)),
            *(Residual(4 * c, norm) for _ in range(blocks)),
            *stage(up(2 * c)),
            *stage(up(c)),
            nn.ReflectionPad2d(3),
            nn.Conv2d(c, 3, 7),
            nn.Tanh(),
        )
        initialise(self)

    def forward(self, x: Float[Tensor, "B 6 H W"]) -> Float[Tensor, "B 3 H W"]:
        """A perturbation in (-1, 1), the tanh of the network."""
        return self.model0(x)

"""The UNet generator (section IV-C4, Table IV: 54,414,595 parameters)."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from art_idguard.perturbation.generators.base import Generator, initialise

WIDTHS = (1, 2, 4, 8, 8, 8, 8, 8)
"""Of the eight halvings' outputs, in multiples of the first."""


class UNetGenerator(Generator):
    """The UNet of Generative Adversarial Perturbations (Poursaeed et al., CVPR 2018).

    Layers of one width share one BatchNorm, which is why the count differs from pix2pix's unet_256.
    Layout and parameter names of ZOMIN28/ID-Guard ac8f46e634. Eight halvings: made for 256 px.

    Args:
        channels: width of the first layer.
    """

    name: ClassVar[str] = "unet"
    multiple = 2 ** len(WIDTHS)

    def __init__(self, *, channels: int = 64) -> None:
        super().__init__()
        widths = [channels * w for w in WIDTHS]
        for i, (before, after) in enumerate(zip([6, *widths], widths, strict=False), 1):
            self.add_module(f"conv{i}", nn.Conv2d(before, after, 4, stride=2, padding=1))
        # Below the bottleneck every input is a skip connection and as many channels again.
        inputs = [widths[-1], *(2 * w for w in widths[-2::-1])]
        for i, (before, after) in enumerate(zip(inputs, [*widths[-2::-1], 3], strict=True), 1):
            self.add_module(f"dconv{i}", nn.ConvTranspose2d(before, after, 4, stride=2, padding=1))
        self.norm, self.norm2, self.norm4, self.norm8 = (nn.BatchNorm2d(channels * w) for w in (1, 2, 4, 8))
        initialise(self)

    def forward(self, x: Float[Tensor, "B 6 H W"]) -> Float[Tensor, "B 3 H W"]:
        """A perturbation in (-1, 1), the tanh of the network."""
        norms = {1: self.norm, 2: self.norm2, 4: self.norm4, 8: self.norm8}
        depth = len(WIDTHS)
        skips = []
        for i, width in enumerate(WIDTHS, 1):
            x = self.get_submodule(f"conv{i}")(x)
            if 1 < i < depth:
                x = norms[width](x)
            if i < depth:
                # The official activation works in place, so the skip connections carry it too.
                x = F.leaky_relu(x, 0.2)
                skips.append(x)
        for i, width in enumerate(WIDTHS[-2::-1], 1):
            x = norms[width](self.get_submodule(f"dconv{i}")(F.selu(x)))
            if i <= 3:
                x = F.dropout(x, 0.5, self.training)
            x = torch.cat((x, skips.pop()), 1)
        return self.get_submodule(f"dconv{depth}")(F.selu(x)).tanh()

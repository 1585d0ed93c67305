"""The contract of a perturbation generator G, Eq. (14), and the official initialisation."""

from abc import ABC, abstractmethod
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn


class Generator(nn.Module, ABC):
    """From cat(face, prior perturbation), 6 channels, to a perturbation before its bound."""

    name: ClassVar[str]
    width: ClassVar[int] = 64
    """`channels` as published, or of our own design: what other widths are a share of."""

    multiple: int
    """Height and width of the input are multiples of this; `Protector` pads other sizes."""

    @abstractmethod
    def forward(self, x: Float[Tensor, "B 6 H W"]) -> Float[Tensor, "B 3 H W"]:
        """A perturbation in (-1, 1), the tanh of the network."""


def initialise(network: nn.Module) -> None:
    """The official start: convolutions N(0, 0.02), BatchNorm weights N(1, 0.02), biases 0."""
    if next(network.parameters()).is_meta:  # torch would import its compiler for that, which takes seconds
        return
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0, 0.02)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1, 0.02)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)

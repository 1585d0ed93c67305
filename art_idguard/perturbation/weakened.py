"""A protector at a share of its strength."""

from torch import nn

from art_idguard.perturbation.protector import Protector
from art_idguard.types import Images, Protected


class Weakened(Protector):
    """A protector at a share of its strength: its perturbations times `strength`, so epsilon times `strength`.

    The product is rounded to 8-bit levels only afterwards, by `photos.protect_photo`.
    """

    def __init__(self, protector: Protector, strength: float) -> None:
        nn.Module.__init__(self)  # the weights are the other's
        self.full, self.prior = protector, protector.prior
        self.strength, self.epsilon = strength, strength * protector.epsilon

    def forward(self, x: Images) -> Protected:
        """Both protected versions, as x + strength * (protected - x)."""
        return Protected(*(x + self.strength * (protected - x) for protected in self.full(x)))

"""A protector at a share of its strength."""

from typing import Any, NoReturn

from torch import nn

from art_idguard.errors import IDGuardError
from art_idguard.perturbation.protector import Perturbation, Protector
from art_idguard.pixels import require_strength
from art_idguard.types import Images, Protected


class WeakenedProtector(Protector):
    """A protector at a share of its strength: less is seen, and less is protected.

    Its perturbations are the other's times `strength`, so its bound is epsilon times `strength`. The product is rounded
    to 8-bit levels only afterwards, by `photos.protect_photo`.

    Examples:
        >>> weakened = WeakenedProtector(Protector.from_pretrained(), 0.5)
        >>> weakened.epsilon
        0.025

    Args:
        protector: also a refined one.
        strength: in (0, 1].

    Raises:
        IDGuardError: another strength.
    """

    def __init__(self, protector: Protector, strength: float) -> None:
        require_strength(strength)
        nn.Module.__init__(self)  # the weights are the other's
        self.full, self.prior = protector, protector.prior
        self.strength, self.epsilon = strength, strength * protector.epsilon
        self.train(protector.training)

    def forward(self, x: Images) -> Protected:
        """Both protected versions, as x + strength * (protected - x)."""
        return Protected(*(x + self.strength * (protected - x) for protected in self.full(x)))

    def universal(self, x: Images) -> Perturbation:
        """P-Pert times the strength."""
        return self.strength * self.full.universal(x)

    def save_pretrained(self, *_: Any, **__: Any) -> NoReturn:
        """Raises IDGuardError: there are no weights of its own."""
        raise IDGuardError("a weakened protector has no weights of its own; save the one behind it, .full")

"""Visibility as a constraint: a perturbation without low frequencies, with less colour, fading at the edge.

Under one and the same bound the eye sees a cast over the whole face and hardly sees a fine pattern in brightness. So a
perturbation loses its low frequencies (delta minus its box blur) and some of its colour before it is bounded.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from art_idguard.errors import IDGuardError
from art_idguard.images import box_blur
from art_idguard.types import Images

Perturbation = Float[Tensor, "B 3 H W"]

GAIN = 2.0
"""Slope of the last bound: what lay at the bound before stays at tanh(2) = 0.96 of it, and keeps a gradient."""


@dataclass(frozen=True)
class Visibility:
    """What of a perturbation may be seen; the defaults leave it as it is, as the paper does.

    Examples:
        >>> cast = torch.full((1, 3, 32, 32), 0.05)  # one colour over all
        >>> bool(Visibility(lowpass=9).limit(cast, torch.zeros_like(cast), 0.05).abs().max() < 1e-6)
        True

    Args:
        lowpass: side in pixels of the box blur that is taken away of it, odd; 0 takes nothing.
        chroma: share of its colour that stays, 0 to 1: at 0 red, green and blue change alike.
        fade: width in pixels over which it falls to nothing at the picture's edge.

    Raises:
        IDGuardError: a number out of its range.
    """

    lowpass: int = 0
    chroma: float = 1.0
    fade: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.lowpass <= 255 or (self.lowpass and self.lowpass % 2 == 0):
            raise IDGuardError(f"lowpass is {self.lowpass}; expected an odd number of pixels up to 255, or 0")
        if not 0 <= self.chroma <= 1:
            raise IDGuardError(f"chroma is {self.chroma}; expected a share between 0 and 1")
        if self.fade < 0:
            raise IDGuardError(f"fade is {self.fade}; expected 0 pixels or more")

    def limit(self, perturbation: Perturbation, x: Images, epsilon: float) -> Perturbation:
        """The perturbation of the faces x without what may not be seen, within epsilon; differentiable.

        A grey photo stays grey where `chroma` is below 1.
        """
        if self == Visibility():
            return perturbation
        brightness = perturbation.mean(dim=1, keepdim=True)
        colour = self.chroma * _is_coloured(x) if self.chroma < 1 else 1.0
        perturbation = brightness + colour * (perturbation - brightness)
        if self.lowpass:
            perturbation = perturbation - box_blur(perturbation, self.lowpass)
        return epsilon * (GAIN / epsilon * perturbation).tanh() * self._window(perturbation)

    def _window(self, like: Perturbation) -> Float[Tensor, "H W"] | float:
        if not self.fade:
            return 1.0
        rise = [
            torch.arange(1, side + 1, device=like.device, dtype=like.dtype).div(self.fade + 1).clamp(max=1)
            for side in like.shape[-2:]
        ]
        down, across = (side.minimum(side.flip(0)) for side in rise)
        return down[:, None] * across


UNNOTICED = Visibility(lowpass=9, chroma=0.25)
"""No cast and little colour: at epsilon 0.05 CIEDE2000 in the face is about 2 where every pixel is at the bound."""


def _is_coloured(x: Images) -> Float[Tensor, "B 1 1 1"]:
    """1 for a picture with colour, 0 for a grey one."""
    return (x.amax(1) > x.amin(1)).any(dim=(1, 2)).to(x)[:, None, None, None]

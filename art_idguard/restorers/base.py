"""The contract of a restorer, and a manipulator whose forgeries are restored."""

from collections.abc import Callable

from torch import nn

from art_idguard.faces.alignment import celeba_landmarks
from art_idguard.manipulators.base import Manipulator
from art_idguard.regions import component_mask
from art_idguard.types import Attributes, Edit, Images, Manipulation, Maps

Restorer = Callable[[Images, Maps], Images]
"""Fills pictures on the [-1, 1] scale where their mask is over a half, from what is around it alone."""


class Restored(Manipulator):
    """A manipulator whose forgeries are inpainted at eyes, brows, nose and mouth, m^bin of Eq. (5).

    Deviates: the paper does not say which part is masked. It is the one that the protection aims at, and lies where
    CelebA's framing puts it, in which all faces are.
    """

    def __init__(self, manipulator: Manipulator, restorer: Restorer) -> None:
        nn.Module.__init__(self)  # the weights are the other's
        self.manipulator, self.restorer = manipulator, restorer

    def edits(self, attributes: Attributes) -> tuple[Edit, ...]:
        """The manipulator's."""
        return self.manipulator.edits(attributes)

    def forward(self, x: Images, edit: Edit) -> Manipulation:
        """Eq. (1), restored."""
        forged = self.manipulator(x, edit)
        size = (x.shape[-2], x.shape[-1])
        mask = component_mask(celeba_landmarks(size).to(x), size).expand(len(x), -1, -1, -1)
        return forged._replace(output=self.restorer(forged.output, mask).to(forged.output))

"""The contract of a restorer, and a manipulator whose forgeries are restored."""

from collections.abc import Callable

from art_idguard.faces.alignment import celeba_landmarks
from art_idguard.manipulators.base import Manipulator, WrappedManipulator
from art_idguard.regions import component_mask
from art_idguard.types import Edit, Images, Manipulation, Maps

Restorer = Callable[[Images, Maps], Images]
"""Fills pictures on the [-1, 1] scale where their mask is over a half, from what is around it alone."""


class Restored(WrappedManipulator):
    """A manipulator whose forgeries are inpainted at eyes, brows, nose and mouth, m^bin of Eq. (5).

    Deviates: the paper does not say which part is masked. It is the one that the protection aims at, and lies where
    CelebA's framing puts it, in which all faces are.
    """

    def __init__(self, manipulator: Manipulator, restorer: Restorer) -> None:
        super().__init__(manipulator)
        self.restorer = restorer

    def forward(self, x: Images, edit: Edit) -> Manipulation:
        """Eq. (1), restored."""
        forged = self.manipulator(x, edit)
        size = (x.shape[-2], x.shape[-1])
        mask = component_mask(celeba_landmarks(size).to(x), size).expand(len(x), -1, -1, -1)
        return forged._replace(output=self.restorer(forged.output, mask).to(forged.output))

"""The photo itself, as nobody forged it: whether recognisers know the person in it."""

from typing import ClassVar

from art_idguard.manipulators.base import Manipulator
from art_idguard.types import Attributes, Edit, Images, Manipulation


class Photo(Manipulator):
    """M(x) = x, which has no weights and no features: `manipulators.load("photo")`.

    A step against it costs a hundredth of one against four GANs. What it teaches, Eq. (7) alone, GANs that keep most of
    a face pass on, so a training begins with it.

    Examples:
        >>> import torch
        >>> face = torch.rand(1, 3, 64, 64)
        >>> (edit,) = Photo().edits(torch.zeros(1, 5))
        >>> bool((Photo()(face, edit).output == face).all())
        True
    """

    name: ClassVar[str] = "photo"

    def edits(self, attributes: Attributes) -> tuple[Edit, ...]:
        """None but to leave it as it is."""
        return (Edit("as it is", attributes[:, :0]),)

    def forward(self, x: Images, edit: Edit) -> Manipulation:
        """The face itself."""
        return Manipulation(x, x[:, :0])

"""The photo itself, as nobody forged it: whether recognisers know the person in it."""

from typing import ClassVar

from art_idguard.manipulators.base import Manipulator
from art_idguard.types import Attributes, Edit, Images, Manipulation


class Photo(Manipulator):
    """M(x) = x, which has no weights and no features: `manipulators.load("photo")`.

    A face's step against it is 19 GFLOP where four GANs take 273. What it teaches, Eq. (7) alone, is passed on by GANs
    that keep most of a face, so a training may begin with it. Under S-II its weight is 0: K_k is full from the start.

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

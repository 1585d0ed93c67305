"""Fixed-Point GAN, "FPGAN" in the paper (Rahman Siddiquee et al., ICCV 2019)."""

from typing import ClassVar

from art_idguard.manipulators.stargan_family import StarGANFamily
from art_idguard.types import Edit, Images, Manipulation


class FixedPointGAN(StarGANFamily):
    """The generator predicts a residual of the photo.

    Layout of mahfuzmohammad/Fixed-Point-GAN 352d4958fb. Where the residual is zero, as it should be
    for the face's own labels, the picture is tanh(x), not x.
    """

    name: ClassVar[str] = "fpgan"

    def forward(self, x: Images, edit: Edit) -> Manipulation:
        """Eq. (1): tanh(x + residual) for target labels `edit.condition` (0/1, a row a face)."""
        raw, features = self.raw(x, edit)
        return Manipulation((x + raw).tanh(), features)

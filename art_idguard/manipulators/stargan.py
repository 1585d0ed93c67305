"""StarGAN (Choi et al., CVPR 2018)."""

from typing import ClassVar

from art_idguard.manipulators.stargan_family import StarGANFamily
from art_idguard.types import Edit, Images, Manipulation


class StarGAN(StarGANFamily):
    """The picture is the tanh of the generator. Layout of yunjey/stargan 94dd002e93 (MIT)."""

    name: ClassVar[str] = "stargan"

    def forward(self, x: Images, edit: Edit) -> Manipulation:
        """Eq. (1): the face with the target labels `edit.condition` (0/1, a row a face)."""
        raw, features = self.raw(x, edit)
        return Manipulation(raw.tanh(), features)

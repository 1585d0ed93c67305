"""AttentionGAN, "AGGAN" in the paper (Tang et al., 2019)."""

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from art_idguard.manipulators.stargan_family import StarGANFamily
from art_idguard.types import Edit, Images, Manipulation, Maps


class AttentionGAN(StarGANFamily):
    """The generator paints a picture and says where to put it.

    Layout of AttentionGAN-v1-multi of Ha0Tang/AttentionGAN 45da496e1e (CC BY-NC-SA 4.0). The
    painted picture is unbounded, so the forged face can leave [-1, 1]; as officially, it is not
    clamped.
    """

    name: ClassVar[str] = "attentiongan"
    outputs: ClassVar[int] = 4

    def forward(self, x: Images, edit: Edit) -> Manipulation:
        """Eq. (1): content * attention + x * (1 - attention) for target labels `edit.condition`."""
        raw, features = self.raw(x, edit)
        attention, content = self.split(raw)
        return Manipulation(x + attention * (content - x), features)

    @staticmethod
    def split(raw: Float[Tensor, "B 4 H W"]) -> tuple[Maps, Images]:
        """The attention in (0, 1) and the painted picture in the last convolution's output."""
        return raw[:, :1].sigmoid(), raw[:, 1:]

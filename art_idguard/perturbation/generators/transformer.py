"""The Transformer generator: a vision transformer from image to perturbation."""

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from art_idguard.perturbation.generators.base import Generator


class TransformerGenerator(Generator):
    """Patch embedding, pre-norm transformer blocks over all patches, pixel shuffle, convolution.

    Each block is preceded by a depthwise 3x3 convolution on the grid of patches, which tells it
    where a patch lies at any picture size (conditional positional encoding, Chu et al., ICLR 2023).
    14,769,715 parameters at the defaults; 256 patches at 128 px, 1,024 at 256 px.

    Deviates: the paper's 179,348,843 parameters (Table IV) are those of TransGAN's CelebA-256
    generator, which maps a random 256-vector to a picture and cannot take an image; how a face was
    fed into it is not published. This is a design of our own.

    Args:
        channels: width of a token.
        blocks: transformer blocks.
        heads: attention heads of a block.
        patch: side of a patch in pixels.
    """

    name: ClassVar[str] = "transformer"
    width = 384

    def __init__(self, *, channels: int = 384, blocks: int = 8, heads: int = 6, patch: int = 8) -> None:
        super().__init__()
        self.multiple = patch
        self.embed = nn.Conv2d(6, channels, patch, stride=patch)
        self.position = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels) for _ in range(blocks)
        )
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(channels, heads, 4 * channels, 0.0, "gelu", batch_first=True, norm_first=True)
            for _ in range(blocks)
        )
        self.norm = nn.LayerNorm(channels)
        self.expand = nn.Linear(channels, 16 * patch**2)
        self.head = nn.Conv2d(16, 3, 3, padding=1)

    def forward(self, x: Float[Tensor, "B 6 H W"]) -> Float[Tensor, "B 3 H W"]:
        """A perturbation in (-1, 1), the tanh of the network."""
        h = self.embed(x)
        grid = h.shape[-2:]
        for position, block in zip(self.position, self.blocks, strict=True):
            tokens = (h + position(h)).flatten(2).transpose(1, 2)
            h = block(tokens).transpose(1, 2).unflatten(2, grid)
        h = self.expand(self.norm(h.movedim(1, -1))).movedim(-1, 1)
        return self.head(F.gelu(F.pixel_shuffle(h, self.multiple))).tanh()

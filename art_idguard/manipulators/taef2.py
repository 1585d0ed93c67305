"""TAEF2, the tiny autoencoder of FLUX.2's latents (madebyollin/taesd): what a latent diffusion editor does first."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from art_idguard.hub.weights import official_files, read_state_dict
from art_idguard.images import to_signed, to_unit
from art_idguard.manipulators.base import Manipulator, Published
from art_idguard.types import Attributes, Edit, Images, Manipulation


class Block(nn.Module):
    """A residual block; with `pool`, what 1x1 convolutions make of globally normalised channels is added before."""

    def __init__(self, channels: int, *, pool: bool = False) -> None:
        super().__init__()
        c = channels
        self.conv = nn.Sequential(
            nn.Conv2d(c, c, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(c, c, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(c, c, 3, padding=1),
        )
        self.pool = (
            nn.Sequential(
                nn.Conv2d(c, 4 * c, 1, bias=False),
                nn.GroupNorm(4, 4 * c),
                nn.ReLU(),
                nn.Conv2d(4 * c, c, 1, bias=False),
            )
            if pool
            else None
        )

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Features of the same size."""
        if self.pool is not None:
            x = x + self.pool(x)
        return (self.conv(x) + x).relu()


class Bounded(nn.Module):
    """3 tanh(x / 3)."""

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Latents in (-3, 3)."""
        return (x / 3).tanh() * 3


def _encoder(channels: int, latent: int, *, pool: bool) -> Iterator[nn.Module]:
    yield nn.Conv2d(3, channels, 3, padding=1)
    yield Block(channels)
    for level in range(3):
        yield nn.Conv2d(channels, channels, 3, padding=1, stride=2, bias=False)
        yield from (Block(channels, pool=pool and level == 2) for _ in range(3))
    yield nn.Conv2d(channels, latent, 3, padding=1)


def _decoder(channels: int, latent: int, *, pool: bool) -> Iterator[nn.Module]:
    yield Bounded()
    yield nn.Conv2d(latent, channels, 3, padding=1)
    yield nn.ReLU()
    for level in range(3):
        yield from (Block(channels, pool=pool and level == 0) for _ in range(3))
        yield nn.Upsample(scale_factor=2)
        yield nn.Conv2d(channels, channels, 3, padding=1, bias=False)
    yield Block(channels)
    yield nn.Conv2d(channels, 3, 3, padding=1)


class TAEF2(Manipulator):
    """Encodes the face and decodes it: the start of any latent editor. E_k's features are the latent.

    A feature term on them is PhotoGuard's encoder attack (Salman et al., ICML 2023). The output is unbounded and not
    clamped. The official weights are two files, see `hub.weights.official_files`; those of the repository's other
    autoencoders (TAESD, TAEF1, ...), which differ in `latent` and `pool` alone, load as well.

    Args:
        channels: width of all layers.
        latent: channels of the latent.
        pool: whether the blocks next to the latent look at the whole picture.
    """

    name: ClassVar[str] = "taef2"
    multiple = 8
    published = Published(
        "https://github.com/madebyollin/taesd",
        {
            "taef2_encoder.pth": "10a4e1021e89d7551eaf161352da8dbd0b1aa83872ae28b150c1df1ce2f147b6",
            "taef2_decoder.pth": "0a44a31e1ae59eb9dbf9359d24942fd3ef5928162c1800d97a28c61d51be0ab5",
        },
        "MIT",
    )

    def __init__(self, *, channels: int = 64, latent: int = 32, pool: bool = True) -> None:
        super().__init__()
        self.encoder = nn.Sequential(*_encoder(channels, latent, pool=pool))
        self.decoder = nn.Sequential(*_decoder(channels, latent, pool=pool))

    @classmethod
    def _read_official(cls, path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
        files = official_files(path)
        if len(files) == 1:
            return super()._read_official(path)
        state = {
            f"{part}.{key}": value
            for part, file in zip(("encoder", "decoder"), files, strict=True)
            for key, value in read_state_dict(file).items()
        }
        sizes: dict[str, Any] = {"pool": any(".pool." in key for key in state)}
        if (first := state.get("decoder.1.weight")) is not None and first.ndim == 4:
            sizes["latent"] = first.shape[1]
        return state, sizes

    def forward(self, x: Images, edit: Edit) -> Manipulation:
        """Eq. (1): the reconstruction, whatever the edit; and the latent, an eighth of the side."""
        latent = self.encoder(to_unit(x))
        return Manipulation(to_signed(self.decoder(latent)).to(x.dtype), latent)

    def edits(self, attributes: Attributes) -> tuple[Edit, ...]:
        """One, which has no condition; labels only say how many rows."""
        return (Edit("reconstruction", attributes.new_zeros(len(attributes), 0)),)

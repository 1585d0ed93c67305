"""A variational autoencoder of CelebA's faces (YannDubs/disentangling-vae), 64 pixels: the published surrogate M_s."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from art_idguard.images import resize, to_signed, to_unit
from art_idguard.manipulators.base import Manipulator, Published
from art_idguard.types import Attributes, Edit, Images, Manipulation

SIZE, LATENT = 64, 10
STEP = 2.0
"""Of an edit in its dimension, in standard deviations of the prior."""


class Encoder(nn.Module):
    """Faces -> mean and log variance of their latents."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        c = channels
        self.conv1 = nn.Conv2d(3, c, 4, stride=2, padding=1)
        self.conv2 = nn.Conv2d(c, c, 4, stride=2, padding=1)
        self.conv3 = nn.Conv2d(c, c, 4, stride=2, padding=1)
        self.conv_64 = nn.Conv2d(c, c, 4, stride=2, padding=1)
        self.lin1 = nn.Linear(16 * c, 256)
        self.lin2 = nn.Linear(256, 256)
        self.mu_logvar_gen = nn.Linear(256, 2 * LATENT)

    def forward(self, x: Float[Tensor, "B 3 64 64"]) -> tuple[Float[Tensor, "B 10"], Float[Tensor, "B 10"]]:
        """Of faces on [0, 1]."""
        for convolution in (self.conv1, self.conv2, self.conv3, self.conv_64):
            x = convolution(x).relu()
        hidden = self.lin2(self.lin1(x.flatten(1)).relu()).relu()
        mu, logvar = self.mu_logvar_gen(hidden).unflatten(1, (LATENT, 2)).unbind(2)
        return mu, logvar


class Decoder(nn.Module):
    """Latents -> faces on [0, 1]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        c = channels
        self.lin1 = nn.Linear(LATENT, 256)
        self.lin2 = nn.Linear(256, 256)
        self.lin3 = nn.Linear(256, 16 * c)
        self.convT_64 = nn.ConvTranspose2d(c, c, 4, stride=2, padding=1)
        self.convT1 = nn.ConvTranspose2d(c, c, 4, stride=2, padding=1)
        self.convT2 = nn.ConvTranspose2d(c, c, 4, stride=2, padding=1)
        self.convT3 = nn.ConvTranspose2d(c, 3, 4, stride=2, padding=1)

    def forward(self, latent: Float[Tensor, "B 10"]) -> Float[Tensor, "B 3 64 64"]:
        """The faces of latents."""
        for linear in (self.lin1, self.lin2, self.lin3):
            latent = linear(latent).relu()
        x = latent.unflatten(1, (-1, 4, 4))
        for convolution in (self.convT_64, self.convT1, self.convT2):
            x = convolution(x).relu()
        return self.convT3(x).sigmoid()


class CelebAVAE(Manipulator):
    """Decodes the mean of the face's latents, plus a step. E_k's features are the mean.

    Works at 64 pixels: faces are resampled to that, and what it makes of them to their own size.

    Args:
        channels: width of the convolutions.
    """

    name: ClassVar[str] = "celeba_vae"
    published = Published(
        "https://github.com/YannDubs/disentangling-vae",
        {
            "results/VAE_celeba/model.pt": "a9e1e6cd8f6d26680b9252dd30168b47b7ace801dcd3b60e2cb91ffa57768b56",
        },
        "MIT",
    )

    def __init__(self, *, channels: int = 32) -> None:
        super().__init__()
        self.encoder = Encoder(channels)
        self.decoder = Decoder(channels)

    def forward(self, x: Images, edit: Edit) -> Manipulation:
        """Eq. (1): the face at `edit.condition` from its own latents; and these, of one pixel."""
        mu, _ = self.encoder(resize(to_unit(x), (SIZE, SIZE)))
        decoded = to_signed(self.decoder(mu + edit.condition.to(mu))).to(x.dtype)
        return Manipulation(resize(decoded, (x.shape[-2], x.shape[-1])), mu[:, :, None, None])

    def edits(self, attributes: Attributes) -> tuple[Edit, ...]:
        """The reconstruction, and a step of `STEP` along each dimension; labels only say how many rows."""
        steps = STEP * torch.eye(LATENT).to(attributes)
        names = {"reconstruction": 0 * steps[0], **{f"latent_{i}": step for i, step in enumerate(steps)}}
        return tuple(Edit(name, step.expand(len(attributes), -1)) for name, step in names.items())

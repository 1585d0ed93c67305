"""A network that takes the protection away, trained on pairs that anyone makes with the released protector."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from art_idguard.adversary.learning import learn
from art_idguard.adversary.setting import AdversarySetting, Attempts
from art_idguard.data.faces import FaceBatch
from art_idguard.distortions import After
from art_idguard.types import Images

DILATIONS = (1, 2, 3, 4, 3, 2, 1)
LR = 1e-3


class Cleaner(nn.Sequential):
    """The seven dilated convolutions of IRCNN (Zhang et al., CVPR 2017), which find what is to be taken away.

    Deviates: no batch normalisation, for batches of four; the last layer begins at zero.

    Args:
        channels: width.
    """

    def __init__(self, *, channels: int = 64) -> None:
        widths = [3, *[channels] * (len(DILATIONS) - 1), 3]
        layers: list[nn.Module] = []
        for before, behind, dilation in zip(widths, widths[1:], DILATIONS, strict=False):
            layers += [nn.Conv2d(before, behind, 3, padding=dilation, dilation=dilation), nn.ReLU()]
        super().__init__(*layers[:-1])
        nn.init.zeros_(self[-1].weight)  # type: ignore[arg-type]  # a convolution
        nn.init.zeros_(self[-1].bias)  # type: ignore[arg-type]

    def forward(self, x: Images) -> Images:
        """Faces as they were, on the [-1, 1] scale."""
        return (x - super().forward(x)).clamp(-1, 1)


def cleaners(setting: AdversarySetting) -> Attempts:
    """The manipulator behind the cleaner, whose pairs are of the protector's one pass, not of what is refined."""
    with torch.random.fork_rng():
        torch.manual_seed(setting.seed)
        cleaner = Cleaner().to(setting.protector.prior)

    def loss(batch: FaceBatch, step: int) -> Float[Tensor, ""]:
        with torch.no_grad():
            protected = setting.protector(batch.images).specific
        return F.mse_loss(cleaner(protected), batch.images)

    learnt = learn(cleaner, loss, setting, "cleaner", steps=setting.cleaner_steps, lr=LR, given=[setting.protector])
    return {f"cleaner, {steps} steps": After(setting.manipulator, clean) for steps, clean in learnt.items()}

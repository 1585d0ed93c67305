"""LPIPS with AlexNet (Zhang et al., CVPR 2018; github.com/richzhang/PerceptualSimilarity), where its weights are given.

Their package downloads the backbone, so the file is the user's to make, where there is a network:
`import lpips, torch; torch.save(lpips.LPIPS(net='alex').state_dict(), 'lpips.pth')`.
"""

import re
from pathlib import Path
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from art_idguard.hub.weights import load_strict, read_state_dict
from art_idguard.types import Images

_NAMES = {
    r"scaling_layer\.(shift|scale)": r"\1",
    r"net\.slice(\d)\.\d+\.(weight|bias)": r"layers.\1.\2",
    r"lin(\d)\.model\.1\.weight": r"heads.\1.weight",
    r"lins\..*": "",  # the heads once more
}
"""Of the file's tensors, and what they are called here; nothing else may be in it."""


Features = list[Float[Tensor, "B _ _ _"]]


class LPIPS(nn.Module):
    """How different two pictures look, by AlexNet's features: 0 for equal ones."""

    shift: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("shift", torch.zeros(1, 3, 1, 1))
        self.register_buffer("scale", torch.ones(1, 3, 1, 1))
        layers = [
            nn.Conv2d(3, 64, 11, stride=4, padding=2),
            nn.Conv2d(64, 192, 5, padding=2),
            nn.Conv2d(192, 384, 3, padding=1),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.Conv2d(256, 256, 3, padding=1),
        ]
        self.layers = nn.ModuleDict({str(i): layer for i, layer in enumerate(layers, start=1)})
        self.heads = nn.ModuleList(nn.Conv2d(layer.out_channels, 1, 1, bias=False) for layer in layers)
        self.requires_grad_(False)

    @classmethod
    def from_checkpoint(cls, path: str | Path) -> Self:
        """The weights of the file that the package makes.

        Raises:
            WeightsError: the file is missing, damaged, unsafe, or of something else.
        """
        model = cls()
        state = {_renamed(name): tensor for name, tensor in read_state_dict(path).items()}
        load_strict(model, {name: tensor for name, tensor in state.items() if name}, path)
        return model

    def forward(self, a: Images, b: Images) -> Float[Tensor, " B"]:
        """Of pictures on the [-1, 1] scale, of 35 pixels a side at least."""
        return self.distance(self.features(a), self.features(b))

    def distance(self, a: Features, b: Features) -> Float[Tensor, " B"]:
        """Of pictures with these features."""
        pairs = zip(a, b, self.heads, strict=True)
        return torch.stack([head((x - y).square()).mean(dim=(1, 2, 3)) for x, y, head in pairs]).sum(dim=0)

    def features(self, x: Images) -> Features:
        """What each convolution finds, channels at unit length."""
        x, found = (x - self.shift) / self.scale, []
        for name, layer in self.layers.items():
            x = layer(F.max_pool2d(x, 3, 2) if name in "23" else x).relu()
            found.append(x / (x.norm(dim=1, keepdim=True) + 1e-10))
        return found


def _renamed(name: str) -> str:
    return next((re.sub(old, new, name) for old, new in _NAMES.items() if re.fullmatch(old, name)), name)

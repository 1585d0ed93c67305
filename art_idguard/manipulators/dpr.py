"""DPR, deep portrait relighting (Zhou et al., ICCV 2019): a face under another light."""

import re
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from art_idguard.errors import WeightsError
from art_idguard.hub.weights import read_state_dict
from art_idguard.images import to_signed, to_unit
from art_idguard.manipulators.base import Manipulator, Published
from art_idguard.types import Attributes, Edit, Images, Manipulation, Maps

Light = Float[Tensor, "B 9"]
"""Spherical harmonics up to the second order."""

_OTHERS = (
    (0.02837847, 0.67652929, -0.35940677, 0.04790996, -0.22800546, -0.08125983, 0.28810820),
    (0.54662557, 0.39962192, -0.26154398, -0.25112416, 0.06495695, 0.35103220, 0.11896627),
    (0.65325247, -0.17820889, 0.03326677, -0.36105666, 0.36475618, -0.07496420, -0.05412289),
    (0.26796693, -0.62184477, 0.30302696, -0.19910614, -0.06162945, -0.31766770, 0.19205096),
    (-0.31910317, -0.59721886, 0.34460167, 0.11277537, -0.17166922, 0.22634065, 0.25558246),
    (-0.66588208, -0.12287497, 0.12668429, 0.33973472, 0.30368873, 0.22138935, -0.01886557),
    (-0.51123820, 0.44399628, -0.18662894, 0.31086690, 0.20217430, -0.31486818, 0.03974379),
)  # fmt: skip
_FIRST = (1.0841255, -0.46426763)
LIGHTS = {f"light_0{i}": (*_FIRST, *others) for i, others in enumerate(_OTHERS)}
"""The published examples, `rotate_light_00` to 06, which go around the face."""

STRENGTH = 0.7
"""Of the example lights, by which the authors multiply them."""

LIGHT_CHANNELS, FACE_CHANNELS = 27, 128
"""Of the bottleneck: the first are the light's."""

_INNER = {"HG3.middle.": "HG2.", "HG2.middle.": "HG1.", "HG1.middle.": "HG0.", "HG0.middle.": "light."}
"""The official modules that are inside others, from the outermost on; the file has their tensors under each name."""
_UNUSED = re.compile(r"(HG\d\.upper|HG3\.low[12])\.shortcuts\.weight")
"""The file has shortcuts of blocks that change no widths as well."""


class BatchNorm(nn.BatchNorm2d):
    """By the running statistics in train and eval mode alike."""

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Normalise every channel."""
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


class BasicBlock(nn.Module):
    """A residual block, with a projection where it changes the width."""

    def __init__(self, before: int, after: int, norm: type[nn.Module]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, padding=1, bias=False)
        self.bn1 = norm(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn2 = norm(after)
        self.shortcuts = nn.Identity() if before == after else nn.Conv2d(before, after, 1, bias=False)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D H W"]:
        """Features of the same size."""
        return (self.shortcuts(x) + self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))).relu()


class Hourglass(nn.Module):
    """A level of the network: `upper` stays in it, `low1` leads down to the next one, `low2` back."""

    def __init__(self, outer: int, inner: int) -> None:
        super().__init__()
        self.upper = BasicBlock(outer, outer, nn.InstanceNorm2d)
        self.low1 = BasicBlock(outer, inner, BatchNorm)
        self.low2 = BasicBlock(inner, outer, nn.InstanceNorm2d)


class Lighting(nn.Module):
    """Tells the light from the bottleneck's first channels, or puts another one there."""

    def __init__(self) -> None:
        super().__init__()
        self.predict_FC1 = nn.Conv2d(LIGHT_CHANNELS, 128, 1, bias=False)
        self.predict_relu1 = nn.PReLU()
        self.predict_FC2 = nn.Conv2d(128, 9, 1, bias=False)
        self.post_FC1 = nn.Conv2d(9, 128, 1, bias=False)
        self.post_relu1 = nn.PReLU()
        self.post_FC2 = nn.Conv2d(128, LIGHT_CHANNELS, 1, bias=False)

    def estimate(self, bottleneck: Float[Tensor, "B 155 h w"]) -> Light:
        """The light that the face is under."""
        mean = bottleneck[:, :LIGHT_CHANNELS].mean((2, 3), keepdim=True)
        return self.predict_FC2(self.predict_relu1(self.predict_FC1(mean))).flatten(1)

    def forward(self, bottleneck: Float[Tensor, "B 155 h w"], light: Light) -> Float[Tensor, "B 155 h w"]:
        """The face under another light."""
        channels = self.post_FC2(self.post_relu1(self.post_FC1(light[:, :, None, None]))).relu()
        face = bottleneck[:, LIGHT_CHANNELS:]
        return torch.cat((channels.expand(-1, -1, *face.shape[2:]).to(face), face), 1)


class DPR(Manipulator):
    """The lightness of CIE Lab is drawn anew under the asked light; a and b are the photo's.

    Deviates: the authors' Lab has 8 bits, by OpenCV; kornia's is the same up to rounding, and differentiable.

    Args:
        channels: width of the first layer.
    """

    name: ClassVar[str] = "dpr"
    multiple = 16
    published = Published(
        "https://github.com/zhhoper/DPR",
        {
            "trained_model/trained_model_03.t7": "950157bf950b899eba7bb1a6439d602e89fef9d180e235d034774d6d8583bc51",
        },
        "for research purpose only; no licence file",
    )

    def __init__(self, *, channels: int = 16) -> None:
        super().__init__()
        c = channels
        self.pre_conv = nn.Conv2d(1, c, 5, padding=2)
        self.pre_bn = BatchNorm(c)
        self.HG3 = Hourglass(c, c)
        self.HG2 = Hourglass(c, 2 * c)
        self.HG1 = Hourglass(2 * c, 4 * c)
        self.HG0 = Hourglass(4 * c, LIGHT_CHANNELS + FACE_CHANNELS)
        self.light = Lighting()
        self.conv_1 = nn.Conv2d(c, c, 3, padding=1)
        self.bn_1 = BatchNorm(c)
        self.conv_2 = nn.Conv2d(c, c, 1)
        self.bn_2 = BatchNorm(c)
        self.conv_3 = nn.Conv2d(c, c, 1)
        self.bn_3 = BatchNorm(c)
        self.output = nn.Conv2d(c, 1, 1)

    @classmethod
    def _read_official(cls, path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Each module once, under its shortest name.

        Raises:
            WeightsError: two names of one tensor have different values.
        """
        state: dict[str, Tensor] = {}
        for key, value in read_state_dict(path).items():
            name = key
            for outer, inner in _INNER.items():
                name = inner + name.removeprefix(outer) if name.startswith(outer) else name
            if not torch.equal(state.setdefault(name, value), value):
                raise WeightsError(f"{path}: {key} is another name of {name}, but their values differ; get it anew")
        return {name: value for name, value in state.items() if not _UNUSED.fullmatch(name)}, {}

    def encode(self, lightness: Maps) -> tuple[Float[Tensor, "B 155 h w"], list[Tensor]]:
        """E_k, the bottleneck at a sixteenth of the side, and what each level keeps, from the outermost on."""
        h = self.pre_bn(self.pre_conv(lightness)).relu()
        kept = []
        for level in (self.HG3, self.HG2, self.HG1, self.HG0):
            kept.append(level.upper(h))
            h = level.low1(F.max_pool2d(h, 2))
        return h, kept

    def relight(self, lightness: Maps, light: Light) -> tuple[Maps, Float[Tensor, "B 155 h w"]]:
        """The lightness, 0 to 1, under another light; and E_k's features."""
        features, kept = self.encode(lightness)
        h = self.light(features, light)
        for level, upper in zip((self.HG0, self.HG1, self.HG2, self.HG3), reversed(kept), strict=True):
            h = upper + F.interpolate(level.low2(h), scale_factor=2)
        for convolution, norm in ((self.conv_1, self.bn_1), (self.conv_2, self.bn_2), (self.conv_3, self.bn_3)):
            h = norm(convolution(h)).relu()
        return self.output(h).sigmoid(), features

    def forward(self, x: Images, edit: Edit) -> Manipulation:
        """Eq. (1): the face under the light `edit.condition` (a row a face); what is none of sRGB is clipped."""
        from kornia.color import lab_to_rgb, rgb_to_lab  # not on every training machine

        with torch.autocast(x.device.type, enabled=False):  # bfloat16 has too few digits for colours
            lightness, colour = rgb_to_lab(to_unit(x)).split((1, 2), dim=1)
        relit, features = self.relight(lightness / 100, edit.condition.to(x))
        with torch.autocast(x.device.type, enabled=False):
            rgb = lab_to_rgb(torch.cat((100 * relit.to(x.dtype), colour), 1))
        return Manipulation(to_signed(rgb), features)

    def edits(self, attributes: Attributes) -> tuple[Edit, ...]:
        """Five of `LIGHTS`, 01 to 05, at `STRENGTH`; labels only say how many rows."""
        lights = {name: STRENGTH * attributes.new_tensor(light) for name, light in list(LIGHTS.items())[1:6]}
        return tuple(Edit(name, light.expand(len(attributes), -1)) for name, light in lights.items())

    @torch.no_grad()
    def inverse_edit(self, edit: Edit, x: Images, attributes: Attributes) -> Edit:
        """The light that the network sees in x."""
        from kornia.color import rgb_to_lab  # not on every training machine

        features, _ = self.encode(rgb_to_lab(to_unit(x))[:, :1] / 100)
        return Edit(edit.name, self.light.estimate(features))

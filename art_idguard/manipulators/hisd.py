"""HiSD (Li et al., CVPR 2021): hierarchical style disentanglement: tags, attributes, styles.

Layout of imlixinyang/HiSD c800b26bcd (CC BY-NC-SA 4.0); parameter names are the official ones.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from art_idguard.errors import IDGuardError
from art_idguard.manipulators.base import Manipulator
from art_idguard.manipulators.hisd_layers import Down, Middle, Up
from art_idguard.types import Attributes, Edit, Images, Manipulation

ATTRIBUTES_OF_TAG = (2, 2, 3)
"""Tag 0: with, without bangs; tag 1: with, without glasses; tag 2: black, blond, brown hair."""

EDITS = {
    "Bangs": (0, 0),
    "Eyeglasses": (1, 0),
    "Black_Hair": (2, 0),
    "Blond_Hair": (2, 1),
    "Brown_Hair": (2, 2),
}
"""The paper's five edits: tag, and attribute within the tag."""

STYLE_WIDTHS_128 = (64, 128, 256, 512, 1024, 2048)
"""`style_widths` of the official 128-pixel configuration, extractor and discriminator alike."""


class Translator(nn.Module):
    """Styles the encoder's features where its mask says so."""

    blocks: ClassVar[int] = 7

    def __init__(self, features: int, width: int, style: int) -> None:
        super().__init__()
        middle = (Middle(width) for _ in range(self.blocks))
        self.model = nn.ModuleList([nn.Conv2d(features, width, 1), *middle])
        self.style_to_params = nn.Linear(style, self.blocks * 2 * 2 * width)
        self.features = nn.Sequential(nn.Conv2d(width, features, 1))
        self.masks = nn.Sequential(nn.Conv2d(width, features, 1), nn.Sigmoid())

    def forward(self, e: Float[Tensor, "B F h w"], style: Float[Tensor, "b S"]) -> Float[Tensor, "B F h w"]:
        """New features where the mask is 1, e where it is 0; one row of style serves all faces."""
        reduce, *middle = self.model
        h = reduce(e)
        params = self.style_to_params(style).unflatten(1, (self.blocks, 2, 2, -1))
        for block, param in zip(middle, params.unbind(1), strict=True):
            h = block(h, param)
        return e + self.masks(h) * (self.features(h) - e)


class Extractors(nn.Module):
    """The style of every tag in a reference face."""

    def __init__(self, widths: Sequence[int], style: int) -> None:
        super().__init__()
        self.style = style
        head = nn.Conv2d(widths[-1], style * len(ATTRIBUTES_OF_TAG), 1)
        self.model = nn.Sequential(*_pooled_trunk(widths), head)

    def forward(self, x: Images) -> Float[Tensor, "B tags S"]:
        """Styles of faces of any size and shape."""
        return self.model(x).view(len(x), -1, self.style)


def _pooled_trunk(widths: Sequence[int]) -> nn.Sequential:
    blocks = (Down(a, b) for a, b in pairwise(widths))
    return nn.Sequential(nn.Conv2d(3, widths[0], 1), *blocks, nn.AdaptiveAvgPool2d(1))


class _ReLULinear(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        return self.linear(x.relu())


class Mapper(nn.Module):
    """Noise -> a style of one attribute of one tag."""

    def __init__(self, noise: int, style: int, attributes: int) -> None:
        super().__init__()
        self.pre_model = nn.Sequential(nn.Linear(noise, style), _ReLULinear(style), _ReLULinear(style))
        self.post_models = nn.ModuleList(
            nn.Sequential(_ReLULinear(style), _ReLULinear(style), nn.Linear(style, style)) for _ in range(attributes)
        )

    def forward(self, noise: Float[Tensor, "B N"], attribute: int) -> Float[Tensor, "B S"]:
        """Styles of the tag's attribute of this number."""
        return self.post_models[attribute](self.pre_model(noise))


class HiSD(Manipulator):
    """Encode, restyle the features of one tag, decode. The output is unbounded and not clamped.

    Args:
        widths: channels of the encoder's levels; the decoder mirrors them.
        style_widths: channels of the extractor's levels; `STYLE_WIDTHS_128` for the official
            128-pixel weights.
        style: length of a style.
        noise: length of the mapper's input.
        translator_width: channels inside a translator.
        seed: of the noise from which the mapper draws the styles of `edits`.
    """

    name: ClassVar[str] = "hisd"
    mixes_edits = False  # an edit's tag chooses the translator

    def __init__(
        self,
        *,
        widths: Sequence[int] = (64, 128, 256),
        style_widths: Sequence[int] = (32, 64, 128, 256, 512, 512, 512),
        style: int = 256,
        noise: int = 32,
        translator_width: int = 64,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.noise, self.seed = noise, seed
        steps = list(pairwise(widths))
        self.multiple = 2 ** len(steps)
        down = (Down(a, b, norm=True) for a, b in steps)
        up = (Up(b, a) for a, b in reversed(steps))
        self.encoder = nn.Sequential(nn.Conv2d(3, widths[0], 1), *down)
        self.decoder = nn.Sequential(*up, nn.Conv2d(widths[0], 3, 1))
        self.extractors = Extractors(style_widths, style)
        self.translators = nn.ModuleList(Translator(widths[-1], translator_width, style) for _ in ATTRIBUTES_OF_TAG)
        self.mappers = nn.ModuleList(Mapper(noise, style, n) for n in ATTRIBUTES_OF_TAG)

    def encode(self, x: Images) -> Float[Tensor, "B F h w"]:
        """The features of faces, a quarter of the side: E_k, as in the official ID-Guard code."""
        return self.encoder(x)

    def decode(self, e: Float[Tensor, "B F h w"]) -> Images:
        """The faces of features."""
        return self.decoder(e)

    def translate(self, e: Float[Tensor, "B F h w"], style: Float[Tensor, "b S"], tag: int) -> Float[Tensor, "B F h w"]:
        """Features with the tag restyled; one row of style serves all faces."""
        return self.translators[tag](e, style)

    def extract(self, reference: Images, tag: int) -> Float[Tensor, "B S"]:
        """The styles of a tag in reference faces."""
        return self.extractors(reference)[:, tag]

    def map(self, noise: Float[Tensor, "B N"], tag: int, attribute: int) -> Float[Tensor, "B S"]:
        """Styles of an attribute of a tag from noise."""
        return self.mappers[tag](noise, attribute)

    def forward(self, x: Images, edit: Edit) -> Manipulation:
        """Eq. (1): the face with style `edit.condition` (a row a face, or one) for the tag."""
        features = self.encode(x)
        tag, _ = _tag_and_attribute(edit.name)
        restyled = self.translate(features, edit.condition.to(x), tag)
        return Manipulation(self.decode(restyled).to(x.dtype), features)

    @torch.no_grad()
    def edits(self, attributes: Attributes) -> tuple[Edit, ...]:
        """Bangs, eyeglasses and three hair colours, from the mapper; labels only say how many rows.

        Deviates: official ID-Guard takes styles from four reference pictures, none of bangs; see
        `edit_from_reference`. The mapper needs no pictures and gives all five edits of the paper.
        """
        noise = torch.randn(1, self.noise, generator=torch.Generator().manual_seed(self.seed))
        noise = noise.to(next(self.parameters()))
        return tuple(Edit(name, self.map(noise, *which).expand(len(attributes), -1)) for name, which in EDITS.items())

    @torch.no_grad()
    def edit_from_reference(self, name: str, reference: Images) -> Edit:
        """The edit called `name` with the style of reference faces: one for all, or one for each.

        Raises:
            IDGuardError: `name` is not in `EDITS`.
        """
        return Edit(name, self.extract(reference, _tag_and_attribute(name)[0]))

    def compile(self, *args: Any, **options: Any) -> None:
        """Encoder, decoder and extractors, which trainings call too; `forward` would be compiled anew for each edit."""
        for part in (self.encoder, self.decoder, self.extractors):
            part.compile(*args, **options)

    def inverse_edit(self, edit: Edit, x: Images, attributes: Attributes) -> Edit:
        """The face's own style of the tag."""
        return self.edit_from_reference(edit.name, x)


def _tag_and_attribute(name: str) -> tuple[int, int]:
    if name not in EDITS:
        raise IDGuardError(f"HiSD has no edit {name!r}; choose from: {', '.join(EDITS)}")
    return EDITS[name]


class HiSDDiscriminator(nn.Module):
    """Judges a face, its style of a tag and its tag-irrelevant conditions (Male, Young) together.

    Args:
        style_widths: channels of the levels, as the extractor's.
        style: length of a style.
        conditions: number of tag-irrelevant conditions.
    """

    def __init__(
        self,
        *,
        style_widths: Sequence[int] = (32, 64, 128, 256, 512, 512, 512),
        style: int = 256,
        conditions: int = 2,
    ) -> None:
        super().__init__()
        self.conv = _pooled_trunk(style_widths)
        inputs = style_widths[-1] + style + conditions
        self.fcs = nn.ModuleList(nn.Sequential(nn.Conv2d(inputs, 2 * n, 1)) for n in ATTRIBUTES_OF_TAG)

    def forward(
        self, x: Images, style: Float[Tensor, "B S"], conditions: Float[Tensor, "B Y"], tag: int
    ) -> Float[Tensor, "B 2 A"]:
        """Scores of every attribute of the tag: as a translated (or real) face, and as a cycle."""
        h = torch.cat((self.conv(x), style[:, :, None, None], conditions[:, :, None, None]), 1)
        return self.fcs[tag](h).view(len(x), 2, -1)

"""The identity destruction module, Eq. (5)-(9): how far one manipulator's output has been disrupted.

Notation (name here -> the paper's symbol):
    clean, disrupted -> M_k(x), M_k(x + G(x)) and E_k's features     region.component, region.heat -> m^bin, m^hm
    identity -> ID(.)

Every term grows with the disruption, so the objective is maximised. Terms have one value for each face; an objective
is their mean over faces.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from art_idguard.types import Images, Manipulation, Maps, Region

Pictures = Float[Tensor, "B C H W"]
Identities = tuple[Float[Tensor, "B _ ..."], Float[Tensor, "B _ ..."]]
"""ID(.) of the clean and of the disrupted output, by one recogniser: embeddings or feature maps."""


Masks = Literal["sum", "product", "binary", "heat", "face", "whole"]

MASKS: dict[str, Callable[[Region], tuple[Maps, ...]]] = {
    "sum": lambda region: (region.component, region.heat),
    "product": lambda region: (region.component * region.heat,),
    "binary": lambda region: (region.component,),
    "heat": lambda region: (region.heat,),
    "face": lambda region: (region.face,),
    "whole": lambda region: (torch.ones_like(region.face),),
}
"""By name, the mask of each term: the paper's two, their product (official code), one of them, the face mask of
Eq. (16), or none at all (Table II without the mask constraint)."""


@dataclass(frozen=True)
class LossConfig:
    """Form and weights of the terms of Eq. (9); the defaults are the paper's, `LOSSES` has the forms by name."""

    distance: Literal["norm", "square", "log"] = "norm"
    """Of Eq. (5), (6) and (8): the 2-norm as printed, the mean of squares over the picture (official code), or the
    logarithm of the mean of squares inside the mask (ours), whose gradient does not depend on its scale."""
    mask_weight: float = 1.0
    identity_weight: float = 1.0
    feature_weight: float = 1.0
    masks: Masks = "sum"
    """The terms' masks, see `MASKS`."""
    identity: Literal["embedding", "feature_map"] = "embedding"
    """What the cosine of Eq. (7) compares: embeddings (paper), or feature maps position by position (official)."""
    l2_cap: float = math.inf
    """Mean square in the mask beyond which the log form asks no more of a face."""
    similarity_floor: float = -1.0
    """Cosine below which the identity term asks no more of a face."""
    kpi: Literal["share", "area", "literal"] = "share"
    """K_k of Eq. (13): the mean square under the heat map as a share of what the small-sample PGD reaches on that
    model, the same as it is, or literally the mask term of the form."""


PAPER = LossConfig()
OFFICIAL = LossConfig("square", 1.0, 0.1, 0.01, masks="product", identity="feature_map", kpi="literal")
LOG = LossConfig("log", 1.0, 2.0, 0.0, masks="face", l2_cap=0.08, similarity_floor=0.2)

LOSSES: dict[str, LossConfig] = {"paper": PAPER, "official": OFFICIAL, "log": LOG}
"""Forms of Eq. (9) by name: as printed, as in the official code, and aimed at the criterion of section IV-A4.

"log" is ours: log L2_face - 2 cos for each face, each capped where its threshold (0.05 and 0.4) is safely met, so that
effort goes where it is missing, and an easy model cannot drown a hard one.
"""


class Objective(NamedTuple):
    """L_k^adv of Eq. (9), to be maximised, and the KPI K_k of Eq. (13)."""

    terms: Float[Tensor, "3"]
    """Masks, identity and features, weighted."""
    kpi: Float[Tensor, ""]

    @property
    def total(self) -> Float[Tensor, ""]:
        """The sum of the terms."""
        return self.terms.sum()


TERMS = ("masks", "identity", "features")


def to_float32(tensor: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """Losses are taken in float32 even where autocast made the networks bf16."""
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor


def norm(difference: Pictures, mask: Maps) -> Float[Tensor, " B"]:
    """||d * m||_2 of each picture."""
    return torch.linalg.vector_norm(difference * mask, dim=(1, 2, 3))


def mean_square(difference: Pictures, mask: Maps) -> Float[Tensor, " B"]:
    """Mean of (d * m)^2 over the whole picture, as in the official code."""
    return (difference * mask).square().mean(dim=(1, 2, 3))


def masked_mean_square(difference: Pictures, mask: Maps) -> Float[Tensor, " B"]:
    """Sum of m d^2 over sum of m, as in Eq. (16); 0 for an empty mask."""
    weight = mask.sum(dim=(1, 2, 3)) * difference.shape[1]
    return (mask * difference.square()).sum(dim=(1, 2, 3)) / weight.clamp(min=1e-6)


_SMALLEST = 1e-8  # a logarithm needs a beginning


def distances(config: LossConfig) -> Callable[[Pictures, Maps], Float[Tensor, " B"]]:
    """The distance of Eq. (5), (6) and (8), of a difference inside a mask."""
    if config.distance == "log":
        return lambda d, m: masked_mean_square(d, m).clamp(_SMALLEST, config.l2_cap).log()
    return {"norm": norm, "square": mean_square}[config.distance]


def mask_loss(clean: Images, disrupted: Images, region: Region, config: LossConfig) -> Float[Tensor, " B"]:
    """||M_k(x) m^bin - M_k(x + G(x)) m^bin||_2 of Eq. (5), plus the same with m^hm of Eq. (6)."""
    distance, difference = distances(config), disrupted - clean
    return torch.stack([distance(difference, mask) for mask in MASKS[config.masks](region)]).sum(0)


def identity_loss(identities: Sequence[Identities], config: LossConfig = PAPER) -> Float[Tensor, " B"]:
    """-cos(ID(M_k(x)), ID(M_k(x + G(x)))) of Eq. (7), averaged over recognisers and, of feature maps, positions.

    Deviates: the paper prints plus the cosine, which maximising would preserve identity; it has one recogniser.
    """
    cosines = [
        F.cosine_similarity(disrupted, clean, dim=1).clamp(min=config.similarity_floor).reshape(len(clean), -1).mean(1)
        for clean, disrupted in identities
    ]
    return -torch.stack(cosines).mean(0)


def feature_loss(
    clean: Float[Tensor, "B F h w"], disrupted: Float[Tensor, "B F h w"], component: Maps, config: LossConfig
) -> Float[Tensor, " B"]:
    """||E_k(x) LI(m^bin) - E_k(x + G(x)) LI(m^bin)||_2 of Eq. (8).

    Deviates: E_k is encoder side as in the official code; the paper's text says upsampling network.
    """
    mask = F.interpolate(component, clean.shape[-2:], mode="bilinear", align_corners=True)
    return distances(config)(disrupted - clean, mask)


def adversarial_loss(
    clean: Manipulation,
    disrupted: Manipulation,
    identities: Sequence[Identities],
    region: Region,
    config: LossConfig = PAPER,
) -> Objective:
    """L^mask_bin + L^mask_hm + L^ID + L^feat of Eq. (9): the objective of one manipulator on one batch.

    Args:
        clean: output and features for the clean faces, detached.
        disrupted: output and features for the protected faces.
        identities: of each recogniser; none where the identity term has no weight.
        region: masks of the clean faces.
        config: form and weights of the terms.
    """
    masks = mask_loss(clean.output, disrupted.output, region, config).mean()
    identity = features = torch.zeros_like(masks)
    if identities:
        identity = identity_loss(identities, config).mean()
    if config.feature_weight:
        features = feature_loss(clean.features, disrupted.features, region.component, config).mean()
    weighted = (config.mask_weight * masks, config.identity_weight * identity, config.feature_weight * features)
    return Objective(torch.stack(weighted), _kpi(clean.output, disrupted.output, region, config))


@torch.no_grad()
def _kpi(clean: Images, disrupted: Images, region: Region, config: LossConfig) -> Float[Tensor, ""]:
    """K_k of Eq. (13), before it is taken as a share.

    Deviates: L^mask_hm is a 2-norm of the paper's and over 1 nearly always, a mean over the picture of the official
    code's and under 0.001; neither tells an easy from a hard model, hence the two other forms.
    """
    if config.kpi != "literal":
        return masked_mean_square(disrupted - clean, region.heat).mean()
    mask = region.component * region.heat if config.masks == "product" else region.heat
    return distances(config)(disrupted - clean, mask).mean()

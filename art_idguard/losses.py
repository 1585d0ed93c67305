"""The identity destruction module, Eq. (5)-(9): how far one manipulator's output has been disrupted.

Notation (name here -> the paper's symbol):
    clean, disrupted -> M_k(x), M_k(x + G(x)) and E_k's features     region.component, region.heat -> m^bin, m^hm
    identity -> ID(.)

Every term grows with the disruption, so the objective is maximised.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from art_idguard.types import Images, Manipulation, Maps, Region


@dataclass(frozen=True)
class LossConfig:
    """Weights and forms of the terms of Eq. (9); the defaults are the paper's."""

    mask_weight: float = 1.0
    identity_weight: float = 1.0
    feature_weight: float = 1.0
    masks: Literal["sum", "product"] = "sum"
    """The two mask terms added (paper), or one term with the product of the masks (official code)."""
    identity: Literal["embedding", "feature_map"] = "embedding"
    """What the cosine of Eq. (7) compares: embeddings (paper), or feature maps position by position (official)."""


PAPER = LossConfig()
OFFICIAL = LossConfig(1.0, 0.1, 0.01, masks="product", identity="feature_map")


class Objective(NamedTuple):
    """L_k^adv of Eq. (9), to be maximised, and the KPI K_k of Eq. (13)."""

    total: Float[Tensor, ""]
    kpi: Float[Tensor, ""]


def single(tensor: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """Losses are taken in float32 even where autocast made the networks bf16."""
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor


def mask_loss(clean: Images, disrupted: Images, mask: Maps) -> Float[Tensor, ""]:
    """Eq. (5) with the component mask, Eq. (6) with the heat map.

    Deviates: the paper's 2-norm is a mean of squares over the whole picture, as in the official code.
    """
    return F.mse_loss(disrupted * mask, clean * mask)


def identity_loss(clean: Float[Tensor, "B C *s"], disrupted: Float[Tensor, "B C *s"]) -> Float[Tensor, ""]:
    """Eq. (7): minus the cosine of the identities, averaged over faces and positions.

    Deviates: the paper prints plus the cosine, which maximising would preserve identity.
    """
    return -F.cosine_similarity(disrupted, clean, dim=1).mean()


def feature_loss(
    clean: Float[Tensor, "B F h w"], disrupted: Float[Tensor, "B F h w"], component: Maps
) -> Float[Tensor, ""]:
    """Eq. (8): mean squared distance of E_k's features inside the component mask.

    Deviates: E_k is encoder side as in the official code; the paper's text says upsampling network.
    """
    size = clean.shape[-2:]
    mask = F.interpolate(component, size, mode="bilinear", align_corners=True)
    return F.mse_loss(disrupted * mask, clean * mask)


def adversarial_loss(
    clean: Manipulation,
    disrupted: Manipulation,
    identities: tuple[Float[Tensor, "B C *s"], Float[Tensor, "B C *s"]],
    region: Region,
    config: LossConfig = PAPER,
) -> Objective:
    """Eq. (9): the objective of one manipulator on one batch, all tensors with the same batch size.

    Args:
        clean: output and features for the clean faces, detached.
        disrupted: output and features for the protected faces.
        identities: ID(.) of the clean and of the disrupted output, embeddings or feature maps.
        region: masks of the clean faces.
        config: weights and forms of the terms.
    """

    def masked(mask: Maps) -> Float[Tensor, ""]:
        return mask_loss(clean.output, disrupted.output, mask)

    if config.masks == "product":
        mask = kpi = masked(region.component * region.heat)
    else:
        kpi = masked(region.heat)
        mask = masked(region.component) + kpi
    total = (
        config.mask_weight * mask
        + config.identity_weight * identity_loss(*identities)
        + config.feature_weight * feature_loss(clean.features, disrupted.features, region.component)
    )
    return Objective(total, kpi.detach())

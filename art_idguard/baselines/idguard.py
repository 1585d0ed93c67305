"""ID-Guard's protections: the network's, P-Pert's and the refined one's."""

import torch

from art_idguard.baselines.base import Protection
from art_idguard.data.faces import FaceBatch
from art_idguard.perturbation import Protector
from art_idguard.perturbation.refined import RefinedProtector
from art_idguard.types import Images


def id_guard(protector: Protector) -> Protection:
    """ID-Guard: the perturbation that the generator makes for each face.

    Examples:
        >>> batch = FaceBatch(torch.zeros(1, 3, 32, 32), torch.zeros(1, 5), torch.zeros(1, 5, 2), None, None)
        >>> bool(0 < id_guard(Protector.from_pretrained())(batch).abs().max() < 0.0501)
        True
    """
    protector = protector.eval()

    @torch.no_grad()
    def protect(batch: FaceBatch) -> Images:
        return protector(batch.images).specific

    return protect


def p_pert(protector: Protector) -> Protection:
    """P-Pert: the jointly trained prior alone, the same for every face; runs no generator.

    Examples:
        >>> batch = FaceBatch(torch.zeros(1, 3, 32, 32), torch.zeros(1, 5), torch.zeros(1, 5, 2), None, None)
        >>> bool(0 < p_pert(Protector.from_pretrained())(batch).abs().max() < 0.0501)
        True
    """
    protector = protector.eval()

    @torch.no_grad()
    def protect(batch: FaceBatch) -> Images:
        return (batch.images + protector.universal(batch.images)).clamp(-1, 1)

    return protect


def refined(protector: RefinedProtector) -> Protection:
    """The refined protector where faces come with their labels, as in an evaluation."""

    def protect(batch: FaceBatch) -> Images:
        return protector(batch.images, batch.attributes).specific

    return protect

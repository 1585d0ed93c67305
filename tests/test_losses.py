import pytest
import torch
from torch.nn import functional as F

from art_idguard.losses import (
    OFFICIAL,
    PAPER,
    LossConfig,
    adversarial_loss,
    feature_loss,
    identity_loss,
    mask_loss,
)
from art_idguard.types import Manipulation, Region


@pytest.fixture
def case():
    g = torch.Generator().manual_seed(1)

    def rand(*shape):
        return torch.rand(*shape, generator=g, dtype=torch.float64)

    clean = Manipulation(rand(2, 3, 8, 8), rand(2, 5, 4, 4))
    disrupted = Manipulation(rand(2, 3, 8, 8), rand(2, 5, 4, 4))
    identities = (rand(2, 7), rand(2, 7))
    return clean, disrupted, identities, Region(rand(2, 1, 8, 8), rand(2, 1, 8, 8))


def test_mask_loss_by_hand():
    clean, disrupted = torch.zeros(1, 3, 2, 2), torch.full((1, 3, 2, 2), 2.0)
    mask = torch.tensor([[[[1.0, 0.0], [0.0, 0.5]]]])
    # Squares 4 and 1 in two of four pixels, the mean over all four.
    assert mask_loss(clean, disrupted, mask).item() == pytest.approx((4 + 1) / 4)


def test_identity_loss_is_minus_one_for_the_same_identity():
    e = torch.randn(4, 9)
    assert identity_loss(e, 3 * e).item() == pytest.approx(-1, abs=1e-6)
    assert identity_loss(e, -e).item() == pytest.approx(1, abs=1e-6)


def test_identity_loss_compares_feature_maps_position_by_position():
    a, b = torch.randn(2, 6, 3, 3), torch.randn(2, 6, 3, 3)
    norms = a.norm(dim=1) * b.norm(dim=1)
    torch.testing.assert_close(identity_loss(a, b), -((a * b).sum(1) / norms).mean())


def test_feature_loss_shrinks_the_mask_to_the_features():
    clean, disrupted = torch.zeros(1, 2, 2, 2), torch.ones(1, 2, 2, 2)
    mask = torch.ones(1, 1, 8, 8)
    assert feature_loss(clean, disrupted, mask).item() == pytest.approx(1)
    assert feature_loss(clean, disrupted, 0 * mask).item() == 0


def test_paper_adds_and_official_multiplies_the_masks(case):
    clean, disrupted, identities, region = case
    square = (clean.output - disrupted.output) ** 2
    bin_, heat = (square * region.component**2).mean(), (square * region.heat**2).mean()
    both = (square * (region.component * region.heat) ** 2).mean()
    identity = -F.cosine_similarity(*identities).mean()
    feature = feature_loss(clean.features, disrupted.features, region.component)

    paper = adversarial_loss(clean, disrupted, identities, region, PAPER)
    torch.testing.assert_close(paper.total, bin_ + heat + identity + feature)
    torch.testing.assert_close(paper.kpi, heat)
    official = adversarial_loss(clean, disrupted, identities, region, OFFICIAL)
    torch.testing.assert_close(official.total, both + 0.1 * identity + 0.01 * feature)
    torch.testing.assert_close(official.kpi, both)


@pytest.mark.parametrize("masks", ["sum", "product"])
def test_objective_of_undisturbed_faces_is_its_minimum(case, masks):
    clean, disrupted, (who, _), region = case
    config = LossConfig(masks=masks)
    nothing = adversarial_loss(clean, clean, (who, who), region, config)
    assert nothing.total.item() == pytest.approx(-1)
    assert nothing.kpi == 0
    assert adversarial_loss(clean, disrupted, case[2], region, config).total > nothing.total


def test_outside_the_masks_nothing_counts(case):
    clean, disrupted, identities, region = case
    inside = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    inside[..., 2:4, 2:4] = 1
    region = Region(*(m * inside for m in region))
    moved = Manipulation(disrupted.output + 5 * (1 - inside), disrupted.features)
    before = adversarial_loss(clean, disrupted, identities, region)
    torch.testing.assert_close(adversarial_loss(clean, moved, identities, region).total, before.total)

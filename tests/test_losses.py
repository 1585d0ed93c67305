import math

import pytest
import torch
from torch.nn import functional as F

from art_idguard.losses import (
    LOG,
    LOSSES,
    OFFICIAL,
    PAPER,
    LossConfig,
    adversarial_loss,
    distances,
    feature_loss,
    identity_loss,
)
from art_idguard.metrics import l2_face
from art_idguard.types import Manipulation, Region


@pytest.fixture
def case():
    g = torch.Generator().manual_seed(1)

    def rand(*shape):
        return torch.rand(*shape, generator=g, dtype=torch.float64)

    clean = Manipulation(rand(2, 3, 8, 8), rand(2, 5, 4, 4))
    disrupted = Manipulation(rand(2, 3, 8, 8), rand(2, 5, 4, 4))
    identities = [(rand(2, 7), rand(2, 7)), (rand(2, 9), rand(2, 9))]
    return clean, disrupted, identities, Region(*rand(3, 2, 1, 8, 8))


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("norm", math.sqrt(3 * (4 + 1))),  # the 2-norm of the masked difference of three channels
        ("square", (4 + 1) / 4),  # its squares' mean over all four pixels
        ("log", math.log((4 + 2) / 1.5)),  # the log of the squares' mean by the mask's weight
    ],
)
def test_distances_by_hand(form, expected):
    difference = torch.full((1, 3, 2, 2), 2.0)
    mask = torch.tensor([[[[1.0, 0.0], [0.0, 0.5]]]])
    assert distances(LossConfig(form))(difference, mask).item() == pytest.approx(expected)


def test_log_form_masks_by_equation_16(case):
    clean, disrupted, identities, region = case
    region = region._replace(face=(region.face > 0.5).double())
    task = adversarial_loss(clean, disrupted, identities, region, LossConfig("log", masks="face"))
    expected = l2_face(clean.output, disrupted.output, region.face).log().mean()
    torch.testing.assert_close(task.terms[0], expected)


@pytest.mark.parametrize(
    ("masks", "of"),
    [
        ("binary", lambda r: [r.component]),
        ("heat", lambda r: [r.heat]),
        ("product", lambda r: [r.component * r.heat]),
        ("face", lambda r: [r.face]),
        ("whole", lambda r: [torch.ones_like(r.heat)]),
        ("sum", lambda r: [r.component, r.heat]),
    ],
)
def test_masks_of_the_ablation_are_those_of_table_2(case, masks, of):
    clean, disrupted, _, region = case
    difference = disrupted.output - clean.output
    expected = sum(((difference * mask) ** 2).mean((1, 2, 3)) for mask in of(region)).mean()
    task = adversarial_loss(clean, disrupted, [], region, LossConfig("square", masks=masks, feature_weight=0.0))
    torch.testing.assert_close(task.terms, torch.stack([expected, expected * 0, expected * 0]))


def test_identity_loss_is_minus_one_for_the_same_identity():
    e = torch.randn(4, 9)
    assert identity_loss([(e, 3 * e)]).tolist() == pytest.approx([-1] * 4, abs=1e-6)
    assert identity_loss([(e, -e)]).tolist() == pytest.approx([1] * 4, abs=1e-6)


def test_identity_loss_is_the_mean_over_recognisers_each_with_its_floor():
    e, other = torch.eye(4)[:2], torch.tensor([[0.6, 0.8, 0, 0], [0, 0.6, 0.8, 0]])
    assert identity_loss([(e, e), (e, other)]).tolist() == pytest.approx([-0.8, -0.8])
    assert identity_loss([(e, -e), (e, other)], LOG).tolist() == pytest.approx([-0.4, -0.4])  # floor 0.2


def test_identity_loss_compares_feature_maps_position_by_position():
    a, b = torch.randn(2, 6, 3, 3), torch.randn(2, 6, 3, 3)
    norms = a.norm(dim=1) * b.norm(dim=1)
    torch.testing.assert_close(identity_loss([(a, b)]), -((a * b).sum(1) / norms).mean((1, 2)))


def test_feature_loss_shrinks_the_mask_to_the_features():
    clean, disrupted = torch.zeros(1, 2, 2, 2), torch.ones(1, 2, 2, 2)
    mask = torch.ones(1, 1, 8, 8)
    assert feature_loss(clean, disrupted, mask, OFFICIAL).item() == pytest.approx(1)
    assert feature_loss(clean, disrupted, mask, PAPER).item() == pytest.approx(math.sqrt(8))
    assert feature_loss(clean, disrupted, 0 * mask, PAPER).item() == 0


def test_paper_is_equation_9_with_the_norms_that_it_prints(case):
    clean, disrupted, identities, region = case
    difference = disrupted.output - clean.output
    masks = sum(((difference * m) ** 2).flatten(1).sum(1).sqrt() for m in (region.component, region.heat))
    identity = -torch.stack([F.cosine_similarity(*pair) for pair in identities]).mean(0)
    small = F.interpolate(region.component, (4, 4), mode="bilinear", align_corners=True)
    features = (((disrupted.features - clean.features) * small) ** 2).flatten(1).sum(1).sqrt()
    task = adversarial_loss(clean, disrupted, identities, region, PAPER)
    torch.testing.assert_close(task.terms, torch.stack([masks.mean(), identity.mean(), features.mean()]))
    torch.testing.assert_close(task.total, (masks + identity + features).mean())
    square = (difference**2 * region.heat).sum((1, 2, 3)) / (3 * region.heat.sum((1, 2, 3)))
    torch.testing.assert_close(task.kpi, square.mean())


def test_official_is_one_tenth_and_one_hundredth_of_means_of_squares(case):
    clean, disrupted, identities, region = case
    both = ((clean.output - disrupted.output) ** 2 * (region.component * region.heat) ** 2).mean()
    identity = -torch.stack([F.cosine_similarity(*pair) for pair in identities]).mean()
    feature = feature_loss(clean.features, disrupted.features, region.component, OFFICIAL).mean()
    task = adversarial_loss(clean, disrupted, identities, region, OFFICIAL)
    torch.testing.assert_close(task.total, both + 0.1 * identity + 0.01 * feature)
    torch.testing.assert_close(task.kpi, both)


def test_log_form_asks_no_more_of_a_face_whose_thresholds_are_met(case):
    """One face far beyond both caps, one not: the gradient is all the other's."""
    clean, disrupted, _, region = case
    output = disrupted.output.clone().requires_grad_()
    moved = clean.output + torch.tensor([1.0, 1e-3]).view(2, 1, 1, 1) * (output - clean.output)
    who = torch.tensor([[0.0, 1.0], [1.0, 0.1]], dtype=torch.float64).requires_grad_()
    pairs = [(torch.tensor([[1.0, 0.0], [1.0, 0.0]], dtype=torch.float64), who)]
    task = adversarial_loss(clean, Manipulation(moved, clean.features), pairs, region, LOG)
    by_output, by_identity = torch.autograd.grad(task.total, (output, who))
    assert by_output[0].abs().max() == 0
    assert by_output[1].abs().max() > 0
    assert by_identity[0].abs().max() == 0
    assert by_identity[1].abs().max() > 0


def test_gradient_of_the_log_form_does_not_depend_on_the_models_scale(case):
    clean, disrupted, identities, region = case
    gradients = []
    for scale in (1.0, 0.01):
        change = torch.ones(2, 1, 1, 1, dtype=torch.float64).requires_grad_()
        moved = clean.output + scale * change * 0.1 * (disrupted.output - clean.output)
        config = LossConfig("log", identity_weight=0.0, feature_weight=0.0, masks="face")
        task = adversarial_loss(clean, Manipulation(moved, clean.features), identities, region, config)
        gradients += torch.autograd.grad(task.total, change)
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("form", ["paper", "official"])
def test_objective_of_undisturbed_faces_is_its_minimum(case, form):
    clean, disrupted, pairs, region = case
    config = LOSSES[form]
    nothing = adversarial_loss(clean, clean, [(who, who) for who, _ in pairs], region, config)
    assert nothing.total.item() == pytest.approx(-config.identity_weight)
    assert nothing.kpi == 0
    assert adversarial_loss(clean, disrupted, pairs, region, config).total > nothing.total


@pytest.mark.parametrize("form", LOSSES)
def test_outside_the_masks_nothing_counts(case, form):
    clean, disrupted, identities, region = case
    inside = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    inside[..., 2:4, 2:4] = 1
    region = Region(*(m * inside for m in region))
    moved = Manipulation(disrupted.output + 5 * (1 - inside), disrupted.features)
    before = adversarial_loss(clean, disrupted, identities, region, LOSSES[form])
    after = adversarial_loss(clean, moved, identities, region, LOSSES[form])
    torch.testing.assert_close(after.terms, before.terms)
    torch.testing.assert_close(after.kpi, before.kpi)

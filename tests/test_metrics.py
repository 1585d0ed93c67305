import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from art_idguard.errors import IDGuardError
from art_idguard.evaluation.statistics import bootstrap_interval, wilson_interval
from art_idguard.metrics import disrupted, identity_similarity, l2_face, l2_image, l2_residual, psnr, ssim


@pytest.fixture
def pair():
    a = torch.rand(2, 3, 24, 32, dtype=torch.float64) * 2 - 1
    return a, (a + 0.2 * torch.randn_like(a)).clamp(-1, 1)


def skimage(metric, a, b, **options):
    arrays = [(x.numpy() + 1).transpose(0, 2, 3, 1) / 2 for x in (a, b)]
    return torch.tensor(
        [metric(x, y, data_range=1.0, **options) for x, y in zip(*arrays, strict=True)],
        dtype=torch.float64,
    )


def test_l2_face_by_hand():
    y = torch.zeros(1, 3, 1, 4)
    y_hat = torch.tensor([1.0, 2.0, -2.0, 9.0]).expand(1, 3, 1, 4)
    face = torch.tensor([1.0, 1.0, 0.0, 0.0]).reshape(1, 1, 1, 4)
    assert l2_face(y, y_hat, face).item() == pytest.approx((1 + 4) / 2)


def test_the_greatest_l2_is_four():
    black, white = -torch.ones(2, 3, 8, 8), torch.ones(2, 3, 8, 8)
    mask = torch.ones(2, 1, 8, 8)
    assert l2_face(black, white, mask).tolist() == l2_image(black, white).tolist() == [4, 4]


def test_l2_face_ignores_what_is_outside_the_mask(pair):
    a, b = pair
    face = torch.zeros(2, 1, 24, 32, dtype=torch.float64)
    face[..., 4:20, 8:24] = 1
    elsewhere = torch.where(face > 0, b, -b)
    torch.testing.assert_close(l2_face(a, elsewhere, face), l2_face(a, b, face))
    torch.testing.assert_close(l2_face(a, b, face), l2_image(a[..., 4:20, 8:24], b[..., 4:20, 8:24]))


def test_l2_face_of_the_whole_picture_is_l2_image(pair):
    torch.testing.assert_close(l2_face(*pair, torch.ones_like(pair[0][:, :1])), l2_image(*pair))


def test_an_empty_mask_has_no_distance(pair):
    distance = l2_face(*pair, torch.zeros_like(pair[0][:, :1]))
    assert distance.isnan().all()
    assert not disrupted(distance, torch.zeros_like(distance)).any()


@pytest.fixture
def forged(pair):
    """Forgeries of a clean and a protected face, the perturbation, and a mask of a part."""
    y, y_hat = pair
    delta = 0.1 * torch.rand_like(y) - 0.05
    face = torch.zeros_like(y[:, :1])
    face[..., 4:20, 8:24] = 1
    return y, y_hat, delta, face


@pytest.mark.parametrize("strength", [1.0, 0.3, 4.0, -2.0])
def test_a_perturbation_that_is_passed_on_leaves_no_residual(forged, strength):
    y, _, delta, face = forged
    strengths = torch.tensor([strength, 2 * strength], dtype=y.dtype).reshape(2, 1, 1, 1)  # each image has its own
    elsewhere = torch.where(face > 0, y + strengths * delta, y + 0.7)
    assert l2_face(y, elsewhere, face).min() > 1e-5
    assert l2_residual(y, elsewhere, delta, face).max() < 1e-12


def test_a_change_that_is_orthogonal_to_the_perturbation_is_all_residual(forged):
    y, _, delta, face = forged
    change = torch.randn_like(y)
    along = (face * delta * change).sum((1, 2, 3), keepdim=True) / (face * delta**2).sum((1, 2, 3), keepdim=True)
    change = change - along * delta
    torch.testing.assert_close(l2_residual(y, y + change, delta, face), l2_face(y, y + change, face))
    torch.testing.assert_close(l2_residual(y, y + change + 3 * delta, delta, face), l2_face(y, y + change, face))


def test_the_residual_is_that_of_numpys_least_squares(forged):
    y, y_hat, delta, face = forged
    inside = face.expand_as(y).bool()
    for i in range(len(y)):
        a, b = (t[i][inside[i]].numpy() for t in (delta, y_hat - y))
        (squares,) = np.linalg.lstsq(a[:, None], b, rcond=None)[1]
        assert l2_residual(*forged)[i].item() == pytest.approx(squares / len(b))


@given(slope=st.floats(-3, 3), spread=st.floats(0, 0.5))
def test_the_residual_is_never_more_than_l2_face(slope, spread):
    y, delta, face = torch.zeros(1, 3, 8, 8), torch.randn(1, 3, 8, 8), torch.ones(1, 1, 8, 8)
    y_hat = slope * delta + spread * torch.randn_like(y)
    assert l2_residual(y, y_hat, delta, face) <= l2_face(y, y_hat, face) * (1 + 1e-5)


def test_no_perturbation_explains_nothing_and_no_face_has_no_residual(forged):
    y, y_hat, delta, face = forged
    torch.testing.assert_close(l2_residual(y, y_hat, 0 * delta, face), l2_face(y, y_hat, face))
    assert l2_residual(y, y_hat, delta, 0 * face).isnan().all()


def test_disruption_needs_distance_and_another_identity():
    l2 = torch.tensor([0.06, 0.06, 0.05, 0.01])
    similarity = torch.tensor([0.39, 0.4, 0.0, 0.9])
    assert disrupted(l2, similarity).tolist() == [True, False, False, False]


def test_identity_similarity_is_the_cosine():
    a, b = torch.tensor([[3.0, 0.0], [1.0, 1.0]]), torch.tensor([[5.0, 0.0], [-2.0, 2.0]])
    torch.testing.assert_close(identity_similarity(a, b), torch.tensor([1.0, 0.0]))


def test_psnr_equals_scikit_image(pair):
    torch.testing.assert_close(psnr(*pair), skimage(peak_signal_noise_ratio, *pair))
    assert psnr(pair[0], pair[0]).tolist() == [math.inf, math.inf]


def test_ssim_equals_scikit_image(pair):
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    expected = skimage(structural_similarity, *pair, channel_axis=2, **options)
    torch.testing.assert_close(ssim(*pair), expected)


def test_ssim_is_symmetric_and_one_for_equal_pictures(pair):
    a, b = pair
    torch.testing.assert_close(ssim(a, b), ssim(b, a))
    torch.testing.assert_close(ssim(a, a), torch.ones(2, dtype=torch.float64))


def test_ssim_of_a_tiny_picture_says_what_to_do():
    with pytest.raises(IDGuardError, match="11x11"):
        ssim(torch.zeros(1, 3, 10, 40), torch.zeros(1, 3, 10, 40))


def test_bootstrap_equals_scipy():
    values = torch.rand(60, dtype=torch.float64) ** 2
    expected = stats.bootstrap(
        (values.numpy(),),
        np.mean,
        n_resamples=20000,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    width = expected.high - expected.low
    assert bootstrap_interval(values) == pytest.approx(tuple(expected), abs=0.05 * width)


def test_edits_of_one_image_are_no_independent_observations():
    values = torch.rand(30)
    repeated = values[:, None].expand(30, 5)
    assert bootstrap_interval(repeated) == pytest.approx(bootstrap_interval(values))


def test_bootstrap_leaves_nan_out():
    values = torch.rand(20, 2)
    with_gaps = torch.cat([values, torch.full((3, 2), torch.nan)])
    assert bootstrap_interval(with_gaps) == bootstrap_interval(values)
    with_gaps[0, 0] = torch.nan
    assert all(map(math.isfinite, bootstrap_interval(with_gaps)))
    assert all(map(math.isnan, bootstrap_interval(torch.full((3,), torch.nan))))
    assert all(map(math.isnan, bootstrap_interval(torch.empty(0))))


def test_bootstrap_is_repeatable():
    values = torch.rand(40)
    low, high = bootstrap_interval(values)
    assert low < values.mean() < high
    assert bootstrap_interval(values) == (low, high)


@pytest.mark.parametrize(("successes", "n"), [(0, 1), (0, 20), (3, 20), (10, 20), (20, 20)])
def test_the_interval_of_a_share_is_wilsons(successes, n):
    expected = stats.binomtest(successes, n).proportion_ci(method="wilson")
    assert wilson_interval(successes / n, n) == pytest.approx(tuple(expected), abs=1e-6)


@given(shift=st.floats(-5, 5), scale=st.floats(0.1, 10))
def test_percentile_interval_is_equivariant_under_affine_maps(shift, scale):
    values = torch.linspace(0, 1, 12, dtype=torch.float64) ** 3
    low, high = bootstrap_interval(values)
    moved = bootstrap_interval(shift + scale * values)
    assert moved == pytest.approx((shift + scale * low, shift + scale * high), abs=1e-9)

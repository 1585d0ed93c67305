import pytest
import torch

from art_idguard.metrics import colour_difference, low_frequency_share

# Sharma, Wu and Dalal (2005), "The CIEDE2000 color-difference formula", Table 1: Lab, Lab, difference.
PUBLISHED = [
    ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
    ((50, 3.1571, -77.2803), (50, 0, -82.7485), 2.8615),
    ((50, 2.8361, -74.0200), (50, 0, -82.7485), 3.4412),
    ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
    ((63.0109, -31.0961, -5.8663), (62.8187, -29.7946, -4.0864), 1.2630),
    ((35.0831, -44.1164, 3.7933), (35.0232, -40.0716, 1.5901), 1.8645),
    ((22.7233, 20.0904, -46.6940), (23.0331, 14.9730, -42.5619), 2.0373),
    ((90.9257, -0.5406, -0.9208), (88.6381, -0.8985, -0.7239), 1.5381),
    ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
    ((50, 2.5, 0), (73, 25, -18), 27.1492),
    ((50, 2.5, 0), (61, -5, 29), 22.8977),
    ((50, 2.5, 0), (56, -27, -3), 31.9030),
    ((50, 2.5, 0), (58, 24, 15), 19.4535),
]
IN_SRGB = [p for p in PUBLISHED if max(abs(b) for _, _, b in p[:2]) < 40 and max(abs(a) for _, a, _ in p[:2]) < 40]


def srgb(*lab):
    """Pixels on the [-1, 1] scale by the definitions of Lab (D65, 2 degrees) and sRGB (IEC 61966-2-1)."""
    lightness, a, b = torch.tensor(lab, dtype=torch.float64).T
    f = torch.stack([(lightness + 16) / 116 + a / 500, (lightness + 16) / 116, (lightness + 16) / 116 - b / 200])
    white = torch.tensor([0.95047, 1, 1.08883], dtype=torch.float64)[:, None]
    xyz = white * torch.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29))
    primaries = [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]
    linear = torch.tensor(primaries, dtype=torch.float64).inverse() @ xyz
    return 2 * torch.where(linear > 0.0031308, 1.055 * linear.clamp(min=0) ** (1 / 2.4) - 0.055, 12.92 * linear) - 1


def painted(pixels, size=8):
    return pixels.T.reshape(-1, 3, 1, 1).expand(-1, 3, size, size)


def everywhere(images):
    return torch.ones_like(images[:, :1])


def test_scikit_image_has_the_published_differences():
    from skimage.color import deltaE_ciede2000

    for a, b, expected in PUBLISHED:
        assert deltaE_ciede2000(a, b) == pytest.approx(expected, abs=5e-5)


def test_pictures_of_two_colours_have_their_difference():
    first, second, expected = zip(*IN_SRGB, strict=True)
    assert len(expected) == 8
    a, b = painted(srgb(*first)), painted(srgb(*second))
    assert max(a.abs().max(), b.abs().max()) <= 1
    found = colour_difference(a, b, everywhere(a))
    for measured in (found.mean, found.p95):
        assert measured.tolist() == pytest.approx(expected, abs=1e-3)
    assert found.share.tolist() == [difference > 2.3 for difference in expected]


def test_mean_percentile_and_share_are_over_the_pixels():
    a = torch.zeros(1, 3, 10, 10)
    shifts = (0.2, 0.06, 0.02)
    b = a.clone()
    for row, shift in enumerate(shifts):
        b[..., row, :] += shift
    most, more, little = (colour_difference(a, a + shift, everywhere(a)).mean.item() for shift in shifts)
    assert 0.5 < little < 2 < 2.3 < more < 3 < most
    found = colour_difference(a, b, everywhere(a))
    assert found.mean.item() == pytest.approx((most + more + little) / 10, rel=1e-5)
    assert found.share.item() == pytest.approx(0.2)
    assert found.p95.item() == pytest.approx(most, rel=1e-5)


def test_equal_pictures_have_no_difference_and_a_larger_shift_a_larger_one():
    a = torch.rand(2, 3, 8, 8) - 0.5
    assert torch.stack(colour_difference(a, a, everywhere(a))).eq(0).all()
    means = torch.stack([colour_difference(a, a + shift, everywhere(a)).mean for shift in (0.02, 0.05, 0.1, 0.2)])
    assert (means.diff(dim=0) > 0).all()


def test_colours_outside_the_mask_do_not_count():
    a = torch.rand(2, 3, 8, 8) - 0.5
    face = torch.zeros(2, 1, 8, 8)
    face[..., 2:6, 3:7] = 1
    elsewhere = torch.where(face > 0, a, -a)
    assert torch.stack(colour_difference(a, elsewhere, face)).eq(0).all()
    assert (colour_difference(a, elsewhere, 1 - face).mean > 1).all()


def test_an_empty_mask_has_no_colour():
    a = torch.rand(2, 3, 8, 8)
    face = everywhere(a)
    face[1] = 0
    found = torch.stack(colour_difference(a, a, face))
    assert found[:, 0].isfinite().all()
    assert found[:, 1].isnan().all()


def test_a_constant_shift_is_all_low_frequency_and_noise_hardly():
    delta = torch.stack(
        [torch.full((3, 128, 128), -0.05), 0.05 * torch.randn(3, 128, 128).sign(), torch.zeros(3, 128, 128)]
    )
    constant, noise, nothing = low_frequency_share(delta).tolist()
    assert constant == pytest.approx(1, rel=1e-5)
    assert noise == pytest.approx(1 / 81, rel=0.2)  # a little more at the edges
    assert nothing != nothing


def test_what_is_blurred_is_the_mean_of_nine_by_nine():
    delta = torch.zeros(1, 3, 32, 32)
    delta[..., 16, 16] = 1
    assert low_frequency_share(delta).item() == pytest.approx(1 / 81)
    assert low_frequency_share(3 * delta).item() == pytest.approx(1 / 81)


def test_the_share_is_never_more_than_one():
    ramp = torch.linspace(-1, 1, 12).square()
    delta = (1 + ramp[:, None] + ramp).expand(1, 3, 12, 12)
    assert low_frequency_share(delta).item() <= 1

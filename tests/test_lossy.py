import cv2
import pytest
import torch

from art_idguard.distortions import After, blur, jpeg_file, noise, parse, rescale
from art_idguard.errors import IDGuardError
from art_idguard.images import from_array, to_array
from tests.toys import tiny_manipulators


def smooth(count=2, size=48):
    """Pictures that JPEG keeps well."""
    return torch.nn.functional.interpolate(torch.rand(count, 3, 6, 6) * 1.6 - 0.8, (size, size), mode="bicubic")


@pytest.mark.parametrize("quality", [30, 75, 95])
def test_jpeg_is_what_opencv_writes_and_reads(quality):
    x = smooth()
    options = [
        cv2.IMWRITE_JPEG_QUALITY,
        quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    ]
    decoded = [cv2.imdecode(cv2.imencode(".jpg", p[..., ::-1], options)[1], cv2.IMREAD_COLOR) for p in to_array(x)]
    expected = torch.cat([from_array(picture[None, ..., ::-1].copy()) for picture in decoded])
    found = jpeg_file(x, quality=quality)
    torch.testing.assert_close(found, expected, rtol=0, atol=2.5 * 2 / 255)
    assert (found - x).abs().max() > 2 / 255


def test_the_gradient_passes_jpeg_as_if_it_did_nothing():
    x = smooth().requires_grad_()
    (gradient,) = torch.autograd.grad((jpeg_file(x, quality=75) * torch.arange(48.0)).sum(), x)
    torch.testing.assert_close(gradient, torch.arange(48.0).expand_as(x))


def test_specifications_are_the_operations_of_robustness():
    x = smooth()
    for text, expected in {
        "none": x,
        "blur=1.5": blur(x, sigma=1.5),
        "resize=0.5": rescale(x, factor=0.5),
        "noise=0.05": noise(x, sigma=0.05, seed=0),
        "jpeg=75": jpeg_file(x, quality=75),
    }.items():
        torch.testing.assert_close(parse(text)(x), expected)


@pytest.mark.parametrize("text", ["", "rain", "rain=1", "none=1"])
def test_an_unknown_operation_is_refused(text):
    with pytest.raises(IDGuardError, match="expected none, or NAME=STRENGTH with jpeg, resize, blur, noise"):
        parse(text)


@pytest.mark.parametrize("text", ["jpeg", "jpeg=", "jpeg=high", "jpeg=0", "jpeg=96", "jpeg=nan", "resize=2", "blur=-1"])
def test_a_strength_outside_its_range_is_refused(text):
    with pytest.raises(IDGuardError, match="needs a strength from"):
        parse(text)


def test_a_manipulator_after_an_operation_forges_what_is_left():
    (stargan,) = tiny_manipulators(("stargan",))
    x = smooth(size=32)
    after = After(stargan, parse("blur=1"))
    edit = after.edits(torch.zeros(2, 5))[1]
    assert edit.name == stargan.edits(torch.zeros(2, 5))[1].name
    torch.testing.assert_close(after(x, edit).output, stargan(blur(x, sigma=1.0), edit).output)

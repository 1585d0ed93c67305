"""The lossy operations against Pillow and scikit-image, and training through them against the textbook step."""

import io

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image
from skimage.filters import gaussian
from skimage.metrics import peak_signal_noise_ratio
from torch import nn

from art_idguard.distortions import NOTHING, OPERATIONS, blur, crop, crop_frame, jpeg, noise, rescale, sample_distortion
from art_idguard.errors import IDGuardError
from art_idguard.faces.alignment import ARCFACE_TEMPLATE, align, template_frame
from art_idguard.images import from_array, to_uint8
from art_idguard.losses import PAPER
from art_idguard.objective import distorted
from art_idguard.perturbation import Protector
from art_idguard.regions import MaskedFaces
from art_idguard.training.protector.config import ProtectorConfig
from art_idguard.training.protector.setup import build_run
from art_idguard.training.protector.step import cut_graph_step
from art_idguard.training.protector.train import train_protector
from art_idguard.types import Protected, Region
from art_idguard.weighting import make_weighting
from examples.benchmarks.step import textbook_step
from tests.toys import PORTRAIT, ToyRecognizer, tiny_manipulators, write_portraits


def portrait(side):
    return np.asarray(Image.open(PORTRAIT).convert("RGB").resize((side, side)))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_keep_shape_range_and_dtype(name, dtype):
    images = (torch.rand(2, 3, 40, 56) * 2 - 1).to(dtype)
    for seed in range(5):
        changed = OPERATIONS[name].draw(generator(seed)).images(images)
        assert changed.shape == images.shape
        assert changed.dtype == dtype
        assert changed.abs().max() <= 1
        assert torch.equal(changed, images) == (name == "none")


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_same_draw_does_the_same_to_every_picture(name):
    """Clean and protected faces go through one distortion, alone or in a batch."""
    images = torch.rand(3, 3, 32, 32) * 2 - 1
    distortion = OPERATIONS[name].draw(generator())
    alone = torch.cat([distortion.images(image) for image in images.split(1)])
    torch.testing.assert_close(distortion.images(images), alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", OPERATIONS)
def test_gradients_are_those_of_finite_differences(name):
    """All but JPEG's: its derivative is that of a surrogate for rounding, which is not even continuous."""
    image = (torch.rand(1, 3, 16, 16, dtype=torch.float64) * 1.6 - 0.8).requires_grad_()
    distortion = OPERATIONS[name].draw(generator())
    direction = torch.randn_like(image)
    (gradient,) = torch.autograd.grad((distortion.images(image) * direction).sum(), image)
    assert gradient.norm() > 0.1 * direction.norm()
    if name != "jpeg":
        assert torch.autograd.gradcheck(lambda x: distortion.images(x).mean(1), image, fast_mode=True)


@pytest.mark.parametrize("quality", [95, 85, 75])
def test_jpeg_is_pillows(quality):
    """Far closer to Pillow's decoded file than that is to the picture."""
    pixels = portrait(512)
    with io.BytesIO() as file:
        Image.fromarray(pixels).save(file, format="JPEG", quality=quality)
        expected = np.asarray(Image.open(file))
    found = to_uint8(jpeg(from_array(pixels[None]), quality=quality))[0].permute(1, 2, 0).numpy()
    closeness = peak_signal_noise_ratio(expected, found)
    assert closeness > 42
    assert closeness > peak_signal_noise_ratio(expected, pixels) + 7


def test_rescale_is_pillows():
    pixels = portrait(64)
    small = Image.fromarray(pixels).resize((32, 32), Image.Resampling.BILINEAR)
    expected = np.asarray(small.resize((64, 64), Image.Resampling.BILINEAR))
    found = to_uint8(rescale(from_array(pixels[None]), factor=0.5))[0].permute(1, 2, 0).numpy()
    assert np.abs(found.astype(int) - expected).max() <= 2  # Pillow rounds between its four passes
    assert np.abs(found.astype(int) - expected).mean() < 0.5


def test_blur_is_scikit_images():
    pixels = portrait(48)
    found = blur(from_array(pixels[None]).double(), sigma=1.2)[0].permute(1, 2, 0).numpy()
    expected = gaussian(pixels / 127.5 - 1, sigma=1.2, truncate=4 / 1.2, channel_axis=2)
    inner = slice(5, -5)  # the edges are mirrored differently
    assert np.abs(found - expected)[inner, inner].max() < 1e-6


def test_noise_has_its_sigma_and_seed():
    grey = torch.zeros(1, 3, 128, 128)
    assert noise(grey, sigma=0.02, seed=1).std().item() == pytest.approx(0.02, rel=0.02)
    assert torch.equal(noise(grey, sigma=0.02, seed=1), noise(grey, sigma=0.02, seed=1))
    assert not torch.equal(noise(grey, sigma=0.02, seed=1), noise(grey, sigma=0.02, seed=2))


def test_crop_by_whole_pixels_is_a_slice():
    image = torch.rand(1, 3, 32, 32, dtype=torch.float64)
    moved = crop(image, zoom=1.0, shift=(4 / 16, -2 / 16))
    torch.testing.assert_close(moved[..., 2:, :-4], image[..., :-2, 4:])


def test_recognition_frame_and_masks_follow_the_crop():
    """What a recogniser sees of a face does not depend on how the picture was framed."""
    side = 256
    image = from_array(portrait(side)[None])
    landmarks = ((ARCFACE_TEMPLATE[None] + 0.5) / 112 * 70 + torch.tensor([75.0, 25])).float()
    frame = template_frame(landmarks, (side, side), ARCFACE_TEMPLATE)
    options = {"zoom": 0.93, "shift": (0.05, -0.03)}
    cropped = crop(image, **options)
    before = align(image, frame, 48)
    after = align(cropped, crop_frame(frame, **options), 48)
    assert (after - before).abs().mean() < 0.02
    assert (align(cropped, frame, 48) - before).abs().mean() > 0.1

    mask = (torch.arange(side) < 100).float().expand(1, 1, side, side)
    masked = MaskedFaces(mask.expand(-1, 3, -1, -1), Region(mask, mask, mask), frame)
    moved = distorted(masked, OPERATIONS["crop"].draw(generator()))
    assert torch.equal(moved.region.component, moved.images[:, :1])
    assert not torch.equal(moved.region.heat, mask)


def test_draw_depends_on_the_seed_alone_and_names_every_operation():
    image = torch.rand(1, 3, 24, 24) * 2 - 1
    names = ("none", "jpeg", "crop")
    first, again, other = (sample_distortion(names, seed=s).images(image) for s in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    unchanged = sum(torch.equal(sample_distortion(names, seed=s).images(image), image) for s in range(60))
    assert 8 <= unchanged <= 32  # a third; both ends are over 3 sigma away
    assert sample_distortion((), seed=1) is NOTHING


class Through(nn.Module):
    """What the textbook sees: faces that went through a distortion after they were protected."""

    def __init__(self, protector, images, distortion):
        super().__init__()
        self.protector, self.generator = protector, protector.generator
        self.images, self.distortion = images, distortion

    def forward(self, _seen):
        return Protected(*map(self.distortion.images, self.protector(self.images)))


@pytest.mark.parametrize(("name", "weighting"), [("crop", "mgda"), *((name, "kpi") for name in OPERATIONS)])
def test_cut_graph_step_through_an_operation_equals_textbook_step(name, weighting):
    dtype = torch.float64
    torch.manual_seed(3)
    protector = Protector(size=32, generator_config={"channels": 8, "norm": "instance"}).to(dtype)
    protector.prior.data.uniform_(-0.05, 0.05)
    targets = tiny_manipulators(("stargan", "relgan"), dtype=dtype)
    edits = [t.edits(torch.eye(5, dtype=dtype)[:2])[1] for t in targets]
    region = Region(*torch.rand(3, 2, 1, 32, 32, dtype=dtype))
    masked = MaskedFaces(torch.rand(2, 3, 32, 32, dtype=dtype) * 2 - 1, region, None)
    recognizers = [ToyRecognizer().to(dtype).requires_grad_(False)]
    distortion = OPERATIONS[name].draw(generator(7))
    rules = [make_weighting(weighting, alpha=(1.0, 10.0), space="parameters") for _ in range(2)]

    def gradients():
        return torch.cat([p.grad.flatten() for p in protector.parameters() if p.grad is not None])

    textbook = Through(protector, masked.images, distortion)
    view = distorted(masked, distortion)
    expected_weights = textbook_step(textbook, targets, edits, recognizers, rules[0], view, PAPER)
    expected = gradients()
    protector.zero_grad()
    report = cut_graph_step(
        protector, targets, edits, recognizers, rules[1], masked, Accelerator(cpu=True), PAPER, distortion
    )
    assert expected.norm() > 0
    torch.testing.assert_close(report.weights, expected_weights, rtol=1e-9, atol=1e-12)
    assert (gradients() - expected).norm() <= 1e-9 * expected.norm()


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workplace")
    write_portraits(folder / "faces", 4)
    tiny_manipulators(("stargan",))[0].save_pretrained(folder / "stargan")
    return folder


def config(workplace, output, **changes):
    settings = {
        "faces": str(workplace / "faces"),
        "manipulators": (str(workplace / "stargan"),),
        "output": str(output),
        "size": 64,
        "channels": 8,
        "norm": "instance",
        "prior": "noise",
        "batch_size": 2,
        "steps": 4,
        "regions": str(workplace / "regions.safetensors"),
        "augment": ("jpeg", "crop", "noise"),
    }
    return ProtectorConfig(**(settings | changes))


@pytest.mark.slow
def test_resumed_training_through_operations_is_bit_identical(workplace, tmp_path):
    from art_idguard.training.checkpoint import save_checkpoint
    from art_idguard.training.protector.step import train_step

    whole = train_protector(config(workplace, tmp_path / "whole"), verbose=False)
    broken = config(workplace, tmp_path / "broken")
    run = build_run(broken)
    for _ in range(2):
        train_step(run)
    save_checkpoint(run.folder, run.state())
    resumed = train_protector(broken, resume=True, verbose=False)
    plain = train_protector(config(workplace, tmp_path / "plain", augment=()), verbose=False)
    weights = [(folder / "model.safetensors").read_bytes() for folder in (whole, resumed, plain)]
    assert weights[0] == weights[1]
    assert weights[0] != weights[2]


def test_unknown_operations_are_named(workplace, tmp_path):
    with pytest.raises(IDGuardError, match="unknown operation sepia; choose from: none, jpeg"):
        train_protector(config(workplace, tmp_path, augment=("jpeg", "sepia")), verbose=False)

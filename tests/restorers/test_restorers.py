"""Restorers fill what is masked from what is around it, and are compared with the forgery that nobody disrupted."""

import pytest
import torch

from art_idguard.errors import IDGuardError
from art_idguard.faces.alignment import celeba_landmarks
from art_idguard.faces.detection import FaceDetector
from art_idguard.files.photo import read_photo
from art_idguard.images import from_uint8
from art_idguard.models import load
from art_idguard.photos.protect import face_crop, face_frames
from art_idguard.regions import component_mask
from art_idguard.restorers import RESTORERS, FaceInpainter, Restored, find, inpainter
from tests.toys import PORTRAIT, tiny_manipulators

SIZE = 64


@pytest.fixture(params=RESTORERS.names())
def restorer(request):
    return find(request.param)


@pytest.fixture
def pictures():
    return from_uint8(torch.randint(256, (2, 3, SIZE, SIZE), dtype=torch.uint8))


@pytest.fixture
def mask():
    holes = torch.zeros(2, 1, SIZE, SIZE)
    holes[0, :, 20:30, 15:40] = 1
    holes[1, :, 40:50, 10:20] = 1
    return holes


def test_what_is_not_masked_stays_bit_for_bit(restorer, pictures, mask):
    restored = restorer(pictures, mask)
    assert restored.shape == pictures.shape
    assert restored.dtype == pictures.dtype
    assert torch.equal(restored * (1 - mask), pictures * (1 - mask))
    assert restored.abs().max() <= 1


def test_what_is_masked_is_not_looked_at(restorer, pictures, mask):
    hidden = torch.where(mask > 0, torch.ones_like(pictures), pictures)
    assert torch.equal(restorer(pictures, mask), restorer(hidden, mask))


@pytest.mark.parametrize("restorer", [find("telea"), find("navier-stokes")])
def test_a_hole_in_one_colour_gets_that_colour(restorer, mask):
    plain = from_uint8(torch.full((2, 3, SIZE, SIZE), 90, dtype=torch.uint8))
    broken = torch.where(mask > 0, -torch.ones_like(plain), plain)
    assert (restorer(broken, mask) - plain).abs().max() <= 2 * 3 / 255  # OpenCV's Telea makes 89 to 92 of 90


def test_nothing_is_restored_where_nothing_is_masked(restorer, pictures):
    assert torch.equal(restorer(pictures, torch.zeros(2, 1, SIZE, SIZE)), pictures)


def test_a_restored_manipulator_differs_in_the_components_alone(restorer, pictures):
    (manipulator,) = tiny_manipulators(("stargan",))
    edit = manipulator.edits(torch.zeros(2, 5))[0]
    forged, restored = manipulator(pictures, edit), Restored(manipulator, restorer)(pictures, edit)
    inside = component_mask(celeba_landmarks((SIZE, SIZE)), (SIZE, SIZE)) > 0.5
    changed = (restored.output != forged.output).any(1, keepdim=True)
    assert not (changed & ~inside).any()
    assert (changed & inside).any()
    assert torch.equal(restored.features, forged.features)


def test_an_unknown_restorer_is_named():
    with pytest.raises(IDGuardError, match="unknown restorer 'lama'; choose from: telea, navier-stokes"):
        find("lama")


# --- the one that has learnt ---


def test_what_has_learnt_comes_nearer_to_a_face_than_what_has_not():
    """The portrait, of nobody that it has seen: eyes, brows, nose and mouth."""
    pixels = read_photo(PORTRAIT).pixels
    (frame,) = face_frames([FaceDetector().largest(pixels)], pixels.shape[:2])
    face = torch.from_numpy(face_crop(pixels, frame, 128)).clamp(-1, 1)
    mask = component_mask(celeba_landmarks((128, 128)), (128, 128))
    errors = {name: (find(name)(face, mask) - face).square().mean().item() for name in RESTORERS.names()}
    assert errors["learned"] < min(errors["telea"], errors["navier-stokes"])


@pytest.mark.parametrize("size", [(64, 64), (128, 128), (96, 160)])
def test_an_inpainter_takes_pictures_of_any_size_and_is_loaded_by_its_kind(size, tmp_path):
    FaceInpainter(channels=4).save_pretrained(tmp_path)
    loaded = load(tmp_path)
    assert isinstance(loaded, FaceInpainter)
    pictures, mask = torch.rand(2, 3, *size) * 2 - 1, torch.zeros(2, 1, *size)
    mask[..., 10:30, 12:40] = 1
    with torch.no_grad():
        restored = loaded(pictures, mask)
    assert torch.equal(restored * (1 - mask), pictures * (1 - mask))
    assert not torch.equal(restored, pictures)


def test_an_installation_without_the_inpainter_says_so(monkeypatch, tmp_path, mask, pictures):
    inpainter._default.cache_clear()
    monkeypatch.setattr(inpainter, "shipped", lambda path: tmp_path / path)
    with pytest.raises(IDGuardError, match=r"no inpainter ships with this installation .*a clone of the repository"):
        find("learned")(pictures, mask)

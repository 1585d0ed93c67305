"""Pictures without torch are resampled as torch does it, and framed as its tensors are."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from art_idguard import images
from art_idguard.faces.alignment import CELEBA_TEMPLATE, align, template_frame
from art_idguard.faces.framing import celeba_frame
from art_idguard.photos.protect import face_crop
from art_idguard.pixels import bands, resize, sample

sides = st.integers(2, 70)  # of a picture one pixel wide torch (2.13) repeats the first row when it is enlarged
seeds = st.integers(0, 2**32 - 1)


def as_tensor(picture):
    return torch.from_numpy(picture).permute(2, 0, 1)[None].float()


def as_picture(tensor):
    return tensor[0].permute(1, 2, 0).numpy()


@given(before=st.tuples(sides, sides), after=st.tuples(sides, sides), seed=seeds)
def test_resize_is_torch_s(before, after, seed):
    picture = np.random.default_rng(seed).integers(0, 256, (*before, 3), np.uint8)
    found = resize(picture, after)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, as_picture(images.resize(as_tensor(picture), after)), rtol=0, atol=0.01)


def test_resize_of_a_picture_of_several_bands_is_torch_s():
    picture = np.random.default_rng(0).integers(0, 256, (1100, 600, 3), np.uint8)
    assert len(list(bands(1100, 600))) > 2
    expected = as_picture(images.resize(as_tensor(picture), (40, 50)))
    np.testing.assert_allclose(resize(picture, (40, 50)), expected, rtol=0, atol=0.01)


@given(size=st.tuples(sides, sides), seed=seeds, reach=st.floats(0.1, 3))
def test_sample_is_torch_s_grid_sample(size, seed, reach):
    random = np.random.default_rng(seed)
    picture = random.random((*size, 3), np.float32)
    points = random.uniform(-reach, reach, (9, 11, 2)).astype(np.float32)
    points[0, :3] = [[-1, -1], [1, 1], [0, 0]]
    expected = F.grid_sample(
        as_tensor(picture), torch.from_numpy(points)[None], padding_mode="border", align_corners=False
    )
    found = sample(picture, points)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, as_picture(expected), rtol=0, atol=1e-4)


@given(seed=seeds, size=st.tuples(st.integers(16, 200), st.integers(16, 200)))
def test_frames_of_arrays_and_of_tensors_are_the_same(seed, size):
    points = (CELEBA_TEMPLATE.numpy() + np.random.default_rng(seed).normal(0, 3, (5, 2))).astype(np.float32)
    (expected,) = template_frame(torch.from_numpy(points)[None], size, CELEBA_TEMPLATE)
    np.testing.assert_allclose(celeba_frame(points, size), expected.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("moved", [0, 40, -60, 400])
def test_a_crop_is_what_align_makes_of_tensors_and_black_beyond_the_photo(moved):
    """Of a face that is not shrunk, so that no phase of shrunken pixels differs."""
    photo = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    turn = np.array([[0.9, -0.3], [0.3, 0.9]])
    points = ((CELEBA_TEMPLATE.numpy() - 56) @ turn.T * 0.5 + [50 + moved, 45]).astype(np.float32)
    frame = celeba_frame(points, (90, 120))
    expected = align(images.from_array(photo[None]), torch.from_numpy(frame)[None], 64)
    np.testing.assert_allclose(face_crop(photo, frame, 64), expected.numpy(), rtol=0, atol=1e-3)

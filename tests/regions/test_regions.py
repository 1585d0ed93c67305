import io
import itertools
import tarfile

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn
from torch.nn import functional as F

from art_idguard.data.faces import Faces
from art_idguard.faces.alignment import arcface_frame
from art_idguard.recognizers.base import Recognizer
from art_idguard.regions import (
    annotation_mask,
    component_mask,
    face_mask,
    face_mask_from_annotation,
    face_mask_from_landmarks,
    heat_map,
    heat_maps,
    heat_to_picture,
    landmark_mask,
)
from art_idguard.regions.drawing import EYES, Ellipse, draw_ellipses, face_axis

POINTS = torch.tensor([[[43.0, 57.0], [68, 58], [55, 72], [45, 84], [66, 84]]])
MASKS = (component_mask, face_mask)


class Toy(Recognizer):
    name = "toy"
    size = 32

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 8, 5, stride=4, padding=2)
        self.linear = nn.Linear(8 * 8 * 8, 6)

    def backbone(self, faces):
        return F.relu(self.convolution(faces))

    def head(self, features):
        return torch.tanh(self.linear(features.flatten(1)))


class ToyWithClasses(Toy):
    def classify(self, features):
        return self.head(features) ** 3


@pytest.fixture(params=[Toy, ToyWithClasses])
def recognizer(request):
    return request.param().double().eval().requires_grad_(False)


@pytest.fixture
def faces():
    return torch.rand(3, 3, 48, 40, dtype=torch.float64) * 2 - 1


@pytest.fixture
def frames():
    scale = torch.tensor([40 / 128, 48 / 128])
    shift = torch.tensor([[[0.0, 0.0]], [[3.0, -2.0]], [[-4.0, 1.0]]])
    return arcface_frame((POINTS * scale + shift).double(), (48, 40))


def iou(a, b):
    a, b = a > 0.5, b > 0.5
    return ((a & b).sum((1, 2, 3)) / (a | b).sum((1, 2, 3))).mean().item()


def score(recognizer, features):
    if isinstance(recognizer, ToyWithClasses):
        return recognizer.classify(features).amax(dim=1).sum()
    return recognizer.head(features).norm(dim=1).sum()


def stretched(cam):
    cam = F.relu(cam)
    low, high = cam.amin((2, 3), keepdim=True), cam.amax((2, 3), keepdim=True)
    return ((cam - low) / (high - low)).float()


@pytest.mark.parametrize("mask", MASKS)
@given(scale=st.floats(0.7, 1.4), angle=st.floats(-3.1, 3.1), x=st.floats(-9, 9), y=st.floats(-9, 9))
def test_masks_are_equivariant_under_similarity(mask, scale, angle, x, y):
    """Moving, turning and scaling the points moves, turns and scales the mask."""
    turn = scale * torch.polar(torch.ones(1), torch.tensor([angle]))
    middle = torch.tensor([63.5 + 63.5j])
    moved = middle + torch.tensor([x + 1j * y]) + turn * (torch.view_as_complex(POINTS) - middle)
    found = mask(torch.view_as_real(moved), (128, 128))

    # Where each pixel of the moved mask comes from, in normalised coordinates.
    line = torch.arange(128.0)
    pixels = torch.complex(line.expand(128, 128), line[:, None].expand(128, 128))
    source = middle + (pixels - middle - torch.tensor([x + 1j * y])) / turn
    grid = (torch.view_as_real(source)[None] + 0.5) / 64 - 1
    expected = F.grid_sample(mask(POINTS, (128, 128)), grid, align_corners=False)
    expected = expected * (grid.abs() <= 1).all(dim=3)
    inside = (grid.abs() <= 1).all(dim=3)[:, None]
    assert iou(found * inside, expected) > 0.9


@pytest.mark.parametrize("mask", MASKS)
def test_masks_scale_with_the_picture(mask):
    small = mask(POINTS, (128, 128))
    large = mask((POINTS + 0.5) * 2 - 0.5, (256, 256))
    assert iou(F.avg_pool2d(large, 2), small) > 0.93


@pytest.mark.parametrize("mask", MASKS)
def test_masks_of_a_batch_are_those_of_its_faces(mask):
    landmarks = torch.cat([POINTS, POINTS * 0.8, POINTS + 10])
    together = mask(landmarks, (96, 128))
    assert together.shape == (3, 1, 96, 128)
    assert together.amin() >= 0
    assert together.amax() <= 1
    torch.testing.assert_close(together, torch.cat([mask(p[None], (96, 128)) for p in landmarks]))


def test_an_ellipse_has_the_area_and_place_of_its_definition():
    axis = face_axis(POINTS.double()).abs().item()
    ellipse = Ellipse(EYES, 0.0, 0.5, 0.8, 0.4, 0.3)
    mask = draw_ellipses((ellipse,), POINTS.double(), (128, 128))
    assert mask.sum().item() == pytest.approx(np.pi * 0.8 * 0.4 * axis**2, rel=0.01)
    line = torch.arange(128.0)
    centre = torch.stack([(mask * line).sum(), (mask * line[:, None]).sum()]) / mask.sum()
    eyes = torch.view_as_complex(POINTS)[0, :2].mean()
    expected = torch.view_as_real(eyes + 0.5j * face_axis(POINTS)[0])
    torch.testing.assert_close(centre, expected.double(), atol=0.05, rtol=0)


def test_component_mask_covers_eyes_nose_and_mouth_but_no_cheek():
    mask = component_mask(POINTS, (128, 128))[0, 0]
    for x, y in [*POINTS[0, :3].int().tolist(), (55, 84)]:
        assert mask[y, x] == 1
    assert mask[72, 35] == mask[100, 55] == mask[30, 55] == 0


def test_annotation_mask_is_the_official_union():
    labels = torch.arange(19, dtype=torch.uint8).reshape(1, 1, 19)
    expected = [float(i in (2, 4, 5, 6, 7, 10, 11, 12)) for i in range(19)]
    assert annotation_mask(labels).flatten().tolist() == expected
    assert annotation_mask(torch.zeros(1, 4, 4, dtype=torch.uint8)).sum() == 0


def test_face_of_an_annotation_begins_at_the_brows():
    labels = torch.ones(2, 4, 3, dtype=torch.uint8)  # skin everywhere
    labels[0, 1, 1] = 6
    labels[:, 3, 0] = 13  # hair
    found = face_mask_from_annotation(labels)[:, 0]
    assert found[0].tolist() == [[0, 0, 0], [1, 1, 1], [1, 1, 1], [0, 1, 1]]
    assert found[1].tolist() == [[1, 1, 1], [1, 1, 1], [1, 1, 1], [0, 1, 1]]  # no brow


def landmarks():
    """A schematic face of 68 points, eyes level at y = 50, with flat brows 10 px above."""
    jaw = [(64 - 40 * np.cos(a), 50 + 60 * np.sin(a)) for a in np.linspace(0, np.pi, 17)]
    brows = [(x, 40) for x in (*np.linspace(30, 55, 5), *np.linspace(73, 98, 5))]
    nose = [(64, y) for y in (50, 57, 64, 71)] + [(x, 76) for x in np.linspace(56, 72, 5)]
    rings = [(42, 50, 7, 4, 6), (86, 50, 7, 4, 6), (64, 92, 14, 7, 12), (64, 92, 10, 3, 8)]
    turns = [2 * np.pi * np.arange(n) / n for *_, n in rings]
    parts = [(x + w * np.cos(a), y + h * np.sin(a)) for (x, y, w, h, _), t in zip(rings, turns, strict=True) for a in t]
    return torch.tensor([*jaw, *brows, *nose, *parts], dtype=torch.float32)[None]


def test_landmark_mask_fills_brows_eyes_nose_and_lips():
    mask = landmark_mask(landmarks(), (128, 128))
    for x, y in [(42, 43), (86, 43), (42, 50), (86, 50), (64, 70), (64, 92)]:
        assert mask[0, 0, y, x] == 1
    assert mask[0, 0, 40:47, 64].sum() == 0  # between the brows
    assert mask[0, 0, 75, 40] == 0  # cheek


def test_face_mask_from_landmarks_is_their_convex_hull():
    from scipy.spatial import ConvexHull

    points = landmarks()
    mask = face_mask_from_landmarks(points, (128, 128))
    hull = ConvexHull(points[0].numpy())
    assert mask.sum().item() == pytest.approx(hull.volume + hull.area / 2, rel=0.02)
    assert iou(mask, landmark_mask(points, (128, 128)) + mask) > 0.98


def test_grad_cam_equals_its_formula(recognizer, faces, frames):
    """Selvaraju et al. 2017: ReLU(sum_k mean_ij(dY/dA_k) A_k), stretched to [0, 1]."""
    a = recognizer.feature_map(faces, frames).requires_grad_()
    (g,) = torch.autograd.grad(score(recognizer, a), a)
    cam = (g.mean((2, 3), keepdim=True) * a).sum(1, keepdim=True)
    found = heat_map(faces, recognizer, frames)
    assert found.shape == (3, 1, 8, 8)
    torch.testing.assert_close(found, stretched(cam).detach(), atol=1e-5, rtol=0)


def test_grad_cam_plus_plus_equals_its_formula(recognizer, faces, frames):
    """Chattopadhay et al. 2018, eq. 19: the weights are sum_ij(alpha ReLU(g))."""
    a = recognizer.feature_map(faces, frames).requires_grad_()
    (g,) = torch.autograd.grad(score(recognizer, a), a)
    cam = torch.zeros(3, 1, 8, 8).double()
    for b, k in itertools.product(range(3), range(8)):
        total, weight = a[b, k].sum(), 0.0
        for slope in g[b, k].flatten():
            alpha = slope**2 / (2 * slope**2 + total * slope**3 + 1e-6)
            weight += alpha * max(slope, 0)
        cam[b, 0] += weight * a[b, k]
    found = heat_map(faces, recognizer, frames, method="grad-cam++")
    torch.testing.assert_close(found, stretched(cam).detach(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("method", ["grad-cam", "grad-cam++"])
def test_heat_is_a_map_per_face_that_needs_no_gradient(recognizer, faces, method):
    with torch.no_grad():
        heat = heat_map(faces, recognizer, None, method=method)
    assert not heat.requires_grad
    torch.testing.assert_close(heat.amin((1, 2, 3)), torch.zeros(3))
    torch.testing.assert_close(heat.amax((1, 2, 3)), torch.ones(3), atol=1e-5, rtol=0)
    one = heat_map(faces[1:2], recognizer, None, method=method)
    torch.testing.assert_close(one, heat[1:2], atol=1e-5, rtol=0)
    assert all(p.grad is None for p in recognizer.parameters())


def test_heat_is_kept_by_picture_and_by_the_recognisers_weights(tmp_path):
    images = torch.randint(0, 256, (3, 3, 48, 48), dtype=torch.uint8)
    faces, path = Faces(tuple("abc"), images, torch.zeros(3, 5), POINTS.repeat(3, 1, 1)), tmp_path / "r.safetensors"
    first, second = (Toy().eval().requires_grad_(False) for _ in range(2))
    seen = []
    first.convolution.register_forward_hook(lambda layer, inputs, output: seen.append(len(output)))
    expected = heat_maps(faces, first).heat
    for keep in ([0, 2], [0, 1, 2]):
        torch.testing.assert_close(heat_maps(faces.select(keep), first, cache=path).heat, expected[keep])
    assert seen == [3, 2, 1]
    other = heat_maps(faces, second, cache=path).heat
    assert torch.equal(other, heat_maps(faces, second).heat)
    assert not torch.equal(other, expected)


def test_heat_to_picture_undoes_the_crop(frames):
    """A blob at a place of the template shows up where the frame puts that place."""
    heat = torch.zeros(3, 1, 7, 7)
    heat[:, :, 2, 4] = 1
    picture = heat_to_picture(heat, frames.float(), (48, 40))
    template = torch.tensor([4 + 0.5, 2 + 0.5, 3.5]) / 3.5 - torch.tensor([1.0, 1, 0])
    expected = (frames.float() @ template + 1) / 2 * torch.tensor([40.0, 48]) - 0.5
    x, y = torch.arange(40.0), torch.arange(48.0)[:, None]
    total = picture.sum((2, 3))
    found = torch.cat([(picture * x).sum((2, 3)), (picture * y).sum((2, 3))], dim=1) / total
    torch.testing.assert_close(found, expected, atol=0.1, rtol=0)


def test_heat_is_zero_outside_the_crop():
    frame = torch.tensor([[[0.5, 0.0, 0.0], [0.0, 0.5, 0.0]]])
    picture = heat_to_picture(torch.ones(1, 1, 7, 7), frame, (64, 64))
    torch.testing.assert_close(picture[..., 16:48, 16:48], torch.ones(1, 1, 32, 32))
    assert picture.sum() == 32 * 32


def test_heat_of_the_whole_picture_is_resized():
    heat = torch.rand(2, 1, 7, 7)
    whole = torch.tensor([[1.0, 0, 0], [0, 1, 0]]).expand(2, 2, 3)
    resized = heat_to_picture(heat, None, (32, 48))
    torch.testing.assert_close(heat_to_picture(heat, whole, (32, 48)), resized)


def test_heat_lands_in_the_same_place_under_autocast(frames):
    heat = torch.rand(3, 1, 7, 7)
    expected = heat_to_picture(heat, frames.float(), (48, 40))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(heat_to_picture(heat, frames.float(), (48, 40)), expected)


def test_masks_agree_with_annotations_of_real_faces(shared):
    from art_idguard.faces.detection import FaceDetector

    pictures, labels = [], []
    with tarfile.open(shared / "data/celebamaskhq256/test.tar") as tar:
        for i in range(16):
            pictures.append(np.array(Image.open(io.BytesIO(tar.extractfile(f"{i:04}.jpg").read()))))
            mask = Image.open(io.BytesIO(tar.extractfile(f"{i:04}.mask.png").read()))
            labels.append(torch.from_numpy(np.array(mask)))
    detector, labels = FaceDetector(), torch.stack(labels)
    landmarks = torch.stack([torch.from_numpy(detector.detect(p)[0].landmarks) for p in pictures])
    assert iou(component_mask(landmarks, (256, 256)), annotation_mask(labels)) > 0.5
    assert iou(face_mask(landmarks, (256, 256)), face_mask_from_annotation(labels)) > 0.75

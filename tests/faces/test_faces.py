from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch
from skimage import data, transform

from art_idguard.faces import detection
from art_idguard.faces.alignment import (
    ARCFACE_TEMPLATE,
    CELEBA_TEMPLATE,
    align,
    arcface_frame,
    nudged,
    template_frame,
)
from art_idguard.faces.detection import FaceDetector
from art_idguard.images import from_array, resize


def some_points(n=4, scale=0.8):
    """Five points as detectors find them: turned, scaled, moved and noisy templates."""
    angle = torch.linspace(-0.6, 0.6, n, dtype=torch.float64)
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], dim=1).view(n, 2, 2)
    landmarks = scale * (ARCFACE_TEMPLATE.double() - 56) @ turn.mT + 70 + torch.rand(n, 1, 2) * 20
    return landmarks + torch.randn(n, 5, 2).double()


def pixel_matrix(frame, size, height, width):
    """A frame as the matrix from a crop of `size` pixels to the picture's pixels."""
    to_unit = np.array([[2 / size, 0, 1 / size - 1], [0, 2 / size, 1 / size - 1], [0, 0, 1]])
    to_pixels = np.array([[width / 2, 0, width / 2 - 0.5], [0, height / 2, height / 2 - 0.5]])
    return to_pixels @ np.vstack([frame.double().numpy(), [0, 0, 1]]) @ to_unit


@pytest.mark.parametrize("template", [ARCFACE_TEMPLATE, CELEBA_TEMPLATE])
@pytest.mark.parametrize("size", [(128, 128), (97, 203)])
def test_frame_is_the_inverse_of_the_umeyama_transform_of_skimage(template, size):
    landmarks = some_points()
    for frame, p in zip(template_frame(landmarks, size, template), landmarks, strict=True):
        umeyama = transform.estimate_transform("similarity", p.numpy(), template.double().numpy())
        np.testing.assert_allclose(
            pixel_matrix(frame, 112, *size), np.linalg.inv(umeyama.params)[:2], rtol=1e-9, atol=1e-9
        )


def test_frame_is_never_a_reflection():
    mirrored = ARCFACE_TEMPLATE[[1, 0, 2, 4, 3]][None]
    assert torch.linalg.det(arcface_frame(mirrored, (112, 112))[:, :, :2]) > 0


def test_template_in_place_gives_the_identity():
    frame = arcface_frame(ARCFACE_TEMPLATE[None], (112, 112))
    torch.testing.assert_close(frame, torch.eye(2, 3)[None], rtol=0, atol=1e-6)
    picture = torch.rand(1, 3, 112, 112) * 2 - 1
    torch.testing.assert_close(align(picture, frame, 112), picture, rtol=0, atol=1e-4)


def test_a_nudged_frame_lies_a_little_beside_by_its_own_scale_turn_and_shift():
    """Against skimage's similarity between the corners of both."""
    frames = arcface_frame(some_points(32), (112, 112))
    beside = nudged(frames, 0.05, seed=3)
    corners = np.array([[-1.0, -1], [1, -1], [1, 1], [-1, 1]])
    found = []
    for frame, other in zip(frames.numpy(), beside.numpy(), strict=True):
        seen = (corners @ other[:, :2].T + other[:, 2] - frame[:, 2]) @ np.linalg.inv(frame[:, :2]).T  # in the frame
        moved = transform.estimate_transform("similarity", corners, seen)
        np.testing.assert_allclose(moved(corners), seen, atol=1e-9)
        found.append([moved.scale - 1, moved.rotation, *moved.translation])
    assert abs(np.array(found)).max(axis=0).min() > 0.04
    assert abs(np.array(found)).max() <= 0.05 + 1e-9
    assert torch.equal(nudged(frames, 0.05, seed=3), beside)
    assert not torch.equal(nudged(frames, 0.05, seed=4), beside)
    torch.testing.assert_close(nudged(frames, 0.0, seed=3), frames)
    shares = [torch.arange(32)[rank::2] for rank in (0, 1)]
    for places in shares:  # who has a part of the faces moves it as who has all
        assert torch.equal(nudged(frames[places], 0.05, seed=3, among=(places, 32)), beside[places])


def test_align_agrees_with_opencv():
    picture = cv2.GaussianBlur(np.random.default_rng(0).random((90, 130, 3)), (0, 0), 3) * 2 - 1
    images = torch.from_numpy(picture).permute(2, 0, 1)[None]
    for landmarks in some_points():
        frame = arcface_frame(landmarks[None], (90, 130))
        matrix = pixel_matrix(frame[0], 112, 90, 130)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        expected = cv2.warpAffine(picture, matrix, (112, 112), flags=flags, borderValue=(-1, -1, -1))
        found = align(images, frame, 112)[0].permute(1, 2, 0).numpy()
        # OpenCV rounds coordinates to 1/32 pixel
        np.testing.assert_allclose(found, expected, rtol=0, atol=0.04)
        assert np.abs(found - expected).mean() < 2e-3


def test_a_frame_outlives_resizing_the_picture():
    x, y = torch.meshgrid(torch.linspace(-1, 1, 160), torch.linspace(-1, 1, 200), indexing="xy")
    picture = torch.stack([x, y, x * y]).expand(2, 3, 200, 160)
    frame = arcface_frame(some_points(2).float(), (200, 160))
    found = align(resize(picture, (400, 320)), frame, 64)
    torch.testing.assert_close(found, align(picture, frame, 64), rtol=0, atol=1e-3)


def test_outside_the_picture_is_black():
    frame = torch.tensor([[[1.0, 0, 5], [0, 1, 0]]])
    assert (align(torch.ones(1, 3, 9, 9), frame, 7) == -1).all()


def test_align_is_differentiable_by_the_picture():
    images = torch.rand(1, 3, 6, 7, dtype=torch.float64, requires_grad=True)
    frame = torch.tensor([[[0.7, 0.1, 0.05], [-0.1, 0.6, 0]]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: align(x, frame, 5), images)


def test_antialias_averages_what_bilinear_sampling_skips():
    stripes = (torch.arange(400) % 2 * 2.0 - 1).expand(1, 3, 400, 400)
    frame = torch.eye(2, 3)[None] * 0.9
    assert align(stripes, frame, 29).abs().mean() > 0.3
    assert align(stripes, frame, 29, antialias=True).abs().mean() < 0.05


def test_antialias_changes_nothing_where_nothing_shrinks():
    images, frame = torch.rand(1, 3, 40, 40), torch.eye(2, 3)[None] * 0.5
    assert torch.equal(align(images, frame, 40, antialias=True), align(images, frame, 40))


@pytest.fixture(scope="module")
def detector():
    return FaceDetector()


@pytest.mark.parametrize("size", [128, 512, 2048])
def test_finds_one_face_and_its_points_at_any_resolution(detector, size):
    picture = data.astronaut()  # NASA, public domain
    picture = cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)
    (face,) = detector.detect(picture)
    assert np.abs(face.landmarks * 512 / size - POINTS).max() < 8  # the eyes are 43 apart
    left, top, width, height = face.box
    assert (face.landmarks > [left, top]).all()
    assert (face.landmarks < [left + width, top + height]).all()


def test_finds_a_small_face_in_a_small_crop(detector):
    crop = data.astronaut()[40:210, 145:315]
    assert len(detector.detect(cv2.resize(crop, (64, 64), interpolation=cv2.INTER_AREA))) == 1


def test_several_faces_come_largest_first_and_once(detector):
    face = data.astronaut()[:256, 96:352]
    small = cv2.resize(face, (100, 100), interpolation=cv2.INTER_AREA)
    picture = np.zeros((1200, 1800, 3), np.uint8)
    picture[:1100, 600:1700] = cv2.resize(face, (1100, 1100))
    picture[900:1000, 100:200] = small
    picture[300:400, 200:300] = small
    areas = [found.box[2] * found.box[3] for found in detector.detect(picture)]
    assert len(areas) == 3
    assert areas == sorted(areas, reverse=True)
    assert areas[0] > 25 * areas[1]


POINTS = np.array([[203, 101], [246, 103], [224, 127], [203, 140], [244, 141]])
"""Eyes, nose and mouth as a person points at them in the astronaut's picture of 512 pixels."""


def pasted(picture, width, left, top):
    """Paste the astronaut's face, so many pixels wide, and return where its points are."""
    x, y, side = 145, 40, 170
    size = 2 * width  # the face takes half of the crop
    crop = data.astronaut()[y : y + side, x : x + side]
    method = cv2.INTER_AREA if size < side else cv2.INTER_CUBIC
    picture[top : top + size, left : left + size] = cv2.resize(crop, (size, size), interpolation=method)
    return (POINTS - [x, y]) * size / side + [left, top]


def error(faces, points):
    """How far the nearest face's points are off, in widths of it."""
    return min((np.linalg.norm(f.landmarks - points, axis=1).max() / f.box[2] for f in faces), default=np.inf)


def quarter(picture, points):
    """Both, turned by 90 degrees against the clock."""
    turned = np.ascontiguousarray(np.rot90(picture))
    return turned, np.stack([points[:, 1], picture.shape[1] - 1 - points[:, 0]], axis=1)


@pytest.mark.parametrize(("height", "width"), [(700, 12000), (3600, 1300), (2500, 6100)])
def test_finds_every_face_of_60_pixels_in_a_large_picture(detector, height, width):
    picture = np.full((height, width, 3), 127, np.uint8)
    places = [(0, 0), (width // 2 - 60, height // 3), (width - 240, height - 240)]
    points = [pasted(picture, w, *place) for w, place in zip((60, 75, 110), places, strict=True)]
    faces = detector.detect(picture)
    assert len(faces) == 3
    assert max(error(faces, p) for p in points) < 0.15


@pytest.mark.parametrize("left", range(130, 230, 9))
def test_a_face_on_the_edge_of_a_tile_is_found_once_and_whole(detector, left, monkeypatch):
    monkeypatch.setattr(detection, "_TILE", 256)
    monkeypatch.setattr(detection, "_OVERLAP", 100)
    picture = np.full((300, 900, 3), 127, np.uint8)
    points = pasted(picture, 60, left, 110)
    faces = detector.detect(picture)
    assert len(faces) == 1
    assert error(faces, points) < 0.15


@pytest.mark.parametrize("length", [1, 2048, 2049, 5000, 12000])
def test_tiles_cover_a_length_with_their_overlap(length):
    tiles = detection._tiles(length)
    assert tiles[0].start == 0
    assert tiles[-1].stop == length
    assert all(a.stop - b.start >= detection._OVERLAP - 1 for a, b in pairwise(tiles))
    assert len({tile.stop - tile.start for tile in tiles}) == 1
    assert tiles[0].stop <= detection._TILE


@pytest.mark.parametrize("turns", [1, 2, 3])
@pytest.mark.parametrize("size", [(300, 300), (900, 1400), (300, 4200)])
def test_a_turned_photos_points_are_on_the_same_parts(detector, size, turns):
    """Eyes stay eyes, wherever they are: in a phone's photo without EXIF no score of geometry tells."""
    picture = np.full((*size, 3), 127, np.uint8)
    points = pasted(picture, 75, size[1] // 3, 100)
    for _ in range(turns):
        picture, points = quarter(picture, points)
    faces = detector.detect(picture)
    assert len(faces) == 1
    assert error(faces, points) < 0.15
    left, top, width, height = faces[0].box
    assert (points > [left, top]).all()
    assert (points < [left + width, top + height]).all()


@pytest.mark.parametrize("turns", range(4))
def test_one_face_may_be_turned_and_others_not(detector, turns):
    """An upright search of this picture sees the upright one alone."""
    picture = np.full((700, 1000, 3), 127, np.uint8)
    upright = pasted(picture, 95, 10, 25)
    part = np.full((200, 200, 3), 127, np.uint8)
    turned = pasted(part, 95, 0, 0)
    for _ in range(turns):
        part, turned = quarter(part, turned)
    picture[350:550, 600:800] = part
    faces = detector.detect(picture)
    assert len(faces) == 2
    assert max(error(faces, points) for points in (upright, np.add(turned, [600, 350]))) < 0.15


def test_faces_that_stand_close_are_both_found(detector):
    """A child before a grown-up: the boxes overlap, and what is close to one is far from the other."""
    picture = np.full((360, 420, 3), 127, np.uint8)
    large, small = pasted(picture, 150, 100, 40), pasted(picture, 55, 50, 200)
    faces = detector.detect(picture)
    assert len(faces) == 2
    assert max(error(faces, points) for points in (large, small)) < 0.15


def test_the_largest_face_of_an_upright_picture_costs_no_turns(detector, monkeypatch):
    searched = []
    search = detector._search
    monkeypatch.setattr(detector, "_search", lambda *given, **by: (searched.append(1), search(*given, **by))[1])
    assert detector.largest(data.astronaut()).score > detection._SURE
    assert len(searched) == 1
    assert detector.largest(np.rot90(data.astronaut(), 2)).score > detection._CLEAR
    assert detector.largest(np.zeros((64, 64, 3), np.uint8)) is None


def test_a_strip_without_room_for_a_face_is_not_searched(detector, monkeypatch):
    monkeypatch.setattr(detector, "_search", lambda *_: pytest.fail("searched"))
    assert detector.detect(np.zeros((1, 2_000_000, 3), np.uint8)) == []


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (3000, 2), (300, 200)])
def test_no_face_is_no_error(detector, shape):
    assert detector.detect(np.full((*shape, 3), 127, np.uint8)) == []


@pytest.mark.slow
def test_points_of_real_faces_fall_on_the_template(shared, detector):
    from tests.recognizers.test_recognizers import tar_pictures

    pictures = [p for _, p in tar_pictures(shared / "data/celeba128/test-0.tar", 40)]
    faces = [detector.detect(p) for p in pictures]
    assert all(faces)
    landmarks = torch.stack([torch.from_numpy(found[0].landmarks) for found in faces])
    assert (landmarks.mean(dim=0) * 112 / 128 - CELEBA_TEMPLATE).norm(dim=1).max() < 2
    frames = arcface_frame(landmarks, (128, 128))
    aligned = align(torch.cat([from_array(p[None]) for p in pictures]), frames, 112)
    again = [detector.detect(((x + 1) * 127.5).byte().permute(1, 2, 0).numpy()) for x in aligned]
    landmarks = torch.stack([torch.from_numpy(found[0].landmarks) for found in again if found])
    assert len(landmarks) >= 38
    assert (landmarks.median(dim=0).values - ARCFACE_TEMPLATE).norm(dim=1).max() < 3

"""Alignment of faces: similarity transforms from five landmarks to the ArcFace and CelebA templates.

Pixel coordinates are OpenCV's: (x, y), integers at the pixels' centres.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from art_idguard.images import resize
from art_idguard.types import Frames, Images, Landmarks

TEMPLATE_SIZE = 112
"""Side of the square in whose pixels both templates are."""

ARCFACE_TEMPLATE = torch.tensor(
    [
        [38.2946, 51.6963],
        [73.5318, 51.5014],
        [56.0252, 71.7366],
        [41.5493, 92.3655],
        [70.7299, 92.2041],
    ],
    dtype=torch.float32,
)
"""The five points of `types.Landmarks` in the crop that face recognisers are trained on (ArcFace)."""

CELEBA_TEMPLATE = torch.tensor(
    [[43.1, 57.4], [67.5, 57.3], [55.0, 72.0], [45.2, 84.0], [65.8, 83.7]], dtype=torch.float32
)
"""Mean points of CelebA's square crops, by `FaceDetector`: how manipulators see faces."""


def celeba_landmarks(size: tuple[int, int]) -> Landmarks:
    """`CELEBA_TEMPLATE` in a picture of this height and width, for one face."""
    return ((CELEBA_TEMPLATE + 0.5) * torch.tensor([size[1], size[0]]) / TEMPLATE_SIZE - 0.5)[None]


def arcface_frame(landmarks: Landmarks, size: tuple[int, int]) -> Frames:
    """Where the ArcFace template lies in pictures of `size` (height, width) with these points."""
    return template_frame(landmarks, size, ARCFACE_TEMPLATE)


def template_frame(landmarks: Landmarks, size: tuple[int, int], template: Float[Tensor, "5 2"]) -> Frames:
    """Where a template lies in pictures of `size` (height, width) with these five points.

    The inverse of the similarity transform that brings the points closest to the template, in the
    template's pixels (Umeyama 1991 without reflection), as ArcFace and OpenCV align. In complex
    numbers, with centred points p and template t, its scale and rotation are
    sum(conj(p) t) / sum |p|^2.

    Returns:
        Thetas for `affine_grid` with align_corners=False. They depend on no resolution: a frame
        stays valid when the picture is resized.
    """
    t, p = (torch.view_as_complex(x.contiguous()) for x in (template.to(landmarks), landmarks))
    t_mean, p_mean = t.mean(), p.mean(dim=1)
    t, p = t - t_mean, p - p_mean[:, None]
    turn = p.abs().square().sum(dim=1) / (p.conj() * t).sum(dim=1)  # template -> picture
    middle = p_mean + turn * ((TEMPLATE_SIZE - 1) / 2 * (1 + 1j) - t_mean)

    axes = torch.view_as_real(torch.stack([turn, 1j * turn], dim=1)).mT
    half = landmarks.new_tensor([size[1], size[0]]) / 2
    offset = (torch.view_as_real(middle) + 0.5) / half - 1
    return torch.cat([axes * (TEMPLATE_SIZE / 2) / half[:, None], offset[..., None]], dim=2)


def shrunken_size(frame: Frames, size: tuple[int, int], side: int) -> tuple[int, int]:
    """Height and width of pictures of `size` when their frames are about `side` pixels wide; never enlarged."""
    height, width = size
    area = torch.linalg.det(frame[:, :, :2].double()).abs().min().item()
    factor = max(1.0, (area * height * width) ** 0.5 / side)
    return max(1, round(height / factor)), max(1, round(width / factor))


def align(images: Images, frame: Frames, size: int, *, antialias: bool = False) -> Float[Tensor, "B 3 S S"]:
    """Faces in the template's position, `size` pixels square; differentiable by `images`.

    Bilinear. What lies outside the picture is black (-1), as in the crops that recognisers are
    trained on.

    Args:
        images: pictures on the [-1, 1] scale.
        frame: where the template lies in them, see `template_frame`.
        size: side of the result in pixels.
        antialias: shrink pictures to about the result's resolution first; for photos, whose faces
            may be many times as large as the result.
    """
    if antialias:
        images = resize(images, shrunken_size(frame, (images.shape[-2], images.shape[-1]), size))
    dtype = torch.promote_types(images.dtype, frame.dtype)
    with torch.autocast(images.device.type, enabled=False):  # bfloat16 is too coarse for coordinates
        grid = F.affine_grid(frame.to(dtype), [len(images), 3, size, size], align_corners=False)
        return F.grid_sample(images.to(dtype) + 1, grid, align_corners=False) - 1

"""Alignment of faces: similarity transforms from five landmarks to the ArcFace and CelebA templates.

Pixel coordinates are OpenCV's: (x, y), integers at the pixels' centres.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from art_idguard.faces.framing import ARCFACE_POINTS, CELEBA_POINTS, TEMPLATE_SIZE, frame_entries, shrunken_size
from art_idguard.images import resize
from art_idguard.types import Frames, Images, Landmarks, sent

ARCFACE_TEMPLATE, CELEBA_TEMPLATE = map(torch.from_numpy, (ARCFACE_POINTS, CELEBA_POINTS))
"""As tensors."""


def celeba_landmarks(size: tuple[int, int]) -> Landmarks:
    """`CELEBA_TEMPLATE` in a picture of this height and width, for one face."""
    return ((CELEBA_TEMPLATE + 0.5) * torch.tensor([size[1], size[0]]) / TEMPLATE_SIZE - 0.5)[None]


def arcface_frame(landmarks: Landmarks, size: tuple[int, int]) -> Frames:
    """Where the ArcFace template lies in pictures of `size` (height, width) with these points."""
    return template_frame(landmarks, size, ARCFACE_TEMPLATE)


def template_frame(landmarks: Landmarks, size: tuple[int, int], template: Float[Tensor, "5 2"]) -> Frames:
    """Where a template lies in pictures of `size` (height, width) with these five points, see `frame_entries`.

    Returns:
        Thetas for `affine_grid` with align_corners=False. They depend on no resolution: a frame
        stays valid when the picture is resized.
    """
    template = sent(template.to(landmarks.dtype), landmarks.device)
    return torch.stack(frame_entries(landmarks, size, template), dim=-1).unflatten(-1, (2, 3))


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


def nudged(frame: Frames, share: float, *, seed: int, among: tuple[Int64[Tensor, " B"], int] | None = None) -> Frames:
    """Each frame turned, scaled and shifted at random, as where a face's points are found a little beside.

    Args:
        frame: see `types.Frames`.
        share: at most; of its size, of half its side, and in radians.
        seed: of the chance.
        among: the frames' places among so many, so that who has a part of them moves it as who has all.
    """
    generator = torch.Generator().manual_seed(seed)
    places, count = among or (torch.arange(len(frame)), len(frame))
    scale, turn, right, down = share * (2 * torch.rand(4, count, generator=generator)[:, places] - 1).to(frame)
    along, across = (1 + scale) * turn.cos(), (1 + scale) * turn.sin()
    square = torch.stack([along, -across, across, along], dim=1).view(-1, 2, 2)
    linear = frame[..., :2] @ square
    shift = frame[..., :2] @ torch.stack([right, down], dim=1)[..., None] + frame[..., 2:]
    return torch.cat([linear, shift], dim=2)

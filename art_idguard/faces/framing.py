"""Where a template of five landmarks lies in a picture: for arrays and for tensors, without torch.

Pixel coordinates are OpenCV's: (x, y), integers at the pixels' centres.
"""

from typing import Any

import numpy as np
from jaxtyping import Float32

TEMPLATE_SIZE = 112
"""Side of the square in whose pixels both templates are."""

ARCFACE_POINTS = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float32
)
"""The five points of `types.Landmarks` in the crop that face recognisers are trained on (ArcFace)."""

CELEBA_POINTS = np.array([[43.1, 57.4], [67.5, 57.3], [55.0, 72.0], [45.2, 84.0], [65.8, 83.7]], np.float32)
"""Mean points of CelebA's square crops, by `FaceDetector`: how manipulators see faces."""


def celeba_frame(landmarks: Float32[np.ndarray, "5 2"], size: tuple[int, int]) -> Float32[np.ndarray, "2 3"]:
    """CelebA's framing of a face, with these points, of a picture of `size` (height, width); see `frame_entries`."""
    return np.stack(frame_entries(landmarks[None], size, CELEBA_POINTS), axis=-1).reshape(2, 3)


def frame_entries(landmarks: Any, size: tuple[int, int], template: Any) -> tuple[Any, ...]:
    """The six entries, row by row, of `types.Frames`: where a template lies in pictures with these points.

    The inverse of the similarity transform that brings the points closest to the template, in the
    template's pixels (Umeyama 1991 without reflection), as ArcFace and OpenCV align. In complex
    numbers, with centred points p and template t, its scale and rotation are
    sum(conj(p) t) / sum |p|^2.

    Args:
        landmarks: (B, 5, 2), an array or a tensor.
        size: height and width of the pictures.
        template: (5, 2), of the same kind.
    """
    t, p = (points[..., 0] + 1j * points[..., 1] for points in (template, landmarks))
    t_mean, p_mean = t.mean(), p.mean(1)
    t, p = t - t_mean, p - p_mean[:, None]
    turn = (abs(p) ** 2).sum(1) / (p.conj() * t).sum(1)  # template -> picture
    middle = p_mean + turn * ((TEMPLATE_SIZE - 1) / 2 * (1 + 1j) - t_mean)
    half, across, down = TEMPLATE_SIZE / 2, size[1] / 2, size[0] / 2
    return (
        *(turn.real * half / across, -turn.imag * half / across, (middle.real + 0.5) / across - 1),
        *(turn.imag * half / down, turn.real * half / down, (middle.imag + 0.5) / down - 1),
    )


def shrunken_size(frames: Any, size: tuple[int, int], side: int) -> tuple[int, int]:
    """Height and width of pictures of `size` when their frames are about `side` pixels wide; never enlarged.

    Args:
        frames: (B, 2, 3), an array or a tensor.
        size: height and width before.
        side: in pixels.
    """
    height, width = size
    area = min(abs(a * d - b * c) for (a, b, _), (c, d, _) in frames.tolist())
    factor = max(1.0, (area * height * width) ** 0.5 / side)
    return max(1, round(height / factor)), max(1, round(width / factor))

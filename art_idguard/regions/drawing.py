"""Drawing of masks: ellipses in the face's own frame (torch), hulls of landmarks (cv2)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from art_idguard.types import Landmarks, Maps, sent

# Weights of the five points whose mean an ellipse hangs on.
RIGHT_EYE = (1.0, 0.0, 0.0, 0.0, 0.0)
LEFT_EYE = (0.0, 1.0, 0.0, 0.0, 0.0)
EYES = (0.5, 0.5, 0.0, 0.0, 0.0)
NOSE = (0.0, 0.0, 1.0, 0.0, 0.0)
MOUTH = (0.0, 0.0, 0.0, 0.5, 0.5)

_EDGE = 1.5
"""Width of a soft edge in pixels."""


class Ellipse(NamedTuple):
    """An ellipse hung on a point of the face; lengths in units of `face_axis`."""

    anchor: tuple[float, float, float, float, float]
    right: float
    down: float
    half_width: float
    half_height: float
    tilt: float = 0.0
    """Clockwise as seen, radians."""


def face_axis(landmarks: Landmarks) -> Complex[Tensor, " B"]:
    """The face's rightward axis as x + iy: its angle is the roll, its length near the eye distance.

    The mean of the width (eyes, mouth corners) and the height turned by a right angle: unlike the
    line between the eyes it does not vanish in profile.
    """
    right_eye, left_eye, _, right_mouth, left_mouth = _complex(landmarks).unbind(1)
    width = (left_eye - right_eye + left_mouth - right_mouth) / 2
    height = (right_mouth + left_mouth - right_eye - left_eye) / 2
    return (width - 1j * height) / 2


def _complex(landmarks: Landmarks) -> Complex[Tensor, "B 5"]:
    return torch.view_as_complex(landmarks.contiguous())


def draw_ellipses(ellipses: Sequence[Ellipse], landmarks: Landmarks, size: tuple[int, int]) -> Maps:
    """The union of the ellipses on a picture of (height, width), with edges of about a pixel."""
    table = sent(torch.tensor([[*e.anchor, *e[1:]] for e in ellipses], dtype=landmarks.dtype), landmarks.device)
    right, down, half_width, half_height, tilt = table[:, 5:].T
    axis = face_axis(landmarks)[:, None]
    anchors = _complex(landmarks) @ table[:, :5].T.to(axis.dtype)
    centres = anchors + axis * torch.complex(right, down)

    # (pixel - centre) / axis, turned back by the tilt, is linear in the pixel's x and y.
    to_local = (torch.polar(torch.ones_like(tilt), -tilt) / axis)[..., None, None]
    origin = to_local * centres[..., None, None]
    x = torch.arange(size[1], device=landmarks.device)
    y = torch.arange(size[0], device=landmarks.device)[:, None]
    across = (to_local.real * x - to_local.imag * y - origin.real) / half_width[:, None, None]
    along = (to_local.imag * x + to_local.real * y - origin.imag) / half_height[:, None, None]
    radius = axis.abs() * (half_width * half_height).sqrt()
    inside = (1 - (across**2 + along**2).sqrt()) * radius[..., None, None]
    return (0.5 + inside / _EDGE).clamp(0, 1).amax(1, keepdim=True)


def fill_hulls(landmarks: Float[Tensor, "B N 2"], size: tuple[int, int], parts: Sequence[Sequence[int]]) -> Maps:
    """The union of the convex hulls of some landmarks each, 0 or 1, drawn on the CPU."""
    import cv2  # slow to import, and training from five points does without it

    masks = np.zeros((len(landmarks), *size), np.uint8)
    for mask, face in zip(masks, landmarks.detach().cpu().float().numpy(), strict=True):
        for part in parts:
            corners = face[list(part)].round().astype(np.int32)
            cv2.fillConvexPoly(mask, cv2.convexHull(corners), 1)
    return torch.from_numpy(masks).to(landmarks)[:, None]

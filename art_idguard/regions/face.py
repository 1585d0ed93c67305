"""The binary face mask of Eq. (16): brows to chin, without hair, ears and forehead.

From 68 landmarks (the paper's way), from CelebAMask-HQ's annotation, or from five points alone.
"""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from art_idguard.regions.drawing import Ellipse, draw_ellipses, fill_hulls
from art_idguard.types import Landmarks, Maps

# Skin, nose, glasses, eyes, brows, mouth, upper and lower lip.
_CLASSES = (1, 2, 3, 4, 5, 6, 7, 10, 11, 12)
_BROWS = (6, 7)

# The nose's negative weight moves the ellipse to the cheek that a turned head shows.
_ELLIPSE = Ellipse((0.45, 0.45, -1.13, 0.615, 0.615), 0.0, 0.0, 1.09, 1.16)


def face_mask(landmarks: Landmarks, size: tuple[int, int]) -> Maps:
    """The face mask of Eq. (16) from five points: one ellipse, 0 or 1.

    Fitted to `face_mask_from_annotation` on CelebAMask-HQ; on 100 other faces the mean IoU is 0.81.

    Examples:
        >>> from art_idguard.faces.alignment import celeba_landmarks
        >>> mask = face_mask(celeba_landmarks((128, 128)), (128, 128))
        >>> mask.shape, 0.15 < mask.mean().item() < 0.25
        (torch.Size([1, 1, 128, 128]), True)

    Args:
        landmarks: in pixels of the picture.
        size: (height, width) of the picture.

    Deviates: the paper takes the hull of Dlib's landmarks (`face_mask_from_landmarks`), which needs
        a network whose weights may not be used commercially.
    """
    return (draw_ellipses((_ELLIPSE,), landmarks, size) >= 0.5).to(landmarks.dtype)


def face_mask_from_annotation(labels: UInt8[Tensor, "B H W"]) -> Maps:
    """The face mask of Eq. (16) from CelebAMask-HQ's class indices, 0 or 1.

    Skin and everything on it, from the row where the brows begin downwards (all of it where no brow
    shows): the area of the landmarks' hull, less what hair and hands hide.
    """
    face = torch.isin(labels, labels.new_tensor(_CLASSES))
    brow_rows = torch.isin(labels, labels.new_tensor(_BROWS)).any(dim=2)
    below = brow_rows.cumsum(dim=1) > 0
    below |= ~brow_rows.any(dim=1, keepdim=True)
    return (face & below[:, :, None]).float()[:, None]


def face_mask_from_landmarks(landmarks: Float[Tensor, "B 68 2"], size: tuple[int, int]) -> Maps:
    """The face mask of Eq. (16) as the convex hull of the 68 iBUG landmarks (the paper's), 0 or 1.

    Args:
        landmarks: (x, y) in pixels of the picture, see `component.landmark_mask`.
        size: (height, width) of the picture.
    """
    return fill_hulls(landmarks, size, (range(68),))

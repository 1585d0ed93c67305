"""OpenCV's two inpaintings, which have not been trained on faces."""

import cv2
import numpy as np
import torch

from art_idguard.images import from_array, to_array
from art_idguard.types import Images, Maps

RADIUS = 3
"""Pixels around a missing one that it is filled from."""


def telea(images: Images, mask: Maps) -> Images:
    """Fast marching from the edge inwards (Telea, Journal of Graphics Tools 2004)."""
    return _inpaint(images, mask, cv2.INPAINT_TELEA)


def navier_stokes(images: Images, mask: Maps) -> Images:
    """Isophotes carried on as by a fluid's flow (Bertalmio et al., CVPR 2001)."""
    return _inpaint(images, mask, cv2.INPAINT_NS)


def _inpaint(images: Images, mask: Maps, method: int) -> Images:
    holes = mask > 0.5
    bytes_of = holes[:, 0].cpu().numpy().astype(np.uint8)
    pairs = zip(to_array(images), bytes_of, strict=True)
    filled = from_array(np.stack([cv2.inpaint(picture, hole, RADIUS, method) for picture, hole in pairs]))
    return torch.where(holes, filled.to(images), images)

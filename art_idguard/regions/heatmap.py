"""The heat map m^hm of Eq. (6) on a picture: kept on a recogniser's small grid, warped where it is used."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from art_idguard.types import Frames, Maps

HeatMethod = Literal["grad-cam", "grad-cam++"]
"""Grad-CAM (paper; Selvaraju et al. 2017), Grad-CAM++ (official code; Chattopadhay et al. 2018)."""


def heat_to_picture(heat: Float[Tensor, "B 1 h w"], frame: Frames | None, size: tuple[int, int]) -> Maps:
    """The heat map of Eq. (6) on whole pictures: bilinear, 0 outside the recogniser's crop.

    Args:
        heat: from `heat_map`.
        frame: the one that the heat map was made with; None for the whole picture.
        size: (height, width) of the pictures.
    """
    if frame is None:
        return F.interpolate(heat, size, mode="bilinear", align_corners=False)
    with torch.autocast(heat.device.type, enabled=False):  # bfloat16 is too coarse for coordinates
        to_crop = torch.linalg.inv_ex(frame[:, :, :2]).inverse  # inv would wait for the device, to look for errors
        theta = torch.cat([to_crop, -to_crop @ frame[:, :, 2:]], dim=2).to(heat)
        grid = F.affine_grid(theta, [len(heat), 1, *size], align_corners=False)
        inside = (grid.abs() <= 1).all(dim=3)[:, None]
        return F.grid_sample(heat, grid, padding_mode="border", align_corners=False) * inside

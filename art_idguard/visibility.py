"""How visible a perturbation is, one value per image; pictures come on the [-1, 1] scale."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from art_idguard.images import box_blur, to_unit
from art_idguard.types import Images, Maps

NOTICEABLE = 2.3
"""A colour difference that is just noticed (Mahy et al. 1994, who measured it for CIE 1976)."""

_BLUR = 9


class ColourDifference(NamedTuple):
    """CIEDE2000 over the pixels of a face."""

    mean: Float[Tensor, " B"]
    p95: Float[Tensor, " B"]
    """The 95th percentile."""
    share: Float[Tensor, " B"]
    """Of pixels above `NOTICEABLE`."""


def colour_difference(a: Images, b: Images, face: Maps) -> ColourDifference:
    """CIEDE2000 (Sharma et al. 2005) where the mask is above 0.5, by scikit-image; sRGB under D65.

    NaN for an empty mask: a face that is not there has no colour.
    """
    from skimage.color import deltaE_ciede2000, rgb2lab

    found = a.new_full((3, len(a)), torch.nan)
    for i, inside in enumerate(face[:, 0] > 0.5):
        if inside.any():
            lab_a, lab_b = (rgb2lab(to_unit(x[i, :, inside]).double().T.cpu().numpy()) for x in (a, b))
            difference = deltaE_ciede2000(lab_a, lab_b)
            of_face = [difference.mean(), np.quantile(difference, 0.95), (difference > NOTICEABLE).mean()]
            found[:, i] = found.new_tensor(np.array(of_face))
    return ColourDifference(*found)


def low_frequency_share(delta: Images) -> Float[Tensor, " B"]:
    """How much of a perturbation is a tint: the energy of its 9-pixel box blur as a share of its own, in [0, 1].

    1 for a constant shift, about 1/81 for white noise, NaN for no perturbation. Edges are replicated, which weighs
    them more: what that lifts above 1 is 1.
    """
    return (box_blur(delta, _BLUR).square().sum(dim=(1, 2, 3)) / delta.square().sum(dim=(1, 2, 3))).clamp(max=1)

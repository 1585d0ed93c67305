"""Metrics, one value per image: Eq. (16), DSR, identity, visibility; pictures come on the [-1, 1] scale.

LPIPS is left out: the packages that ship its weights need torchvision (as does stlpips-pytorch, its shift-tolerant
form), and the distance of other features would not be LPIPS.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from art_idguard.errors import IDGuardError
from art_idguard.faces.alignment import arcface_frame
from art_idguard.images import box_blur, to_unit
from art_idguard.recognizers.base import Recognizer
from art_idguard.recognizers.base import cosine as identity_similarity
from art_idguard.regions import face_mask
from art_idguard.types import Images, Landmarks, Maps

__all__ = [
    "L2_THRESHOLD",
    "NOTICEABLE",
    "SIMILARITY_THRESHOLD",
    "ColourDifference",
    "colour_difference",
    "disrupted",
    "forgery_distance",
    "identity_similarity",
    "l2_face",
    "l2_image",
    "l2_residual",
    "low_frequency_share",
    "psnr",
    "ssim",
]

L2_THRESHOLD, SIMILARITY_THRESHOLD = 0.05, 0.4
"""A forgery is disrupted above the one and below the other (section IV-A4)."""

_SSIM_WINDOW = 11


def l2_face(y: Images, y_hat: Images, face: Maps) -> Float[Tensor, " B"]:
    """Eq. (16): sum of m (y - y_hat)^2 over sum of m, the mean inside the face mask, on the [-1, 1] scale.

    NaN for an empty mask: a face that is not there has no distance.

    Deviates: Eq. (16) leaves the three channels open; they are averaged, as CMUA does.
    """
    weight = face.sum(dim=(1, 2, 3)) * y.shape[1]
    return (face * (y - y_hat).square()).sum(dim=(1, 2, 3)) / weight


def l2_residual(y: Images, y_hat: Images, delta: Images, face: Maps) -> Float[Tensor, " B"]:
    """`l2_face` without the part of the forgery's change that the perturbation itself explains.

    The change y_hat - y is regressed on delta over the mask's pixels and channels: least squares, one coefficient per
    image, through the origin. So it is 0 where a manipulator merely passes the perturbation on, at any strength, and
    never more than `l2_face`. NaN for an empty mask.

    Args:
        y: forgeries of the clean faces, on the [-1, 1] scale.
        y_hat: forgeries of the protected ones.
        delta: protected minus clean face; where it is 0 it explains nothing.
        face: the face mask.
    """
    change, inside = y_hat - y, face * delta
    energy = (inside * delta).sum(dim=(1, 2, 3), keepdim=True)
    passed_on = (inside * change).sum(dim=(1, 2, 3), keepdim=True) / energy
    return l2_face(torch.where(energy > 0, passed_on, 0) * delta, change, face)


def l2_image(y: Images, y_hat: Images) -> Float[Tensor, " B"]:
    """Mean squared difference over the whole picture, on the [-1, 1] scale."""
    return (y - y_hat).square().mean(dim=(1, 2, 3))


@torch.no_grad()
def forgery_distance(
    y: Images, y_hat: Images, landmarks: Landmarks, recognizer: Recognizer
) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
    """`l2_face` and `identity_similarity` of forgeries of the same faces, whose five points in the photos are given."""
    size = (y.shape[-2], y.shape[-1])
    frame = arcface_frame(landmarks, size)
    similarity = identity_similarity(recognizer(y, frame), recognizer(y_hat, frame))
    return l2_face(y, y_hat, face_mask(landmarks, size)), similarity


def disrupted(l2: Float[Tensor, " B"], similarity: Float[Tensor, " B"]) -> Bool[Tensor, " B"]:
    """Which forgeries are spoilt (section IV-A4): far from the clean one, and of another identity.

    Its mean is the defence success rate (DSR). NaN counts as not disrupted.

    Args:
        l2: `l2_face` between the forgeries of the clean and of the protected face.
        similarity: `identity_similarity` of the two forgeries.
    """
    return (l2 > L2_THRESHOLD) & (similarity < SIMILARITY_THRESHOLD)


def psnr(a: Images, b: Images) -> Float[Tensor, " B"]:
    """Peak signal-to-noise ratio in decibels, on the [0, 1] scale; infinite for equal pictures."""
    return -10 * l2_image(to_unit(a), to_unit(b)).log10()


def ssim(a: Images, b: Images) -> Float[Tensor, " B"]:
    """Structural similarity (Wang et al. 2004) on the [0, 1] scale, by kornia.

    The mean over channels and over all Gaussian windows (11 px, sigma 1.5) that lie inside
    the picture.

    Raises:
        IDGuardError: the pictures are smaller than the window.
    """
    from kornia.metrics import ssim as ssim_map  # not on every training machine

    if min(a.shape[-2:]) < _SSIM_WINDOW:
        raise IDGuardError(
            f"SSIM needs pictures of at least {_SSIM_WINDOW}x{_SSIM_WINDOW} px, found "
            f"{a.shape[-2]}x{a.shape[-1]}; enlarge them or leave SSIM out"
        )
    return ssim_map(to_unit(a), to_unit(b), _SSIM_WINDOW, padding="valid").mean(dim=(1, 2, 3))


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

    difference = a.new_full((3, len(a)), torch.nan)
    for i, inside in enumerate(face[:, 0] > 0.5):
        if inside.any():
            lab_a, lab_b = (rgb2lab(to_unit(x[i, :, inside]).double().T.cpu().numpy()) for x in (a, b))
            delta_e = deltaE_ciede2000(lab_a, lab_b)
            of_face = [delta_e.mean(), np.quantile(delta_e, 0.95), (delta_e > NOTICEABLE).mean()]
            difference[:, i] = difference.new_tensor(np.array(of_face))
    return ColourDifference(*difference)


def low_frequency_share(delta: Images) -> Float[Tensor, " B"]:
    """How much of a perturbation is a tint: the energy of its 9-pixel box blur as a share of its own, in [0, 1].

    1 for a constant shift, about 1/81 for white noise, NaN for no perturbation. Edges are replicated, which weighs
    them more: what that lifts above 1 is 1.
    """
    return (box_blur(delta, _BLUR).square().sum(dim=(1, 2, 3)) / delta.square().sum(dim=(1, 2, 3))).clamp(max=1)

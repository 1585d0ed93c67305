"""What is reported, one value per image; pictures come on the [-1, 1] scale.

LPIPS is left out: the packages that ship its weights need torchvision (as does stlpips-pytorch, its shift-tolerant
form), and the distance of other features would not be LPIPS.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from art_idguard.errors import IDGuardError
from art_idguard.faces.alignment import arcface_frame
from art_idguard.images import to_unit
from art_idguard.recognizers.base import Recognizer
from art_idguard.recognizers.base import cosine as identity_similarity
from art_idguard.regions import face_mask
from art_idguard.types import Images, Maps, Points

__all__ = [
    "L2_THRESHOLD",
    "SIMILARITY_THRESHOLD",
    "bootstrap_interval",
    "disrupted",
    "forgery_distance",
    "identity_similarity",
    "l2_face",
    "l2_image",
    "l2_residual",
    "psnr",
    "ssim",
    "wilson_interval",
]

L2_THRESHOLD, SIMILARITY_THRESHOLD = 0.05, 0.4
"""A forgery is disrupted above the one and below the other (section IV-A4)."""

_SSIM_WINDOW, _SSIM_SIGMA = 11, 1.5


def l2_face(y: Images, y_hat: Images, face: Maps) -> Float[Tensor, " B"]:
    """Eq. (16): mean squared difference inside the face mask, on the [-1, 1] scale.

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
    y: Images, y_hat: Images, points: Points, recognizer: Recognizer
) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
    """`l2_face` and `identity_similarity` of forgeries of the same faces, whose five points in the photos are given."""
    size = (y.shape[-2], y.shape[-1])
    frame = arcface_frame(points, size)
    similarity = identity_similarity(recognizer(y, frame), recognizer(y_hat, frame))
    return l2_face(y, y_hat, face_mask(points, size)), similarity


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
    """Structural similarity (Wang et al. 2004) on the [0, 1] scale.

    The mean over channels and over all Gaussian windows (11 px, sigma 1.5) that lie inside
    the picture.

    Raises:
        IDGuardError: the pictures are smaller than the window.
    """
    if min(a.shape[-2:]) < _SSIM_WINDOW:
        raise IDGuardError(
            f"SSIM needs pictures of at least {_SSIM_WINDOW}x{_SSIM_WINDOW} px, found "
            f"{a.shape[-2]}x{a.shape[-1]}; enlarge them or leave SSIM out"
        )
    channels = a.shape[1]
    offset = torch.arange(_SSIM_WINDOW, device=a.device, dtype=a.dtype) - _SSIM_WINDOW // 2
    window = F.softmax(-(offset**2) / (2 * _SSIM_SIGMA**2), dim=0).expand(channels, 1, 1, -1)

    def local_mean(x: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(x, window, groups=channels), window.mT, groups=channels)

    a, b = to_unit(a), to_unit(b)
    mean_a, mean_b = local_mean(a), local_mean(b)
    variances = local_mean(a * a) - mean_a**2 + local_mean(b * b) - mean_b**2
    covariance = local_mean(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return (luminance * (2 * covariance + c2) / (variances + c2)).mean(dim=(1, 2, 3))


def bootstrap_interval(values: Float[Tensor, "N *E"]) -> tuple[float, float]:
    """Percentile bootstrap 95 % interval of the mean over images (Efron 1979), from 2,000 resamples.

    Args:
        values: one per image, or one per image and edit: an image's edits are averaged first, and
            images are drawn, since the edits of one face are no independent observations. NaN is
            left out.

    Returns:
        (low, high), both NaN if no value is left.
    """
    images = values.detach().cpu().double()[..., None].flatten(1).nanmean(dim=1)
    images = images[~images.isnan()]
    if not len(images):
        return math.nan, math.nan
    drawn = torch.randint(len(images), (2000, len(images)), generator=torch.Generator().manual_seed(0))
    means = images[drawn].mean(dim=1)
    low, high = means.quantile(means.new_tensor([0.025, 0.975])).tolist()
    return low, high


def wilson_interval(share: float, n: int) -> tuple[float, float]:
    """95 % score interval of a share of n trials (Wilson 1927).

    The bootstrap's has no width where no trial succeeds, or all do: 0 of 20 is [0, 0.16] here.
    """
    z = 1.959964
    middle, half = share + z**2 / (2 * n), z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    low, high = ((middle + side) / (1 + z**2 / n) for side in (-half, half))
    return max(low, 0.0), min(high, 1.0)

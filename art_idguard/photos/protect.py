"""A whole photo with every face in it protected.

Each face is warped to the framing that the protector was trained on; its perturbation (not the resampled
picture) is warped back, so that pixels outside faces stay as they are.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from art_idguard.errors import IDGuardError
from art_idguard.faces.alignment import CELEBA_TEMPLATE, align, shrunken_size, template_frame
from art_idguard.faces.detection import Face, FaceDetector
from art_idguard.files.photo import Photo, Pixels
from art_idguard.images import bands, epsilon_to_levels, resize, resize_array
from art_idguard.perturbation import Protector
from art_idguard.types import Frames, Images, float32

TAPER = 0.1  # share of the half side over which a face's perturbation fades out


class NoFaceError(IDGuardError):
    """A photo has no face that can be found."""


class ProtectedPhoto(NamedTuple):
    """The protected pixels, where each face was found, and what the protector made of its crop.

    Without a face the photo was protected as a whole. `doubtful` is how many faces are so to the detector.
    """

    photo: Photo
    frames: tuple[Frames, ...]
    faces: tuple[Images, ...]
    doubtful: int = 0


@float32()
def protect_photo(photo: Photo, protector: Protector, detector: FaceDetector, *, whole: bool = False) -> ProtectedPhoto:
    """Protect every face of a photo, inside the protector's bound in 8-bit levels.

    Args:
        photo: of any size.
        protector: in eval mode.
        detector: finds the faces.
        whole: protect the whole picture as if it were one face crop, where no face is found.

    Raises:
        NoFaceError: there is no face, and `whole` was not asked for.
        IDGuardError: the protector's bound is below one level, or what it returns is not finite.
    """
    levels = epsilon_to_levels(protector.epsilon)
    if levels < 1:
        raise IDGuardError(
            f"the protection is at most {protector.epsilon * 127.5:.2g} of 255 levels, less than one level of an 8-bit "
            "file, so the photo would stay as it is; use more of its strength, or a stronger protector"
        )
    size = photo.pixels.shape[:2]
    faces = detector.detect(photo.pixels)
    if not faces and not whole:
        raise NoFaceError("no face found; if there is one, protect the picture as a whole with --whole")
    pixels = photo.pixels.copy()
    frames = face_frames(faces, size)
    side = protector.prior.shape[-1]
    made = []
    for frame in frames:
        crop = face_crop(photo.pixels, frame, side)
        made.append(_protected(protector, crop))
        for delta, where in _warp_back(made[-1] - crop, frame, size):
            _add(pixels, photo.pixels, delta, where, levels)
    if not frames:
        image = resize_array(photo.pixels, (side, side))
        wide = resize(_protected(protector, image) - image, (side, size[1]))
        for columns in bands(size[1], size[0]):
            delta = resize(wide[..., columns], (size[0], columns.stop - columns.start))
            _add(pixels, photo.pixels, delta, (slice(None), columns), levels)
    doubtful = sum(face.doubtful for face in faces)
    return ProtectedPhoto(photo._replace(pixels=pixels), frames, tuple(made), doubtful)


def face_frames(faces: Sequence[Face], size: tuple[int, int]) -> tuple[Frames, ...]:
    """CelebA's framing of each face of a photo of that height and width."""
    return tuple(template_frame(torch.from_numpy(f.landmarks)[None], size, CELEBA_TEMPLATE) for f in faces)


@torch.no_grad()
def _protected(protector: Protector, crop: Images) -> Images:
    protected = protector(crop).specific
    if not protected.isfinite().all():
        raise IDGuardError("the protector returns values that are not finite; its weights are damaged, take others")
    return protected


def _rectangle(frame: Frames, size: tuple[int, int], *, margin: float = 0) -> tuple[Frames, tuple[slice, slice]]:
    """The part of a picture that a frame covers, and the frame in that part's own coordinates.

    Args:
        frame: in the coordinates of the picture.
        size: height and width of the picture.
        margin: by how much of its side the part is larger than the frame, on each side.
    """
    limits = frame.new_tensor([size[1], size[0]])
    corners = frame.new_tensor([[-1, -1, 1], [1, -1, 1], [-1, 1, 1], [1, 1, 1]])
    reach = (corners @ frame[0].T + 1) * limits / 2  # pixels
    extra = margin * (reach.amax(0) - reach.amin(0))
    low = torch.minimum((reach.amin(0) - extra).floor().clamp(min=0), limits - 1)
    high = torch.minimum((reach.amax(0) + extra).ceil().clamp(min=1), limits)
    scale, shift = (high - low) / limits, (high + low) / limits - 1
    inside = torch.cat([frame[..., :2], frame[..., 2:] - shift[:, None]], dim=2) / scale[:, None]
    (x0, y0), (x1, y1) = low.int().tolist(), high.int().tolist()
    return inside, (slice(y0, y1), slice(x0, x1))


def _warp_back(
    delta: Images, frame: Frames, size: tuple[int, int]
) -> Iterator[tuple[Float[Tensor, "1 3 h w"], tuple[slice, slice]]]:
    """The perturbation in the photo's pixels, fading out at the crop's edge: bands of it, and where they lie."""
    inside, (rows, columns) = _rectangle(frame, size)
    to_crop = torch.linalg.inv(inside[..., :2])
    theta = torch.cat([to_crop, -to_crop @ inside[..., 2:]], dim=2)
    height, width = rows.stop - rows.start, columns.stop - columns.start
    y, x = (torch.linspace(-1, 1, side) * (side - 1) / side for side in (height, width))  # as `affine_grid` has them
    for band in bands(height, width):
        points = torch.stack(torch.broadcast_tensors(x, y[band, None], torch.ones(())), dim=2)
        grid = (points.flatten(0, 1) @ theta[0].T).view(1, -1, width, 2)
        edge = ((1 - grid.abs().amax(dim=3)) / TAPER).clamp(0, 1)
        warped = F.grid_sample(delta, grid, padding_mode="border", align_corners=False)
        yield warped * edge[:, None], (slice(rows.start + band.start, rows.start + band.stop), columns)


def _add(
    pixels: Pixels, clean: Pixels, delta: Float[Tensor, "1 3 h w"], where: tuple[slice, slice], levels: int
) -> None:
    """Add a perturbation in place, keeping the sum of all within `levels` of the clean photo."""
    so_far = pixels[where].astype(np.float32) - clean[where]
    total = so_far + 127.5 * delta[0].permute(1, 2, 0).numpy()
    whole_levels = np.clip(np.rint(total), -levels, levels)
    pixels[where] = np.clip(clean[where] + whole_levels, 0, 255).astype(np.uint8)


def face_crop(pixels: Pixels, frame: Frames, size: int) -> Float[Tensor, "1 3 S S"]:
    """A face as a manipulator's user would crop it: in CelebA's framing, `size` pixels square."""
    inside, where = _rectangle(frame, pixels.shape[:2], margin=2 / size)  # room for the antialiasing
    part = pixels[where]
    return align(resize_array(part, shrunken_size(inside, part.shape[:2], size)), inside, size)

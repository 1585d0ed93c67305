"""A whole photo with every face in it protected; without torch, which only a `Protector` needs.

Each face is warped to the framing that the protector was trained on; its perturbation (not the resampled
picture) is warped back, so that pixels outside faces stay as they are.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from art_idguard.errors import IDGuardError
from art_idguard.faces.detection import Face, FaceDetector
from art_idguard.faces.framing import celeba_frame, shrunken_size
from art_idguard.files.photo import Photo, Pixels
from art_idguard.pixels import bands, epsilon_to_levels, resize, sample

TAPER = 0.1  # share of the half side over which a face's perturbation fades out

Frame = Float32[np.ndarray, "2 3"]
"""One of `types.Frames`, as an array."""

Crop = Float32[np.ndarray, "1 3 S S"]
"""A face on the [-1, 1] scale."""

Part = tuple[slice, slice]
"""Rows and columns of a picture."""


@runtime_checkable
class FaceProtector(Protocol):
    """A `Protector`, or an `ExportedProtector`."""

    epsilon: float
    """Its bound, on the [-1, 1] scale."""

    @property
    def side(self) -> int:
        """Side in pixels of the faces that it was trained on."""

    def protect(self, faces: Crop) -> Crop:
        """The protected version of a face."""


class NoFaceError(IDGuardError):
    """A photo has no face that can be found."""


class ProtectedPhoto(NamedTuple):
    """The protected pixels, where each face was found, and what the protector made of its crop.

    Without a face the photo was protected as a whole. `doubtful` is how many faces are so to the detector.
    """

    photo: Photo
    frames: tuple[Frame, ...]
    faces: tuple[Crop, ...]
    doubtful: int = 0


def protect_photo(
    photo: Photo, protector: FaceProtector, detector: FaceDetector, *, whole: bool = False
) -> ProtectedPhoto:
    """Protect every face of a photo, inside the protector's bound in 8-bit levels.

    Examples:
        >>> from skimage.data import astronaut
        >>> from art_idguard import Protector
        >>> photo = Photo(astronaut())  # or files.photo.read_photo, of a file
        >>> protected = protect_photo(photo, Protector.from_pretrained(), FaceDetector())
        >>> len(protected.faces), protected.photo.pixels.shape == photo.pixels.shape
        (1, True)

    Args:
        photo: of any size.
        protector: in eval mode, or exported.
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
        raise NoFaceError("no face found; if there is one, take the picture as a whole with --whole")
    pixels = photo.pixels.copy()
    frames = face_frames(faces, size)
    side = protector.side
    made = []
    for frame in frames:
        crop = face_crop(photo.pixels, frame, side)
        made.append(_protected(protector, crop))
        for delta, where in _warp_back(_rows(made[-1] - crop), frame, size):
            _add(pixels, photo.pixels, delta, where, levels)
    if not frames:
        image = _crop(resize(photo.pixels, (side, side)))
        wide = resize(_rows(_protected(protector, image) - image), (side, size[1]))
        for columns in bands(size[1], size[0]):
            delta = resize(wide[:, columns], (size[0], columns.stop - columns.start))
            _add(pixels, photo.pixels, delta, (slice(None), columns), levels)
    doubtful = sum(face.doubtful for face in faces)
    return ProtectedPhoto(photo._replace(pixels=pixels), frames, tuple(made), doubtful)


def face_frames(faces: Sequence[Face], size: tuple[int, int]) -> tuple[Frame, ...]:
    """CelebA's framing of each face of a photo of that height and width."""
    return tuple(celeba_frame(face.landmarks, size) for face in faces)


def _protected(protector: FaceProtector, crop: Crop) -> Crop:
    protected = protector.protect(crop)
    if not np.isfinite(protected).all():
        raise IDGuardError("the protector returns values that are not finite; its weights are damaged, take others")
    return protected


def _crop(levels: Float32[np.ndarray, "S S 3"]) -> Crop:
    """0..255 -> [-1, 1]."""
    return np.ascontiguousarray(levels.transpose(2, 0, 1)[None]) / np.float32(127.5) - 1


def _rows(crop: Crop) -> Float32[np.ndarray, "S S 3"]:
    """Channels last, as pictures have them."""
    return np.ascontiguousarray(crop[0].transpose(1, 2, 0))


def _rectangle(frame: Frame, size: tuple[int, int], *, margin: float = 0) -> tuple[Frame, Part]:
    """The part of a picture that a frame covers, and the frame in that part's own coordinates.

    Args:
        frame: in the coordinates of the picture.
        size: height and width of the picture.
        margin: by how much of its side the part is larger than the frame, on each side.
    """
    limits = np.array([size[1], size[0]], np.float32)
    corners = np.array([[-1, -1, 1], [1, -1, 1], [-1, 1, 1], [1, 1, 1]], np.float32)
    reach = (corners @ frame.T + 1) * limits / 2  # pixels
    extra = np.float32(margin) * np.ptp(reach, axis=0)
    low = np.minimum(np.floor(reach.min(0) - extra).clip(min=0), limits - 1)
    high = np.minimum(np.ceil(reach.max(0) + extra).clip(min=1), limits)
    scale, shift = (high - low) / limits, (high + low) / limits - 1
    inside = np.column_stack([frame[:, :2], frame[:, 2] - shift]) / scale[:, None]
    (x0, y0), (x1, y1) = low.astype(int).tolist(), high.astype(int).tolist()
    return inside, (slice(y0, y1), slice(x0, x1))


def _grid(frame: Frame, height: int, width: int, rows: slice) -> Float32[np.ndarray, "h w 2"]:
    """Where the middles of some rows' pixels in a frame lie in the picture; torch's `affine_grid`."""
    x, y = (np.linspace(1 / side - 1, 1 - 1 / side, side, dtype=np.float32) for side in (width, height))
    points = np.stack(np.broadcast_arrays(x, y[rows, None], np.float32(1)), axis=2)
    return points @ frame.T


def _warp_back(
    delta: Float32[np.ndarray, "S S 3"], frame: Frame, size: tuple[int, int]
) -> Iterator[tuple[Float32[np.ndarray, "h w 3"], Part]]:
    """The perturbation in the photo's pixels, fading out at the crop's edge: bands of it, and where they lie."""
    inside, (rows, columns) = _rectangle(frame, size)
    to_crop = np.linalg.inv(inside[:, :2])
    theta = np.column_stack([to_crop, -to_crop @ inside[:, 2]])
    height, width = rows.stop - rows.start, columns.stop - columns.start
    for band in bands(height, width):
        grid = _grid(theta, height, width, band)
        edge = ((1 - abs(grid).max(axis=2)) / np.float32(TAPER)).clip(0, 1)
        where = slice(rows.start + band.start, rows.start + band.stop), columns
        yield sample(delta, grid) * edge[..., None], where


def _add(pixels: Pixels, clean: Pixels, delta: Float32[np.ndarray, "h w 3"], where: Part, levels: int) -> None:
    """Add a perturbation in place, keeping the sum of all within `levels` of the clean photo."""
    so_far = pixels[where].astype(np.float32) - clean[where]
    total = so_far + np.float32(127.5) * delta
    whole_levels = np.clip(np.rint(total), -levels, levels)
    pixels[where] = np.clip(clean[where] + whole_levels, 0, 255).astype(np.uint8)


def face_crop(pixels: Pixels, frame: Frame, size: int) -> Crop:
    """A face as a manipulator's user would crop it: in CelebA's framing, `size` pixels square; black beyond the photo.

    An array; of the whole photo, `faces.align` makes the same of tensors.
    """
    inside, where = _rectangle(frame, pixels.shape[:2], margin=2 / size)  # room for the antialiasing
    part = pixels[where]
    small = resize(part, shrunken_size(inside[None], part.shape[:2], size))
    height, width = small.shape[:2]
    framed = np.pad(small, ((1, 1), (1, 1), (0, 0)))  # black, and repeated
    grid = _grid(inside, size, size, slice(None)) * np.array([width / (width + 2), height / (height + 2)], np.float32)
    return _crop(sample(framed, grid))

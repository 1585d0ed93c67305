"""YuNet: faces and their five landmarks."""

from collections.abc import Iterable, Sequence
from itertools import product
from math import ceil
from operator import and_
from threading import Lock
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, UInt8

from art_idguard.hub.shipped import shipped

Picture = UInt8[np.ndarray, "_ _ 3"]


class Face(NamedTuple):
    """A detected face in pixels of its picture."""

    box: tuple[float, float, float, float]
    """Left, top, width, height; may reach over the picture's edge."""
    landmarks: Float32[np.ndarray, "5 2"]
    """In the order of `types.Landmarks`."""
    score: float

    @property
    def doubtful(self) -> bool:
        """Whether 99 of 100 upright faces score more: it may be none, or its points may be in the wrong places."""
        return self.score < _CLEAR


_QUIET = Lock()  # the level is one for all threads

_SIDES = (384, 1024)  # pixels of the longer side at which a close-up and an ordinary photo are searched
_LEAST = 24 / 60  # a large picture is searched at this scale, too, in which a face of 60 pixels has 24
_STEP = 5  # between one size and the next
_TILE, _OVERLAP = 2048, 192  # pixels; a face larger than the overlap is found at the next smaller size
_THINNEST = 8  # pixels of the shorter side, in fewer no face is found
_SMALL = 50  # pixels at the largest size, below which points are found anew in the face's surroundings
_SURE = 0.93  # upright faces score more, 9 of 10; of 450 that are upside down, none did
_CLEAR = 0.85  # upright faces score more, 99 of 100; one that is turned has to


class FaceDetector:
    """YuNet (Wu et al. 2023) from the OpenCV Zoo, on the CPU; the network ships with the package.

    It is made for upright faces of about 10 to 300 pixels. So a picture is searched at several sizes, large ones in
    tiles, and a face is taken from the size that shows it closest to 100 pixels wide. Of faces on their side or their
    head it finds few, with points in the wrong places: so every picture is searched in its four quarter turns, and a
    face that it is not sure of is taken from the turn in which it scores most.

    Examples:
        >>> from skimage.data import astronaut
        >>> (face,) = FaceDetector().detect(astronaut())
        >>> face.landmarks.shape, face.score > 0.9
        ((5, 2), True)

    Args:
        threshold: the least score of a face, in [0, 1].
    """

    revision = 2
    """Grows when other faces are found, so that photos that were protected before are done again."""

    def __init__(self, *, threshold: float = 0.7) -> None:
        import cv2  # slow to import, and training on prepared faces does without it

        model = shipped("detectors/yunet/face_detection_yunet_2023mar.onnx")
        log = cv2.utils.logging
        with _QUIET:  # OpenCV 5 warns that its engine has no targets
            level = log.setLogLevel(log.LOG_LEVEL_ERROR)
            self._network = cv2.FaceDetectorYN.create(str(model), "", (0, 0), threshold)
            log.setLogLevel(level)

    def detect(self, picture: Picture) -> list[Face]:
        """The faces of an RGB picture of any size, largest first; none is no error.

        The points of a face that is turned by quarters are those of the same parts: its eyes may be below its mouth.
        """
        return self._found(picture, range(4))

    def largest(self, picture: Picture) -> Face | None:
        """The largest upright face, or the largest of any where there is none: what a data set's picture is of."""
        faces = self._found(picture, [0]) or self._found(picture, [1, 2, 3])
        return faces[0] if faces else None

    def _found(self, picture: Picture, turns: Iterable[int]) -> list[Face]:
        longer = max(picture.shape[:2])
        scales = [side / longer for side in _sides(longer)]
        if min(picture.shape[:2]) * scales[-1] < _THINNEST:
            return []
        sizes = [_resized(picture, scale) for scale in scales]
        found: list[Face] = []
        for turn in turns:
            others = [f for f in self._search(picture, sizes, turn) if not any(_same(f, face) for face in found)]
            for seen in others:
                face, upright = self._ascertained(picture, seen, turn, scales[-1])
                if upright == 0 or face.score >= _CLEAR:
                    found.append(face)
        found = _distinct(sorted(found, key=lambda face: face.score, reverse=True))
        return sorted(found, key=lambda face: face.box[2] * face.box[3], reverse=True)

    def _search(self, picture: Picture, sizes: Sequence[Picture], turn: int) -> list[Face]:
        """The faces that stand upright after so many quarter turns against the clock."""
        found = []
        for resized in sizes:
            back = np.array(picture.shape[1::-1], np.float32) / np.array(resized.shape[1::-1], np.float32)
            for face in self._in_tiles(np.rot90(resized, turn)):
                upright = _turned_back(face, turn, resized.shape[:2])
                distance = abs(np.log(face.box[2] / 100))
                found.append((distance, _scaled(upright, back)))
        return _distinct([face for _, face in sorted(found, key=lambda f: f[0])])

    def _ascertained(self, picture: Picture, face: Face, turn: int, scale: float) -> tuple[Face, int]:
        """A face, and the quarter turns after which it is upright.

        Where its score leaves doubt, it is searched for anew, 100 pixels wide, in all turns. Its points are taken from
        there if it was found in another turn, or too small for good ones; a large profile's would be worse.
        """
        if face.score >= _SURE:
            return face, turn
        left, top, width, height = face.box
        side = 2 * max(width, height)
        x, y = (max(0, int(middle - side / 2)) for middle in (left + width / 2, top + height / 2))
        around = picture[y : y + ceil(side), x : x + ceil(side)]
        sizes = [_resized(around, 200 / side)]
        found = [(_moved(f, x, y), t) for t in range(4) for f in self._search(around, sizes, t)]
        same = [(f, t) for f, t in found if _same(f, face) and (t == 0 or f.score >= _CLEAR)]
        best = max(same, key=lambda f: f[0].score, default=(face, turn))
        return best if best[1] != turn or width * scale < _SMALL else (face, turn)

    def _in_tiles(self, picture: Picture) -> list[Face]:
        """The faces of a picture at its size; those that a tile's edge cuts are left to the next tile."""
        found = []
        rows, columns = (_tiles(length) for length in picture.shape[:2])
        for row, column in product(rows, columns):
            inner = column.start > 0, row.start > 0, column.stop < picture.shape[1], row.stop < picture.shape[0]
            for face in self._run(picture[row, column]):
                face = _moved(face, column.start, row.start)
                left, top, width, height = face.box
                over = left < column.start, top < row.start, left + width > column.stop, top + height > row.stop
                if not any(map(and_, inner, over)):
                    found.append(face)
        return found

    def _run(self, picture: Picture) -> list[Face]:
        self._network.setInputSize(picture.shape[1::-1])
        _, rows = self._network.detect(np.ascontiguousarray(picture[..., ::-1]))
        return [] if rows is None else [_face(row) for row in rows]


def _sides(longer: int) -> Float[np.ndarray, " n"]:
    """At which lengths of the longer side a picture with one of `longer` pixels is searched."""
    least, usual = _SIDES
    finest = max(usual, _LEAST * longer) if longer > usual else least
    steps = int(np.ceil(np.log(finest / least) / np.log(_STEP)))
    return np.geomspace(least, finest, steps + 1)


def _tiles(length: int) -> list[slice]:
    """Ranges of one length that cover so many pixels and overlap."""
    count = max(1, ceil((length - _OVERLAP) / (_TILE - _OVERLAP)))
    side = ceil((length + (count - 1) * _OVERLAP) / count)
    starts = (round(i * (length - side) / max(1, count - 1)) for i in range(count))
    return [slice(start, start + side) for start in starts]


def _resized(picture: Picture, scale: float) -> Picture:
    import cv2

    height, width = picture.shape[:2]
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def _face(row: Float32[np.ndarray, " 15"]) -> Face:
    """One row of YuNet: box, points, score."""
    left, top, width, height = map(float, row[:4])
    return Face((left, top, width, height), row[4:14].reshape(5, 2), float(row[14]))


def _moved(face: Face, right: int, down: int) -> Face:
    left, top, width, height = face.box
    points = face.landmarks + np.array([right, down], np.float32)
    return Face((left + right, top + down, width, height), points, face.score)


def _turned_back(face: Face, turn: int, size: tuple[int, int]) -> Face:
    """A face of a picture in which `size` (height, width) was turned by so many quarters, in the one before."""
    (left, top, width, height), points = face.box, face.landmarks
    for quarter in reversed(range(turn)):
        side = size[1 - quarter % 2]  # the width before this quarter
        left, top, width, height = side - top - height, left, height, width
        points = np.stack([side - 1 - points[:, 1], points[:, 0]], axis=1)
    return Face((left, top, width, height), points, face.score)


def _scaled(face: Face, factor: Float32[np.ndarray, " 2"]) -> Face:
    """OpenCV's resize (pixel centres) undone."""
    x, y = map(float, factor)
    left, top, width, height = face.box
    landmarks = ((face.landmarks + 0.5) * factor - 0.5).astype(np.float32)
    return Face((left * x, top * y, width * x, height * y), landmarks, face.score)


def _distinct(faces: Sequence[Face]) -> list[Face]:
    """The first of those that are at one place."""
    kept: list[Face] = []
    for face in faces:
        if not any(_same(face, other) for other in kept):
            kept.append(face)
    return kept


def _same(a: Face, b: Face) -> bool:
    """Whether the middle of each is in the other's box; of two that stand close, it is not."""
    return _covers(a, b) and _covers(b, a)


def _covers(face: Face, other: Face) -> bool:
    left, top, width, height = face.box
    x, y = other.landmarks.mean(axis=0)
    return bool(left < x < left + width and top < y < top + height)

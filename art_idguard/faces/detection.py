"""YuNet: faces and their five landmarks."""

from collections.abc import Sequence
from threading import Lock
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8

from art_idguard.hub.shipped import shipped


class Face(NamedTuple):
    """A detected face in pixels of its picture."""

    box: tuple[float, float, float, float]
    """Left, top, width, height; may reach over the picture's edge."""
    landmarks: Float32[np.ndarray, "5 2"]
    """In the order of `types.Landmarks`."""
    score: float


_QUIET = Lock()  # the level is one for all threads


class FaceDetector:
    """YuNet (Wu et al. 2023) from the OpenCV Zoo, on the CPU; the network ships with the package.

    It is made for faces of about 10 to 300 pixels, so a picture is searched at several sizes, and a
    face is taken from the size that shows it closest to 100 pixels wide.

    Args:
        threshold: the least score of a face, in [0, 1].
        sides: lengths in pixels of a picture's longer side to search at; all but the first are left
            out where they would enlarge the picture.
    """

    def __init__(self, *, threshold: float = 0.7, sides: Sequence[int] = (384, 1024)) -> None:
        import cv2  # slow to import, and training on prepared faces does without it

        model = shipped("detectors/yunet/face_detection_yunet_2023mar.onnx")
        log = cv2.utils.logging
        with _QUIET:  # OpenCV 5 warns that its engine has no targets
            level = log.setLogLevel(log.LOG_LEVEL_ERROR)
            self._network = cv2.FaceDetectorYN.create(str(model), "", (0, 0), threshold)
            log.setLogLevel(level)
        self._sides = sides

    def detect(self, picture: UInt8[np.ndarray, "H W 3"]) -> list[Face]:
        """The faces of an RGB picture of any size, largest first; none is no error."""
        longer = max(picture.shape[:2])
        scales = [side / longer for i, side in enumerate(self._sides) if i == 0 or side < longer]
        found = [(face, s) for s in scales for face in self._search(picture, s)]
        kept: list[Face] = []
        for face, _ in sorted(found, key=lambda f: abs(np.log(f[0].box[2] * f[1] / 100))):
            if not any(_same(face, other) for other in kept):
                kept.append(face)
        return sorted(kept, key=lambda face: face.box[2] * face.box[3], reverse=True)

    def _search(self, picture: UInt8[np.ndarray, "H W 3"], scale: float) -> list[Face]:
        import cv2

        height, width = picture.shape[:2]
        size = max(1, round(width * scale)), max(1, round(height * scale))
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        self._network.setInputSize(size)
        _, rows = self._network.detect(cv2.resize(picture[..., ::-1], size, interpolation=method))
        back = np.array([width, height], np.float32) / np.array(size, np.float32)
        return [] if rows is None else [_face(row, back) for row in rows]


def _face(row: Float32[np.ndarray, " 15"], back: Float32[np.ndarray, " 2"]) -> Face:
    """One row of YuNet (box, points, score), with OpenCV's resize (pixel centres) undone."""
    left, top = row[:2] * back
    width, height = row[2:4] * back
    landmarks = (row[4:14].reshape(5, 2) + 0.5) * back - 0.5
    return Face((float(left), float(top), float(width), float(height)), landmarks, float(row[14]))


def _same(a: Face, b: Face) -> bool:
    distance = np.linalg.norm(a.landmarks.mean(axis=0) - b.landmarks.mean(axis=0))
    return bool(distance < max(a.box[2], b.box[2]) / 2)

"""Refining a face against the manipulators that ship, as `art-idguard protect --refine` does in a photo."""

from argparse import Namespace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from art_idguard import manipulators
from art_idguard.faces import FaceDetector
from art_idguard.perturbation import Protector
from art_idguard.perturbation.precision import faster_precision
from art_idguard.perturbation.refined import refined_in_photo
from art_idguard.photos.protect import face_crop, face_frames

from .measuring import DTYPES, operations_of_steps, seconds
from .photos import PORTRAIT
from .suite import Suite


def face(size: int) -> Tensor:
    """The portrait's, (1, 3, size, size) on [-1, 1], as a photo's faces are framed."""
    with Image.open(PORTRAIT) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    (frame,) = face_frames(FaceDetector().detect(pixels), pixels.shape[:2])
    return torch.from_numpy(face_crop(pixels, frame, size))


def measure(suite: Suite, options: Namespace) -> None:
    """Seconds of a face, against the photo itself alone, one manipulator, and all."""
    steps = options.refine_steps
    precision = DTYPES[faster_precision(torch.device("cpu"))]
    suite.about(f"A face of {options.size} px, {steps} steps, through what happens to a photo, in {precision}.")
    x, protector = face(options.size), Protector.from_pretrained().requires_grad_(False)
    models = [manipulators.load(spec) for spec in manipulators.shipped_manipulators()]
    for count in (0, 1, len(models)):
        refined = {n: refined_in_photo(protector, models[:count], steps=n) for n in {1, 2, steps}}
        work = operations_of_steps(lambda n, refined=refined: refined[n](x), steps)
        for _ in range(options.repeats):
            taken = seconds(lambda refined=refined: refined[steps](x))
            figures = {"seconds": taken, "seconds a step": taken / steps}
            suite.add("refine", figures, at=("manipulators", count), operations=work, peak=f"cpu {precision}")

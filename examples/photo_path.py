"""What is left of a protection on the way of a real photo: `python examples/photo_path.py FACES --output FOLDER`.

Makes photos of 4000 x 3000 pixels with three faces each, one of them tilted, protects them as `art-idguard protect`
does, and then goes the way of a manipulator's user, by other code than the protector's: the detector's five points in
the file that arrived, OpenCV's least-squares transform and warp to CelebA's framing. Beside that stands the figure of
the same faces cropped from the photo and protected as crops ("aligned crop"), to which nothing happened.
"""

import argparse
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from PIL import Image

from art_idguard import manipulators as manipulators_
from art_idguard import recognizers
from art_idguard.data import read_faces
from art_idguard.evaluation.statistics import bootstrap_interval
from art_idguard.faces import Face, FaceDetector
from art_idguard.faces.alignment import CELEBA_TEMPLATE
from art_idguard.files.atomic import write_text
from art_idguard.files.photo import Pixels, difference, read_photo, write_photo
from art_idguard.images import from_array
from art_idguard.manipulators import Manipulator
from art_idguard.metrics import disrupted
from art_idguard.perturbation import Protector
from art_idguard.perturbation.refined import refined_in_photo
from art_idguard.photos import protect_photo
from art_idguard.photos.effects import effects
from art_idguard.pixels import epsilon_to_levels
from art_idguard.recognizers import Recognizer
from art_idguard.types import Images

UNTOUCHED = "photo, PNG"
WIDTH, HEIGHT = 4000, 3000
PLACES = ((750, 1000, 900, 0), (2150, 1900, 1300, 25), (3300, 900, 700, -8))
"""Centre, side in pixels and tilt in degrees of the three pictures of faces in a photo."""


class Measured(NamedTuple):
    """One face, as one manipulator sees it after one way."""

    way: str
    manipulator: str
    photo: int
    face: int
    l2_face: float
    similarity: float


def make_photo(faces: list[Image.Image]) -> Image.Image:
    """A large photo with three faces before a soft gradient."""
    gradient = Image.linear_gradient("L").resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR)
    canvas = Image.merge("RGB", [gradient.point(lambda v, add=add: 80 + v // 3 + add) for add in (0, 5, 15)])
    for face, (x, y, side, tilt) in zip(faces, PLACES, strict=True):
        large = face.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
        mask = Image.new("L", (side, side), 255)
        turned, where = (p.rotate(tilt, Image.Resampling.BICUBIC, expand=True) for p in (large, mask))
        canvas.paste(turned, (x - turned.width // 2, y - turned.height // 2), where)
    return canvas


def taken(pixels: Pixels, face: Face, side: int) -> Images:
    """The face in CelebA's framing, by OpenCV: shrunk by area first where it is larger, then warped bilinearly."""
    target = (CELEBA_TEMPLATE.numpy() + 0.5) * side / 112 - 0.5
    x, y, width, height = (round(v) for v in face.box)
    left, top = max(0, x - width), max(0, y - height)
    part = pixels[top : y + 2 * height, left : x + 2 * width]
    landmarks = face.landmarks - [left, top]
    matrix, _ = cv2.estimateAffinePartial2D(landmarks, target, method=cv2.LMEDS)
    shrink = min(1.0, np.hypot(matrix[0, 0], matrix[0, 1]))
    small = cv2.resize(part, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    scale = np.array(small.shape[1::-1]) / part.shape[1::-1]
    matrix, _ = cv2.estimateAffinePartial2D((landmarks + 0.5) * scale - 0.5, target, method=cv2.LMEDS)
    return from_array(cv2.warpAffine(small, matrix, (side, side))[None])


def ways(path: Path) -> Iterator[tuple[str, Pixels]]:
    """The protected photo as it may arrive."""
    with Image.open(path) as picture:
        photo = picture.convert("RGB")
    yield UNTOUCHED, np.asarray(photo)
    for quality in (95, 85, 75):
        yield f"photo, JPEG {quality}", np.asarray(_jpeg(photo, quality))
    half = photo.resize((photo.width // 2, photo.height // 2), Image.Resampling.BILINEAR)
    yield "photo, half the size", np.asarray(half)
    yield "photo, half the size, JPEG 85", np.asarray(_jpeg(half, 85))


def _jpeg(picture: Image.Image, quality: int) -> Image.Image:
    with io.BytesIO() as file:
        picture.save(file, format="JPEG", quality=quality)
        return Image.open(file).convert("RGB")


def nearest(faces: list[Face], place: tuple[float, float]) -> Face | None:
    """The face at a place, if there is one within a face's width."""
    best = min(faces, key=lambda f: np.linalg.norm(f.landmarks.mean(axis=0) - place), default=None)
    found = best is not None and np.linalg.norm(best.landmarks.mean(axis=0) - place) < best.box[2]
    return best if found else None


@torch.no_grad()
def measure(
    number: int,
    photo: Image.Image,
    folder: Path,
    protector: Protector,
    manipulators: dict[str, Manipulator],
    recognizer: Recognizer,
) -> list[Measured]:
    """All ways of one photo; clean and protected photo go the same way and are cropped alike.

    Raises:
        AssertionError: the written file leaves the protector's bound, or faces were not found.
    """
    detector, side = FaceDetector(), protector.prior.shape[-1]
    clean_path, path = folder / f"photo-{number}.png", folder / f"photo-{number}.protected.png"
    photo.save(clean_path, compress_level=1)
    clean = read_photo(clean_path)
    protected = protect_photo(clean, protector, detector)
    write_photo(protected.photo, path)
    assert difference(clean, read_photo(path), path) <= epsilon_to_levels(protector.epsilon)
    assert len(protected.frames) >= len(PLACES), f"only {len(protected.frames)} faces found in photo {number}"
    found = []
    for (way, before), (_, after) in zip(ways(clean_path), ways(path), strict=True):
        faces = detector.detect(after)
        for j, (x, y, *_) in enumerate(PLACES):
            face = nearest(faces, (x * after.shape[1] / WIDTH, y * after.shape[0] / HEIGHT))
            if face is None:
                continue
            one, other = (taken(pixels, face, side) for pixels in (before, after))
            arrived = {"aligned crop": protector(one).specific, way: other} if way == UNTOUCHED else {way: other}
            for key, manipulator in manipulators.items():
                results = effects(one, list(arrived.values()), manipulator, recognizer)
                found += [Measured(w, key, number, j, *e) for w, e in zip(arrived, results, strict=True)]
    return found


def table(measured: list[Measured]) -> str:
    """Markdown: a row for each way, L2_face of each manipulator, and what is left of the aligned crop's."""
    names = list(dict.fromkeys(m.manipulator for m in measured))
    head = ["way", "faces", *(f"L2_face {n}" for n in names), "mean L2_face", "of the crop's", "similarity", "DSR"]
    lines = [f"| {' | '.join(head)} |", f"| --- |{' ---: |' * (len(head) - 1)}"]
    whole = None
    for way in dict.fromkeys(m.way for m in measured):
        rows = [m for m in measured if m.way == way]
        l2, similarity = (torch.tensor([getattr(m, field) for m in rows]) for field in ("l2_face", "similarity"))
        per = [torch.tensor([m.l2_face for m in rows if m.manipulator == n]) for n in names]
        whole = whole or l2.mean().item()
        low, high = bootstrap_interval(torch.stack(per, dim=1))
        cells = [way, str(len(per[0])), *(f"{values.mean():.4f}" for values in per)]
        cells += [f"{l2.mean():.4f} ({low:.4f} to {high:.4f})", f"{l2.mean() / whole:.2f}"]
        cells += [f"{similarity.mean():.3f}", f"{disrupted(l2, similarity).float().mean():.3f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    """Write photo-path.json and photo-path.md, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faces", nargs="+", help="folders or tars of pictures with one face each")
    parser.add_argument("--output", type=Path, required=True, help="folder for the photos and the report")
    parser.add_argument("--photos", type=int, default=4, help="how many photos to make, with three faces each")
    parser.add_argument("--protector", help="folder or Hub id (default: the one that ships)")
    parser.add_argument("--refine", type=int, default=0, metavar="STEPS", help="as of art-idguard protect")
    parser.add_argument("--manipulators", nargs="+", help="folders or Hub ids (default: those that ship)")
    options = parser.parse_args(argv)
    options.output.mkdir(parents=True, exist_ok=True)
    specs = options.manipulators or manipulators_.shipped_manipulators()
    manipulators = {model.name: model for model in map(manipulators_.load, specs)}
    protector = Protector.from_pretrained(options.protector).requires_grad_(False)
    if options.refine:
        protector = refined_in_photo(protector, list(manipulators.values()), steps=options.refine)
    each = -(-3 * options.photos // len(options.faces))
    sets = [pictures(source, each) for source in options.faces]
    faces = [face for row in zip(*sets, strict=True) for face in row]
    measured = []
    for number in range(options.photos):
        photo = make_photo(faces[3 * number : 3 * number + 3])
        measured += measure(number, photo, options.output, protector, manipulators, recognizers.default())
        write_text(options.output / "photo-path.json", json.dumps([m._asdict() for m in measured], indent=1))
    write_text(options.output / "photo-path.md", table(measured) + "\n")
    print(table(measured))


def pictures(source: str, count: int) -> list[Image.Image]:
    """The first pictures of a data set, 256 pixels square."""
    images = read_faces(source, size=256, limit=2 * count, split="test").images[:count]
    return [Image.fromarray(array) for array in images.permute(0, 2, 3, 1).numpy()]


if __name__ == "__main__":
    main()

"""What `art-idguard serve` does with one uploaded photo, and how the page shows it; knows nothing of Gradio.

Pictures are put into the page itself (data: addresses), so that only the file to download is ever written.
"""

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from art_idguard.errors import IDGuardError
from art_idguard.faces.detection import FaceDetector
from art_idguard.files.photo import Photo, Pixels
from art_idguard.images import to_array
from art_idguard.manipulators.base import Manipulator
from art_idguard.metrics import L2_THRESHOLD, SIMILARITY_THRESHOLD, disrupted
from art_idguard.perturbation import Protector
from art_idguard.perturbation.weakened import WeakenedProtector
from art_idguard.photos.effects import distance, edit_named, forge
from art_idguard.photos.job import Written, protect_file
from art_idguard.photos.judging import before_and_after
from art_idguard.pixels import epsilon_to_levels
from art_idguard.recognizers.base import Recognizer

MAX_PIXELS = 50_000_000  # of a photo, for which others wait
SHOWN_SIDE = 768  # pixels of the longer side of a photo in the page


class Models(NamedTuple):
    """What the page works with."""

    protector: Protector
    manipulators: tuple[Manipulator, ...]
    recognizer: Recognizer
    detector: FaceDetector

    def edits(self) -> list[str]:
        """The edits that a manipulator knows, each once; another one does its first in place of it."""
        face = torch.zeros(1, 5)
        return list(dict.fromkeys(edit.name for m in self.manipulators for edit in m.edits(face)))


def protect_upload(
    path: Path,
    target: Path,
    models: Models,
    *,
    strength: object = 1.0,
    gallery: Sequence[Manipulator] = (),
    edit: str = "Blond_Hair",
    whole: bool = False,
    strip_metadata: bool = False,
) -> str:
    """Protect a photo, write it as a PNG, and report on the written file as HTML.

    Args:
        path: of the photo, in any format that `read_photo` knows.
        target: of the protected PNG.
        models: what protects and what judges.
        strength: share of the protector's bound to use, in (0, 1].
        gallery: those of `models.manipulators` whose forgeries to show.
        edit: what they are asked for, one of `models.edits()`.
        whole: protect a photo without a findable face as a whole.
        strip_metadata: leave EXIF and XMP out of the PNG.

    Raises:
        IDGuardError: the file is no usable photo, it has no face, or an option is unknown.
    """
    if gallery and edit not in models.edits():
        raise IDGuardError(f"the manipulators do not know the edit {edit!r}; choose from: {', '.join(models.edits())}")
    protector = models.protector if strength == 1 else WeakenedProtector(models.protector, strength)  # type: ignore[arg-type]  # a stranger's, which it checks
    done = protect_file(
        path, target, protector, models.detector, whole=whole, strip_metadata=strip_metadata, max_pixels=MAX_PIXELS
    )
    parts = [f"<p role='status'>{_verdict(done, protector.epsilon)}</p>", _photos(done.photo, done.written)]
    if done.frames and gallery:
        parts.append(_table(torch.cat(before_and_after(done, protector.side)), gallery, models.recognizer, edit))
    return "".join(parts)


def _verdict(done: Written, epsilon: float) -> str:
    if not done.frames:
        what = "No face was found: the whole picture was protected, and there is no face to judge it by."
    elif (faces := len(done.frames)) == 1:
        what = "One face was found and protected."
    else:
        what = f"{faces} faces were found and all of them protected; the table judges the largest."
    if done.doubtful:
        what += f" {done.doubtful} may be none, or stand otherwise: look at the pictures."
    return (
        f"{what} Read back from the written PNG: no value differs by more than "
        f"<strong>{done.levels} of 255 levels</strong> "
        f"(bound at this strength: {epsilon_to_levels(epsilon)}, which is epsilon {epsilon:.3g} on [-1, 1])."
    )


def _photos(photo: Photo, protected: Photo) -> str:
    """The photo, the protected one, and their difference x10 around grey."""
    step = -(-max(photo.pixels.shape) // SHOWN_SIDE)  # every step-th pixel as it is: averaging would hide the noise
    clean, changed = (p.pixels[::step, ::step].astype(np.int16) for p in (photo, protected))
    difference = np.clip(128 + 10 * (changed - clean), 0, 255).astype(np.uint8)
    figures = [
        _figure(photo.pixels, "Original"),
        _figure(protected.pixels, "Protected"),
        _figure(difference, "Perturbation x10 (grey: unchanged)"),
    ]
    return f"<div class='photos'>{''.join(figures)}</div>"


def _figure(pixels: Pixels, caption: str) -> str:
    return f"<figure>{_img(pixels, caption)}<figcaption>{escape(caption)}</figcaption></figure>"


def _img(pixels: Pixels, description: str) -> str:
    """The picture, at most `SHOWN_SIDE` large, as an element that holds it."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
    content = io.BytesIO()
    picture.save(content, format="PNG")
    address = base64.b64encode(content.getvalue()).decode()
    return f'<img alt="{escape(description)}" src="data:image/png;base64,{address}">'


def _table(crops: Float[Tensor, "2 3 S S"], gallery: Sequence[Manipulator], recognizer: Recognizer, edit: str) -> str:
    """A row for each manipulator: its forgeries of the photo's and of the protected face, and their distance."""
    before, after = to_array(crops)
    asked = edit.replace("_", " ").lower()
    rows = [_row("the face as it is", _img(before, "face"), _img(after, "protected face"), "", "", "")]
    for manipulator in gallery:
        forged = forge(manipulator, crops, edit)
        l2, similarity = distance(forged[:1], forged[1:], recognizer)
        hit = "yes" if disrupted(l2, similarity).item() else "no"
        own = edit_named(edit, manipulator, crops).name
        name = escape(manipulator.name if own == edit else f"{manipulator.name} ({own})")
        pictures = [_img(face, f"{name}, of the {of}") for face, of in zip(to_array(forged), _OF, strict=True)]
        rows.append(_row(name, *pictures, f"{l2.item():.4f}", f"{similarity.item():.2f}", hit))
    columns = ("Manipulator", *(f"of the {of}" for of in _OF), "L2_face", "identity similarity", "disrupted")
    head = "".join(f"<th scope='col'>{column}</th>" for column in columns)
    return (
        f"<table><caption>What each manipulator makes of the largest face (edit: {escape(asked)}). "
        f"As in the paper, "
        f"disrupted means L2_face above {L2_THRESHOLD} and similarity below {SIMILARITY_THRESHOLD}.</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    )


_OF = ("photo", "protected photo")


def _row(head: str, *cells: str) -> str:
    return f"<tr><th scope='row'>{head}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"

"""What the page does with a photo: protect it, and ask manipulators what they make of it; knows nothing of Gradio."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from art_idguard import attribute_classifier
from art_idguard.errors import IDGuardError
from art_idguard.faces.detection import FaceDetector
from art_idguard.manipulators.base import Manipulator
from art_idguard.perturbation import Protector
from art_idguard.perturbation.refined import refined_in_photo
from art_idguard.perturbation.weakened import WeakenedProtector
from art_idguard.photos.effects import AS_IT_IS, Effect, distance, edit_named, effects_left, forge
from art_idguard.photos.job import Written, protect_file, written_before
from art_idguard.photos.judging import before_and_after
from art_idguard.photos.protect import face_crop, protect_photo
from art_idguard.photos.verdict import Judged
from art_idguard.recognizers.base import Recognizer
from art_idguard.types import Images

MAX_PIXELS = 50_000_000  # of a photo, for which others wait
REFINE_STEPS = 20

Note = Callable[[float, str], object]
"""Told the share of the work that is done, and what comes next; what it raises ends the work."""


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


@dataclass(frozen=True, kw_only=True)
class Choices:
    """How to protect a photo, and what to show of it."""

    strength: object = 1.0
    """Share of the protector's bound to use, in (0, 1]."""
    refined: bool = False
    """Go on with PGD, as `protect --refine 20` does."""
    gallery: Sequence[Manipulator] = ()
    """Those of `Models.manipulators` whose forgeries to show, and to judge by."""
    edit: str = "Blond_Hair"
    """What they are asked for, one of `Models.edits()`."""
    whole: bool = False
    """Protect a photo without a findable face as a whole."""
    strip_metadata: bool = False
    """Leave EXIF and XMP out of the PNG."""


class Forged(NamedTuple):
    """What a manipulator makes of the largest face.

    `edit` is what it was asked for; `faces` are of the photo, of the protected photo, and of one at full strength where
    that is another; `effects` compare the first with each of the others.
    """

    name: str
    edit: str
    faces: Float[Tensor, "n 3 S S"]
    effects: tuple[Effect, ...]

    def judged(self, version: int = 0) -> Judged:
        """What the protection does here: the chosen one, or -1: at full strength."""
        return Judged(self.name, {AS_IT_IS: self.effects[version]})


class Protection(NamedTuple):
    """A photo protected, the crops of its largest face as `Forged` has them, and what is made of those."""

    done: Written
    crops: tuple[Images, ...]
    forged: tuple[Forged, ...]


def protect_upload(
    path: Path, target: Path, models: Models, choices: Choices, note: Note = lambda share, doing: None
) -> Protection:
    """Protect a photo, write it as a PNG, and find out what that does.

    Args:
        path: of the photo, in any format that `read_photo` knows.
        target: of the protected PNG.
        models: what protects and what judges.
        choices: how.
        note: told how far it is.

    Raises:
        NoFaceError: there is no face, and `choices.whole` is false.
        IDGuardError: the file is no usable photo, or a choice is unknown.
    """
    if choices.gallery and choices.edit not in models.edits():
        raise IDGuardError(
            f"the manipulators do not know the edit {choices.edit!r}; choose from: {', '.join(models.edits())}"
        )
    begun = 0.8 if choices.refined else 0.2  # share of the work after which the manipulators are asked
    protector = _protector(models, choices, lambda share, doing: note(begun * share, doing))
    note(0.0, "Looking for faces")
    done = protect_file(
        path,
        target,
        protector,
        models.detector,
        whole=choices.whole,
        strip_metadata=choices.strip_metadata,
        max_pixels=MAX_PIXELS,
    )
    if not (done.frames and choices.gallery):
        return Protection(done, (), ())
    crops: tuple[Images, ...] = before_and_after(done, models.protector.side)
    if choices.strength != 1:
        full = protect_photo(done.photo, models.protector, models.detector).photo.pixels
        crops += (torch.from_numpy(face_crop(full, done.frames[0], models.protector.side)),)
    forged = []
    for i, manipulator in enumerate(choices.gallery):
        note(begun + (1 - begun) * i / len(choices.gallery), f"Asking {name_of(manipulator)}")
        forged.append(_forged(manipulator, torch.cat(crops), choices.edit, models.recognizer))
    return Protection(done, crops, tuple(forged))


def _protector(models: Models, choices: Choices, note: Note) -> Protector:
    protector = models.protector
    if choices.refined:
        note(0.0, "Loading what else it needs")
        protector = refined_in_photo(
            protector,
            models.manipulators,
            steps=REFINE_STEPS,
            on_step=lambda done, most: note(done / most, f"Making it stronger: step {done + 1} of {most}"),
        )
    return protector if choices.strength == 1 else WeakenedProtector(protector, choices.strength)  # type: ignore[arg-type]  # a stranger's, which it checks


def _forged(manipulator: Manipulator, crops: Images, edit: str, recognizer: Recognizer) -> Forged:
    faces = forge(manipulator, crops, edit)
    pairs = distance(faces[:1].expand(len(faces) - 1, -1, -1, -1), faces[1:], recognizer)
    effects = tuple(Effect(*pair) for pair in zip(*(each.tolist() for each in pairs), strict=True))
    return Forged(name_of(manipulator), edit_named(edit, manipulator, crops).name, faces, effects)


def name_of(manipulator: Manipulator) -> str:
    """As a person reads it."""
    return type(manipulator).__name__


def ask_all(path: Path, target: Path, models: Models, note: Note = lambda share, doing: None) -> tuple[Judged, ...]:
    """What `protect --verify` finds out: every manipulator, every edit that suits the face, also after JPEG and more.

    Args:
        path: of the photo.
        target: of the protected PNG.
        models: what judges.
        note: told how far it is.

    Raises:
        IDGuardError: a file is gone.
    """
    note(0.0, "Loading what else it needs")
    done = written_before(path, target, models.detector)
    if not done.frames:
        return ()
    clean, protected = before_and_after(done, models.protector.side)
    attributes = attribute_classifier.labels(attribute_classifier.default(), clean)
    judged = []
    for i, manipulator in enumerate(models.manipulators):
        note(i / len(models.manipulators), f"Asking {name_of(manipulator)} for all its edits")
        found = effects_left(clean, protected, manipulator, models.recognizer, attributes)
        judged.append(Judged(name_of(manipulator), found))
    return tuple(judged)

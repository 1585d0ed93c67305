"""`art-idguard evaluate-manipulator`: how good manipulators are, as files."""

from collections.abc import Sequence
from pathlib import Path

import torch

from art_idguard import attribute_classifier as attributes
from art_idguard import manipulators, recognizers
from art_idguard.data.reading import read_faces
from art_idguard.data.spec import DataSpec
from art_idguard.errors import IDGuardError
from art_idguard.evaluation.checks import check_numbers, distinct
from art_idguard.evaluation.pictures import save_edits
from art_idguard.evaluation.quality import Quality, measure_quality
from art_idguard.faces.alignment import CELEBA_TEMPLATE, template_frame
from art_idguard.faces.detection import FaceDetector
from art_idguard.files.photo import read_photo
from art_idguard.hub.cards import EDITS
from art_idguard.hub.loading import official_file, weights_sha256
from art_idguard.hub.shipped import shipped
from art_idguard.photos.protect import face_crop
from art_idguard.types import Images


def evaluate_manipulators(
    models: Sequence[str],
    *,
    data: str,
    output: Path,
    limit: int | None = None,
    size: int = 128,
    recognizer: str | None = None,
    batch_size: int = 16,
    portrait: Path | None = None,
    verbose: bool = True,
) -> dict[str, Quality]:
    """Measure manipulators and write <output>/<the folder's name>/quality.{json,md} for each.

    Args:
        models: folders or Hub ids, or name=file for official checkpoints.
        data: a data set as `DataSpec` reads it, with labels.
        output: folder of the results; `hub/manipulators` puts them beside the models that ship.
        limit: use this many faces at most.
        size: side of the faces in pixels.
        recognizer: judges whether the person is kept; by default the one that ships.
        batch_size: faces at a time.
        portrait: a photo of which `cards.EDITS`, a picture for the model's card, shows every edit.
        verbose: show progress bars.

    Raises:
        IDGuardError: unusable weights, data, names or numbers.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    spec = DataSpec.parse(data)
    loaded = [manipulators.load(model).to(device) for model in models]
    check_numbers(loaded, size=size, limit=limit, batch_size=batch_size)
    face = None if portrait is None else _face(portrait, size).to(device)
    faces = read_faces(spec.path, size=size, split=spec.split, limit=limit, framing=spec.framing).to(device)
    judge = (recognizers.load(recognizer) if recognizer else recognizers.default()).to(device)
    classifier = attributes.default().to(device)
    found = {}
    names = distinct([_title(model) for model in models])
    for model, manipulator, name in zip(models, loaded, names, strict=True):
        quality = measure_quality(
            manipulator,
            faces,
            classifier,
            judge,
            batch_size=batch_size,
            metadata={
                "data": {"name": spec.name, "split": spec.split, "framing": spec.framing},
                "weights": weights_sha256(model),
                "classifier": weights_sha256(str(shipped("classifiers/attributes-celeba128"))),
            },
            verbose=verbose,
        )
        quality.save(output / name)
        if face is not None:
            save_edits(output / name / EDITS, manipulator, face)
        found[name] = quality
    return found


def _face(portrait: Path, size: int) -> Images:
    """The largest face of a photo, in CelebA's framing."""
    pixels = read_photo(portrait).pixels
    if (face := FaceDetector().largest(pixels)) is None:
        raise IDGuardError(f"no face found in {portrait}; give a photo with one")
    frame = template_frame(torch.from_numpy(face.landmarks)[None], pixels.shape[:2], CELEBA_TEMPLATE)
    return face_crop(pixels, frame, size)


def _title(model: str) -> str:
    official = official_file(model)
    return Path(official[1]).stem if official else Path(model).resolve().name

"""`art-idguard evaluate-manipulator`: how good manipulators are, as files."""

from dataclasses import replace
from pathlib import Path

import torch

from art_idguard import attribute_classifier as attributes
from art_idguard import manipulators, recognizers
from art_idguard.data.reading import read_faces
from art_idguard.data.spec import DataSpec
from art_idguard.errors import IDGuardError
from art_idguard.evaluation.checks import check_size, distinct
from art_idguard.evaluation.config import QualityConfig
from art_idguard.evaluation.document import PAGE, Picture, write_html
from art_idguard.evaluation.figures import quality_bars
from art_idguard.evaluation.pictures import save_edits
from art_idguard.evaluation.plots import save_plot
from art_idguard.evaluation.quality import Quality, measure_quality
from art_idguard.evaluation.training_log import Steps, read_training, training_curves
from art_idguard.faces.detection import FaceDetector
from art_idguard.faces.framing import celeba_frame
from art_idguard.files.photo import read_photo
from art_idguard.hub.cards import EDITS
from art_idguard.hub.loading import official_file, weights_sha256
from art_idguard.hub.shipped import shipped
from art_idguard.photos.protect import face_crop
from art_idguard.types import Images


def evaluate_manipulators(config: QualityConfig, *, verbose: bool = True) -> dict[str, Quality]:
    """Measure manipulators and write <output>/<the folder's name>/quality.{json,md} and plots for each, and one page.

    The page, report.html, has tables, plots and pictures of all of them.

    Args:
        config: the settings.
        verbose: show progress bars.

    Raises:
        IDGuardError: unusable weights, data, names or numbers.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    spec, size = DataSpec.parse(config.data), config.size
    loaded = [manipulators.load(model).to(device) for model in config.models]
    check_size(loaded, size)
    face = None if config.portrait is None else _face(Path(config.portrait), size).to(device)
    faces = read_faces(
        spec.path, size=size, split=spec.split, limit=config.limit, framing=spec.framing, verbose=verbose
    ).to(device)
    recognizer = (recognizers.load(config.recognizer) if config.recognizer else recognizers.default()).to(device)
    classifier = attributes.default().to(device)
    trainings = [read_training(model) for model in config.models]
    found, documents = {}, []
    names = distinct([_title(model) for model in config.models])
    for model, manipulator, steps, name in zip(config.models, loaded, trainings, names, strict=True):
        quality = measure_quality(
            manipulator,
            faces,
            classifier,
            recognizer,
            batch_size=config.batch_size,
            metadata={
                "data": {"name": spec.name, "split": spec.split, "framing": spec.framing},
                "weights": weights_sha256(model),
                "classifier": weights_sha256(str(shipped("classifiers/attributes-celeba128"))),
            },
            verbose=verbose,
        )
        folder = Path(config.output, name)
        quality.save(folder)
        pictures = _plots(folder, quality, steps)
        if face is not None:
            save_edits(folder / EDITS, manipulator, face)
            pictures.append(Picture(folder / EDITS, "A photo under every edit; below, the same under PGD."))
        documents.append(replace(quality.document(name), pictures=pictures))
        found[name] = quality
    write_html(Path(config.output, PAGE), documents)
    return found


def _plots(folder: Path, quality: Quality, training: Steps) -> list[Picture]:
    plots = [save_plot(folder / "quality-bars.png", quality_bars(quality), "Each edit, with 95 % intervals.")]
    if training:
        plots.append(save_plot(folder / "quality-training.png", training_curves(training), "Training, step by step."))
    return plots


def _face(portrait: Path, size: int) -> Images:
    """The largest face of a photo, in CelebA's framing."""
    pixels = read_photo(portrait).pixels
    if (face := FaceDetector().largest(pixels)) is None:
        raise IDGuardError(f"no face found in {portrait}; give a photo with one")
    return torch.from_numpy(face_crop(pixels, celeba_frame(face.landmarks, pixels.shape[:2]), size))


def _title(model: str) -> str:
    official = official_file(model)
    return Path(official[1]).stem if official else Path(model).resolve().name

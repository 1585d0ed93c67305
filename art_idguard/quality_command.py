"""`art-idguard evaluate-manipulator`: how good manipulators are, as files."""

from collections.abc import Sequence
from pathlib import Path

import torch

from art_idguard import attributes, manipulators, recognizers
from art_idguard.data import read_faces
from art_idguard.evaluate_command import DataSpec, distinct, weights_sha256
from art_idguard.hub import official_file, shipped
from art_idguard.quality import Quality, measure_quality


def evaluate_manipulators(
    models: Sequence[str],
    *,
    data: str,
    output: Path,
    limit: int | None = None,
    size: int = 128,
    recognizer: str | None = None,
    batch_size: int = 16,
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
        verbose: show progress bars.

    Raises:
        IDGuardError: unusable weights, data or names.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    spec = DataSpec.parse(data)
    faces = read_faces(spec.path, size=size, split=spec.split, limit=limit, framing=spec.framing).to(device)
    judge = (recognizers.load(recognizer) if recognizer else recognizers.default()).to(device)
    classifier = attributes.default().to(device)
    found = {}
    for model, name in zip(models, distinct([_title(model) for model in models]), strict=True):
        quality = measure_quality(
            manipulators.load(model).to(device),
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
        found[name] = quality
    return found


def _title(model: str) -> str:
    official = official_file(model)
    return Path(official[1]).stem if official else Path(model).resolve().name

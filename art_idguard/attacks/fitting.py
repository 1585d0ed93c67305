"""Algorithm 1 on an ART user's arrays, without leaving ART."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from art_idguard.arrays import check_images, to_tensor
from art_idguard.data import faces_of
from art_idguard.errors import IDGuardError
from art_idguard.estimators import PyTorchManipulator
from art_idguard.images import to_uint8
from art_idguard.manipulators.base import Manipulator
from art_idguard.perturbation import Protector
from art_idguard.refinement import RefinedProtector
from art_idguard.training.config import ProtectorConfig
from art_idguard.training.protector import train_protector
from art_idguard.training.run import Parts
from art_idguard.types import ATTRIBUTES


def fit_protector(
    protector: Protector,
    x: np.ndarray,
    y: np.ndarray | None,
    *,
    estimators: Sequence[PyTorchManipulator],
    batch_size: int,
    nb_epochs: int,
    verbose: bool,
    output: str | Path | None = None,
    **settings: Any,
) -> Protector:
    """The protector, trained further against the estimators' manipulators; see `IDGuardAttack.fit`."""
    if strangers := [type(e.model).__name__ for e in estimators if not isinstance(e.model, Manipulator)]:
        raise IDGuardError(
            f"training needs E_k features and edits, which {', '.join(strangers)} lacks; subclass Manipulator"
        )
    if isinstance(protector, RefinedProtector):
        raise IDGuardError("a refined protector is not trained; fit an attack with the one that it begins with, .start")
    if not estimators:
        raise IDGuardError("no manipulators to train against; give estimators=[PyTorchManipulator(...), ...]")
    x = check_images(x, estimators[0].clip_values)
    if not len(x) or x.shape[2] != x.shape[3]:
        raise IDGuardError(f"expected square faces (N, 3, S, S), found {x.shape}; crop them first")
    labels = np.zeros((len(x), len(ATTRIBUTES))) if y is None else np.asarray(y)
    if labels.shape != (len(x), len(ATTRIBUTES)):
        raise IDGuardError(f"y has 0/1 labels ({', '.join(ATTRIBUTES)}) of shape (N, 5), found {labels.shape}")
    signed = estimators[0].signed(to_tensor(x))
    faces = faces_of(to_uint8(signed), torch.tensor(labels, dtype=torch.float32))
    batch_size = min(batch_size, len(faces))
    with TemporaryDirectory() as temporary:
        config = ProtectorConfig(
            faces=f"{len(faces)} arrays",
            manipulators=tuple(e.model.name for e in estimators),
            output=str(output or temporary),
            size=faces.size,
            batch_size=batch_size,
            steps=nb_epochs * (len(faces) // batch_size),
            **settings,
        )
        parts = Parts(faces, [e.model for e in estimators], protector)
        return Protector.from_pretrained(train_protector(config, verbose=verbose, parts=parts))

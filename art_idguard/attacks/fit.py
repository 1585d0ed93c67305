"""Algorithm 1 on an ART user's arrays, without leaving ART."""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from art_idguard.attacks.trained import require_trainable
from art_idguard.data.reading import faces_of
from art_idguard.errors import IDGuardError
from art_idguard.estimators.arrays import check_images, to_tensor
from art_idguard.estimators.manipulator import PyTorchManipulator
from art_idguard.images import to_uint8
from art_idguard.perturbation import Protector
from art_idguard.perturbation.refined import RefinedProtector
from art_idguard.perturbation.weakened import WeakenedProtector
from art_idguard.training.protector.config import OF_A_PROTECTOR, ProtectorConfig
from art_idguard.training.protector.run import Preloaded
from art_idguard.training.protector.train import train_protector
from art_idguard.types import ATTRIBUTES


def fit_protector(
    protector: Protector,
    x: np.ndarray,
    y: np.ndarray | None,
    *,
    estimators: Sequence[PyTorchManipulator],
    clip_values: tuple[float, float],
    device: torch.device,
    batch_size: int,
    nb_epochs: int,
    verbose: bool,
    output: str | Path | None = None,
    **settings: Any,
) -> Protector:
    """The protector, trained further against the estimators' manipulators; see `IDGuardAttack.fit`."""
    if isinstance(protector, RefinedProtector):
        raise IDGuardError("a refined protector is not trained; fit an attack with the one that it begins with, .start")
    if isinstance(protector, WeakenedProtector):
        raise IDGuardError("a weakened protector is not trained; fit an attack with the one that it weakens, .full")
    if own := sorted({"start", *OF_A_PROTECTOR} & settings.keys()):
        raise IDGuardError(f"the attack's protector has its own {', '.join(own)}; leave that out, or give it another")
    if not estimators:
        raise IDGuardError("no manipulators to train against; give estimators=[PyTorchManipulator(...), ...]")
    try:
        require_trainable(estimators, clip_values, device)
    except ValueError as error:
        raise IDGuardError(str(error)) from error
    x = check_images(x, clip_values)
    if not len(x) or x.shape[2] != x.shape[3]:
        raise IDGuardError(f"expected square faces (N, 3, S, S), found {x.shape}; crop them first")
    labels = np.tile(estimators[0].attributes, (len(x), 1)) if y is None else np.asarray(y)
    if labels.shape != (len(x), len(ATTRIBUTES)):
        raise IDGuardError(f"y has 0/1 labels ({', '.join(ATTRIBUTES)}) of shape (N, 5), found {labels.shape}")
    signed = estimators[0].signed(to_tensor(x))
    faces = faces_of(to_uint8(signed), torch.tensor(labels, dtype=torch.float32))
    batch_size = min(batch_size, len(faces))
    with TemporaryDirectory() as temporary:
        values = {
            "faces": f"{len(faces)} arrays",
            "manipulators": tuple(e.model.name for e in estimators),
            "output": str(output or temporary),
            "size": faces.size,
            "batch_size": batch_size,
            "steps": nb_epochs * (len(faces) // batch_size),
        }
        config = ProtectorConfig.from_recipe(None, **values | settings)
        parts = Preloaded(faces, [e.model for e in estimators], deepcopy(protector))
        return Protector.from_pretrained(train_protector(config, verbose=verbose, parts=parts))

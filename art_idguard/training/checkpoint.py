"""A run's state in one file that is whole or absent."""

from pathlib import Path
from typing import Any

import torch
from torch.optim import Optimizer

from art_idguard.errors import IDGuardError
from art_idguard.files.atomic import replacing

CHECKPOINT = "checkpoint.pt"


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Replace the run's checkpoint."""
    with replacing(folder / CHECKPOINT) as temporary:
        torch.save(state, temporary)


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The state of the run in `folder`, on the CPU; None where there is no checkpoint.

    Raises:
        IDGuardError: the file cannot be read.
    """
    path = folder / CHECKPOINT
    if not path.is_file():
        return None
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise IDGuardError(f"cannot resume from {path}: {error}; delete it to start anew") from error


def restore_moments(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Go on with the saved moments, at the learning rates that the optimiser has now."""
    optimizer.load_state_dict({**state, "param_groups": optimizer.state_dict()["param_groups"]})

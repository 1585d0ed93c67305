"""A run's state in one file that is whole or absent."""

from pathlib import Path
from typing import Any

import torch
from torch.optim import Optimizer

from art_idguard.errors import IDGuardError
from art_idguard.files.atomic import replacing
from art_idguard.files.tensors import checksum

CHECKPOINT = "checkpoint.pt"


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Replace the run's checkpoint.

    Raises:
        IDGuardError: it cannot be written.
    """
    path = folder / CHECKPOINT
    try:
        with replacing(path) as temporary:
            torch.save(state | {"checksum": checksum(state)}, temporary)
    except RuntimeError as error:  # torch's word for a full disk
        raise IDGuardError(f"cannot write {path}: {error}; free some space and resume") from error


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The state of the run in `folder`, on the CPU; None where there is no checkpoint.

    Raises:
        IDGuardError: the file cannot be read, or a byte of its contents has changed since it was written.
    """
    path = folder / CHECKPOINT
    if not path.is_file():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict) or "checksum" not in state:
            raise ValueError("it holds no run of this version")
        if state.pop("checksum") != checksum(state):
            raise ValueError("its checksum does not hold")
        return state
    except Exception as error:  # whose text may tell to switch the safe reading off
        reason = error if isinstance(error, (ValueError, OSError)) else "it is damaged, or no checkpoint"
        raise IDGuardError(f"cannot resume from {path}: {reason}; delete it to start anew") from error


def restore_moments(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Go on with the saved moments, at the learning rates that the optimiser has now."""
    optimizer.load_state_dict({**state, "param_groups": optimizer.state_dict()["param_groups"]})

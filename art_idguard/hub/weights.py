"""Weights files: read safely and strictly, written whole or not at all."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from art_idguard.errors import WeightsError

_NESTINGS = ("G", "gen_test")
"""RelGAN's and HiSD's official checkpoints keep the generator under these."""


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors or torch file, as the file nests them in official repositories.

    Torch files are read with weights_only=True: a pickle that holds code is refused.

    Raises:
        WeightsError: the file is missing, truncated, no weights file, or holds anything but tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"no weights file at {path}; give the path of a .safetensors or torch file")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise WeightsError(f"{path} is damaged, or a pickle, which is refused: {error}") from error
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error}") from error
    except Exception as error:  # whose text may tell to switch the safe reading off
        raise WeightsError(
            f"{path} was refused: it is damaged, no torch file, or holds more than tensors, and such a file can run "
            "code when it is read; get it anew, or save its state_dict alone"
        ) from error
    return _flatten(content, path)


def _flatten(content: Any, path: Path) -> dict[str, Tensor]:
    for key in _NESTINGS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(v, Tensor) for v in content.values()):
        raise WeightsError(
            f"{path} holds no state_dict; expected tensors by name, alone or under " + " or ".join(_NESTINGS)
        )
    return {key.removeprefix("module."): value for key, value in content.items()}


def check_fit(model: nn.Module, state: Mapping[str, Tensor], source: str | Path) -> None:
    """Every name and shape of `state` must fit `model`, but for absent num_batches_tracked.

    Raises:
        WeightsError: a name is missing or unknown, or a shape differs.
    """
    own = model.state_dict()
    absent = [k for k in own if k not in state and not k.endswith("num_batches_tracked")]
    unknown = [k for k in state if k not in own]
    misfit = [
        f"{k}: expected {tuple(own[k].shape)}, found {tuple(state[k].shape)}"
        for k in own
        if k in state and own[k].shape != state[k].shape
    ]
    problems = [
        f"{len(found)} {what} ({', '.join(found[:3])}{', ...' if len(found) > 3 else ''})"
        for what, found in (("missing", absent), ("unknown", unknown), ("of another shape", misfit))
        if found
    ]
    if problems:
        raise WeightsError(
            f"{source} does not fit {type(model).__name__}: entries {'; '.join(problems)}. "
            "Check that the file belongs to this model and configuration."
        )


def load_strict(model: nn.Module, state: Mapping[str, Tensor], source: str | Path) -> None:
    """Load `state` into `model`; raises WeightsError as `check_fit` does."""
    check_fit(model, state, source)
    model.load_state_dict(state, strict=False)  # what may be absent was checked

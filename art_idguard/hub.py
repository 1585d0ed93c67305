"""Weights: safetensors and config.json in the Hub's layout, strict loading, official checkpoints read safely."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import torch
from huggingface_hub import PyTorchModelHubMixin, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from art_idguard.errors import IDGuardError, WeightsError
from art_idguard.files import replacing

WEIGHTS = "model.safetensors"
_DOWNLOAD = ("revision", "cache_dir", "force_download", "local_files_only", "token")
_NESTINGS = (
    "G",
    "gen_test",
)  # RelGAN's and HiSD's official checkpoints keep the generator under these


def shipped(path: str) -> Path:
    """A file or folder that ships with the package, such as "protectors/resnet-celeba128"."""
    installed = Path(__file__).parent / "_hub"
    return (installed if installed.is_dir() else Path(__file__).parents[1] / "hub") / path


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors or torch file, as the file nests them in official repositories.

    Torch files are read with weights_only=True: a pickle that holds code is refused.

    Raises:
        WeightsError: the file is missing, truncated, no weights file, or holds anything but tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"no weights file at {path}; give the path of a .safetensors or torch file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise WeightsError(f"{path} is damaged or no weights file: {error}") from error
    except Exception as error:  # pickle.UnpicklingError and what a hostile pickle may raise
        raise WeightsError(f"{path} was refused, it holds more than tensors: {error}") from error
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


def load_strict(model: nn.Module, state: Mapping[str, Tensor], source: str | Path) -> None:
    """Load `state` into `model`; every name and shape must fit, but for absent num_batches_tracked.

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
    model.load_state_dict(state, strict=False)


def save_atomically(state: Mapping[str, Tensor], path: Path) -> None:
    """Write a safetensors file; it is whole or absent."""
    with replacing(path) as temporary:
        save_file({k: v.contiguous() for k, v in state.items()}, temporary)


class HubModel(nn.Module, PyTorchModelHubMixin, library_name="art-idguard", tags=["art-idguard"]):
    """A model with from_pretrained, save_pretrained and push_to_hub; `name` is its config's model_type.

    Weights are read from safetensors only, strictly, and come back as float32 in eval mode.
    """

    name: ClassVar[str]

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> Self:
        """A trained model from a folder or Hub id, in eval mode.

        Args:
            pretrained_model_name_or_path: folder or Hub id.
            options: revision, token and so on, see `PyTorchModelHubMixin.from_pretrained`; and the model's own.

        Raises:
            WeightsError: there is no such model, it is of another kind, or its weights are damaged or do not fit.
        """
        source = pretrained_model_name_or_path
        found = read_config(source, **{k: v for k, v in options.items() if k in _DOWNLOAD})["model_type"]
        if found != cls.name:
            raise WeightsError(f"{source} is of kind {found!r}, not {cls.name!r}; name another model")
        try:
            return super().from_pretrained(source, **options)
        except TypeError as error:
            raise WeightsError(f"the config.json of {source} does not fit {cls.__name__}: {error}") from error

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        **model_kwargs: Any,
    ) -> Self:
        path = Path(model_id) / WEIGHTS
        if not Path(model_id).is_dir():
            try:
                path = Path(
                    hf_hub_download(
                        model_id,
                        WEIGHTS,
                        revision=revision,
                        cache_dir=cache_dir,
                        force_download=force_download,
                        local_files_only=local_files_only,
                        token=token,
                    )
                )
            except (EntryNotFoundError, RepositoryNotFoundError) as error:
                raise WeightsError(f"no {WEIGHTS} in {model_id}: {error}") from error
        model = cls(**model_kwargs)
        load_strict(model, read_state_dict(path), path)
        return model.eval()

    @classmethod
    def from_checkpoint(cls, path: str | Path, **config: Any) -> Self:
        """The official repository's file, read safely and strictly; returned in eval mode.

        Raises:
            WeightsError: the file is missing, damaged, unsafe, or does not fit this model.
        """
        model = cls(**config)
        load_strict(model, read_state_dict(path), path)
        return model.eval()

    def save_pretrained(self, save_directory: str | Path, *, config: Any = None, **kwargs: Any) -> str | None:
        """Write config.json (with model_type), model.safetensors and, unless there is one, a card."""
        options: Any = self._hub_mixin_config or {}
        config = {"model_type": self.name, **options, **(config or {})}
        return super().save_pretrained(save_directory, config=config, **kwargs)

    def _save_pretrained(self, save_directory: Path) -> None:
        save_atomically(self.state_dict(), Path(save_directory) / WEIGHTS)


Member = TypeVar("Member", bound=HubModel)


def load_member(family: Mapping[str, type[Member]], spec: str | Path, **config: Any) -> Member:
    """A frozen member of a family: eval mode, no parameter requires a gradient.

    Args:
        family: the members by name.
        spec: a folder or Hub id with config.json and model.safetensors, or "name=path" with a name of the
            family and a file of its official repository.
        config: the model's options where they differ from its config.json or its defaults.

    Raises:
        IDGuardError: the name is unknown.
        WeightsError: there are no weights, or they are damaged, unsafe, or do not fit.
    """
    name, equals, path = str(spec).partition("=")
    official = bool(equals) and not Path(spec).is_dir()
    if not official:
        name = read_config(spec)["model_type"]
    if name not in family:
        raise IDGuardError(f"unknown model {name!r} in {spec}; choose from: {', '.join(family)}")
    if official:
        return family[name].from_checkpoint(path, **config).requires_grad_(False)
    return family[name].from_pretrained(spec, **config).eval().requires_grad_(False)


def read_config(model: str | Path, **download: Any) -> dict[str, Any]:
    """The config.json of a folder or Hub id; `download` as `hf_hub_download` takes it.

    Raises:
        WeightsError: there is none, or it has no model_type.
    """
    path = Path(model) / "config.json"
    try:
        if not Path(model).is_dir():
            path = Path(hf_hub_download(str(model), "config.json", **download))
        config = json.loads(path.read_text())
        config["model_type"]
    except (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OSError,
        LookupError,
        TypeError,
        ValueError,
    ) as error:
        raise WeightsError(
            f"cannot tell what {model} is: {error}. Expected a folder or Hub id with a config.json that has a "
            "model_type, or name=file for an official checkpoint"
        ) from error
    return config

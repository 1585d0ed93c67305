"""A member of a family by the name of a folder, of the Hub or of an official file."""

from pathlib import Path
from typing import Any, TypeVar

from huggingface_hub import try_to_load_from_cache

from art_idguard.errors import IDGuardError
from art_idguard.files.digests import sha256
from art_idguard.hub.model import DOWNLOAD_OPTIONS, HubModel
from art_idguard.hub.repository import WEIGHTS, read_config, weights_of
from art_idguard.hub.shipped import resolve
from art_idguard.hub.weights import official_files
from art_idguard.plugins import Registry


def official_file(spec: str | Path) -> tuple[str, str] | None:
    """Name and path of "name=path", a file of an official repository; None for a folder or Hub id."""
    name, equals, path = str(spec).partition("=")
    return (name, path) if equals and "/" not in name and not Path(spec).is_dir() else None


Member = TypeVar("Member", bound=HubModel)


def load_member(family: Registry[type[Member]], spec: str | Path, **config: Any) -> Member:
    """A frozen member of a family: eval mode, no parameter requires a gradient.

    Args:
        family: the members by name.
        spec: a folder or Hub id with config.json and model.safetensors, the name of one that ships, or "name=path"
            with a name of the family and a file of its official repository.
        config: the model's options where they differ from its config.json or its defaults; of a Hub id also
            revision and so on, see `HubModel.from_pretrained`.

    Raises:
        IDGuardError: the name is unknown.
        WeightsError: there are no weights, or they are damaged, unsafe, or do not fit.
    """
    official = official_file(spec)
    download = {key: value for key, value in config.items() if key in DOWNLOAD_OPTIONS}
    name = official[0] if official else read_config(spec, **download)["model_type"]
    if name not in family and official:
        raise IDGuardError(
            f"no folder {spec} is here; and as name=file, there is no {name!r} among: {', '.join(family.names())}"
        )
    if name not in family:
        raise IDGuardError(f"unknown model {name!r} in {spec}; choose from: {', '.join(family.names())}")
    if official:
        return family[name].from_checkpoint(official[1], **config).requires_grad_(False)
    return family[name].from_pretrained(spec, **config).requires_grad_(False)


def weights_sha256(spec: str) -> str | None:
    """Of the weights file that a specification names, or of both, None where it is not on this machine."""
    if official := official_file(spec):
        files = official_files(official[1])
        return ", ".join(map(sha256, files)) if all(file.is_file() for file in files) else None
    path = Path(resolve(spec))
    if path.is_dir():
        path = weights_of(path)
    elif not path.is_file():
        found = try_to_load_from_cache(spec, WEIGHTS)
        if not isinstance(found, str):
            return None
        path = Path(found)
    return sha256(path)

"""Folders and names of the weights that ship."""

import os
import re
from fnmatch import fnmatch
from pathlib import Path

from art_idguard.errors import WeightsError
from art_idguard.files.shipped import shipped

NAMES = {
    "protector": "protectors/default",
    "protector-wide": "wide/protector-celeba128",
    "protector-quarter": "small/protector-quarter-celeba128",
    **{name: f"manipulators/{name}-celeba128" for name in ("stargan", "attentiongan", "fpgan", "relgan")},
    **{f"{name}-small": f"small/{name}-celeba64" for name in ("stargan", "attentiongan")},
    **{f"{name}-hardened": f"hardened/{name}-celeba128" for name in ("stargan", "relgan")},
    "sface": "recognizers/sface",
    "attributes": "classifiers/attributes-celeba128",
    "inpainter": "restorers/inpainter-celeba128",
}
"""What ships, under its short name: where `shipped` has it."""


def list_models(pattern: str = "*") -> list[str]:
    """The short names of the models that ship with this installation, as `from_pretrained` and the commands take them.

    Examples:
        >>> list_models("*-hardened")
        ['relgan-hardened', 'stargan-hardened']

    Args:
        pattern: of names to list, with * and ?.
    """
    return sorted(name for name, path in NAMES.items() if fnmatch(name, pattern) and shipped(path).is_dir())


def short_name(model: str) -> str:
    """The short name of what ships in this folder, which another installation knows as well; any other as it is."""
    return next((name for name, path in NAMES.items() if model == str(shipped(path))), model)


_ROOMS = sorted({path.partition("/")[0] for path in NAMES.values()})
_PATH = re.compile(rf"(?:hub/)?((?:{'|'.join(_ROOMS)})/[\w-]+)/?")


def resolve(model: str | Path) -> str | Path:
    """The folder of a model that ships, by one of `NAMES` or its place in the repository; any other as it is.

    A model in a folder of that name, from here, comes first.

    Raises:
        WeightsError: the name is kept for what ships, and this installation does not have it.
    """
    found = _PATH.fullmatch(str(model))
    path = found[1] if found else NAMES.get(str(model))
    if path is None or os.path.isfile(model) or os.path.isfile(os.path.join(model, "config.json")):
        return model
    if shipped(path).is_dir():
        return shipped(path)
    if os.path.isdir(model):
        return model
    names = ", ".join(list_models())
    raise WeightsError(
        f"no folder {model} is here, and {path} does not ship with this installation; what does has the names {names}"
    )

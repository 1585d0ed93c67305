"""Tensors kept in safetensors files: computed once, written whole; and their SHA-256."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from art_idguard.errors import IDGuardError
from art_idguard.files.atomic import OF_SAFETENSORS, remove_abandoned, replacing


def digest(tensors: Iterable[Tensor]) -> str:
    """A name for these very numbers, in this order."""
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()[:16]


def all_finite(tensor: Tensor) -> bool:
    """Whether no value is infinite or NaN, which minimum and maximum tell 14 times as fast as a mask of all values."""
    return not tensor.numel() or bool(torch.stack(tensor.aminmax()).isfinite().all())


def checksum(state: Any) -> str:
    """Of every number and name in dictionaries and lists: torch takes a file with a changed byte for another state."""
    found = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, dict):
            for name, part in value.items():
                found.update(repr(name).encode())
                add(part)
        elif isinstance(value, (list, tuple)):
            for part in value:
                add(part)
        elif isinstance(value, Tensor):
            found.update(f"{value.dtype}{tuple(value.shape)}{digest([value])}".encode())
        else:
            found.update(repr(value).encode())

    add(state)
    return found.hexdigest()


def cached(path: str | Path | None, key: str, compute: Callable[[], Tensor]) -> Tensor:
    """`compute()`, or what an earlier call kept under `key` in the file at `path`.

    Raises:
        IDGuardError: the file is damaged, or not one of these.
    """
    kept = _load(path)
    if key not in kept:
        kept[key] = compute()
        _save(kept, path)
    return kept[key]


def cached_rows(
    path: str | Path | None, key: str, identities: Sequence[int], compute: Callable[[list[int]], Tensor]
) -> Tensor:
    """A row for each identity, on the CPU: what earlier calls kept under `key`, and the rest from `compute`.

    The file has the rows as they came in one tensor, and whose they are in another, `key`.of.

    Args:
        path: of the file; None: nothing is kept.
        key: what the rows are.
        identities: 64-bit numbers that stand for what the rows are made from, such as pictures.
        compute: from positions in `identities` to their rows.

    Raises:
        IDGuardError: the file is damaged, or not one of these.
    """
    kept = _load(path)
    owners = kept[f"{key}.of"].tolist() if key in kept else []
    known = set(owners)
    if missing := [i for i, identity in enumerate(identities) if identity not in known]:
        made = compute(missing).cpu()
        owners += [identities[i] for i in missing]
        kept |= {key: torch.cat([kept[key], made]) if key in kept else made, f"{key}.of": torch.tensor(owners)}
        _save(kept, path)
    places = {identity: place for place, identity in enumerate(owners)}
    return kept[key][[places[identity] for identity in identities]]


def _load(path: str | Path | None) -> dict[str, Tensor]:
    if path is None or not Path(path).exists():
        return {}
    try:
        with safe_open(path, "pt") as file:
            keys, metadata = set(file.keys()), file.metadata() or {}
        older = all(f"{key.removesuffix('.of')}.of" in keys for key in keys)  # rows of older versions
        if metadata.get("kept by") != "art-idguard" and not older:
            raise IDGuardError(f"{path} is no cache of art-idguard and would be overwritten; choose another path")
        kept = load_file(path)
        if "checksum" in metadata and metadata["checksum"] != _checksum(kept):
            raise SafetensorError("its checksum does not hold")
        return kept
    except (SafetensorError, OSError) as error:
        raise IDGuardError(f"{path} is damaged ({error}); delete it, what it kept is made anew") from error


def _save(tensors: dict[str, Tensor], path: str | Path | None) -> None:
    if path is not None:
        save_atomically(tensors, Path(path), {"kept by": "art-idguard", "checksum": _checksum(tensors)})


def _checksum(tensors: dict[str, Tensor]) -> str:
    return checksum(dict(sorted(tensors.items())))


def save_atomically(state: Mapping[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file; it is whole or absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(path.parent, OF_SAFETENSORS)
    with replacing(path) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode  # as the umask has it; save_file's is for its owner alone
        save_file({k: v.contiguous() for k, v in state.items()}, temporary, metadata)
        temporary.chmod(mode)

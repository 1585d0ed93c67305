"""SHA-256 of files and of tensors."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def digest(tensors: Iterable[Tensor]) -> str:
    """A name for these very numbers, in this order."""
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()[:16]


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


def sha256(path: Path) -> str:
    """Of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

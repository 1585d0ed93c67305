"""SHA-256 of files and of tensors."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor


def digest(tensors: Iterable[Tensor]) -> str:
    """A name for these very numbers, in this order."""
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()[:16]


def sha256(path: Path) -> str:
    """Of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

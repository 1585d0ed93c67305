"""Faces as bytes: in memory, or in a file on disk, from where a step takes those that it needs."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from art_idguard.errors import IDGuardError


class Decoded(NamedTuple):
    """Faces, and of each a number that stands for what it was decoded from, 0 where nothing was."""

    images: UInt8[Tensor, "N 3 S S"]
    of: Int64[Tensor, " N"]


def decoded(folder: str | Path | None, names: Sequence[str], size: int, framing: str) -> Decoded:
    """Room for these pictures, or what an earlier start has decoded of them.

    A face is there once its number is, which is set last, so a killed start leaves no half face.

    Args:
        folder: keeps them in two files for these pictures; None: they are in memory, and new.
        names: of the pictures, in their order.
        size: side of the faces in pixels.
        framing: how a picture becomes a face.

    Raises:
        IDGuardError: there is no room for them.
    """
    shape = (len(names), 3, size, size)
    if folder is None:
        return Decoded(torch.zeros(shape, dtype=torch.uint8), torch.zeros(len(names), dtype=torch.int64))
    stem = f"{hashlib.sha256(repr(list(names)).encode()).hexdigest()[:16]}-{size}-{framing}"
    images = _mapped(Path(folder) / f"{stem}.u8", len(names) * 3 * size * size, torch.uint8)
    return Decoded(images.view(shape), _mapped(Path(folder) / f"{stem}.of.i64", len(names), torch.int64))


def _mapped(path: Path, count: int, dtype: torch.dtype) -> Tensor:
    length = count * dtype.itemsize
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            if hasattr(os, "posix_fallocate"):  # a full disk shows here, not as a signal in a later step
                os.posix_fallocate(file.fileno(), 0, length)
        return torch.from_file(str(path), shared=True, size=count, dtype=dtype)
    except (OSError, RuntimeError) as error:
        raise IDGuardError(f"cannot keep {length / 2**30:.1f} GiB of faces in {path.parent}: {error}") from error


def on_disk(images: UInt8[Tensor, "N 3 S S"]) -> bool:
    """Whether they are in a file."""
    return images.untyped_storage().filename is not None


def placed(images: UInt8[Tensor, "N 3 S S"], device: torch.device | str) -> UInt8[Tensor, "N 3 S S"]:
    """On the device, unless they are on disk and stay there."""
    return images if on_disk(images) else images.to(device)


def taken(images: UInt8[Tensor, "N 3 S S"], index: Int64[Tensor, " B"]) -> UInt8[Tensor, "B 3 S S"]:
    """Some of the faces, where the index is."""
    return images[index.to(images.device)].to(index.device)

"""Cache of M_k(x), E_k(x) and ID(M_k(x)), which never change, from step to step and from run to run."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from art_idguard.losses import LossConfig
from art_idguard.manipulators.base import Manipulator
from art_idguard.objective import Reference, reference
from art_idguard.recognizers.base import Recognizer
from art_idguard.regions import MaskedFaces
from art_idguard.types import Edit, Manipulation


class CleanCache:
    """M_k(x), E_k(x) and ID(M_k(x)) of one manipulator for faces and edits, in memory-mapped files of half precision.

    A row is there once its mark is set, which is set last, so a killed run leaves no half row. The files are as large
    as all rows would be, but take up space for those alone that are there.

    Args:
        folder: of this manipulator, these faces and these recognisers; made when absent.
        faces: how many there are.
        edits: of the manipulator.
        size: side of the faces in pixels.
        features: shape of E_k(x), (F, h, w); with F = 0 none are kept.
        lengths: of the recognisers' embeddings.
    """

    def __init__(
        self, folder: Path, *, faces: int, edits: int, size: int, features: Sequence[int], lengths: Sequence[int]
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.lengths = list(lengths)
        shape = (faces, edits)
        self._output = _mapped(folder / "output.f16", (*shape, 3, size, size), np.float16)
        self._features = _mapped(folder / "features.f16", (*shape, *features), np.float16)
        self._embeddings = _mapped(folder / "embeddings.f16", (*shape, sum(lengths)), np.float16)
        self._there = _mapped(folder / "there.u8", shape, np.uint8)

    def reference(
        self,
        index: Int64[Tensor, " B"],
        choice: Int64[Tensor, " B"],
        manipulator: Manipulator,
        edit: Edit,
        recognizers: Sequence[Recognizer],
        masked: MaskedFaces,
        loss: LossConfig,
    ) -> Reference:
        """What `objective.reference` gives for these faces under these edits; what is missing is made and kept."""
        rows = index.cpu().numpy(), choice.cpu().numpy()
        missing = torch.from_numpy(self._there[rows] == 0)
        if missing.any():
            made = reference(
                manipulator,
                Edit(edit.name, edit.condition[missing]),
                recognizers,
                _select(masked, missing),
                loss,
            )
            new = tuple(row[missing.numpy()] for row in rows)
            self._output[new] = made.clean.output.half().cpu().numpy()
            if self._features.size:
                self._features[new] = made.clean.features.half().cpu().numpy()
            self._embeddings[new] = torch.cat(made.identities, dim=1).half().cpu().numpy()
            self._there[new] = 1
        output = torch.from_numpy(self._output[rows]).to(masked.images)
        features = torch.from_numpy(self._features[rows]).to(masked.images)
        embeddings = torch.from_numpy(self._embeddings[rows]).to(masked.images)
        return Reference(Manipulation(output, features), embeddings.split(self.lengths, dim=1))


def _mapped(path: Path, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if not size:
        return np.zeros(shape, dtype)  # an empty file cannot be mapped
    with path.open("ab") as file:
        file.truncate(size)  # zeros, where the file is new
    return np.memmap(path, dtype, "r+", shape=shape)


def _select(masked: MaskedFaces, rows: Bool[Tensor, " B"]) -> MaskedFaces:
    region = type(masked.region)(*(mask[rows] for mask in masked.region))
    return MaskedFaces(masked.images[rows], region, None if masked.frame is None else masked.frame[rows])

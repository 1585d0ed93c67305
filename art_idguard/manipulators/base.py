"""The contract of a face manipulator M_k, Eq. (1): face + edit -> forged face."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

from torch import nn

from art_idguard.errors import WeightsError
from art_idguard.files.digests import sha256
from art_idguard.hub.model import HubModel
from art_idguard.hub.weights import official_files
from art_idguard.types import Attributes, Edit, Images, Manipulation


class Published(NamedTuple):
    """Where a manipulator's authors publish its weights, which are theirs: a user gets them from there."""

    source: str
    """Address of the repository."""
    files: Mapping[str, str]
    """sha256 of each file by its path in the repository."""
    terms: str

    def __str__(self) -> str:
        files = " and ".join(f"{file} (sha256 {digest})" for file, digest in self.files.items())
        return f"{files} of {self.source}"


class Manipulator(HubModel, ABC):
    """A frozen or trainable face manipulation model.

    `forward` returns the forged face and the features of E_k from one pass. `train()` and `eval()`
    must not change what it returns.

    Examples:
        >>> import torch
        >>> from art_idguard import manipulators
        >>> stargan, face = manipulators.load("stargan"), torch.zeros(1, 3, 128, 128)
        >>> edits = stargan.edits(torch.zeros(1, 5))  # the face is labelled with none of the five attributes
        >>> [edit.name for edit in edits]
        ['Black_Hair', 'Blond_Hair', 'Brown_Hair', 'Male', 'Young']
        >>> stargan(face, edits[1]).output.shape
        torch.Size([1, 3, 128, 128])
    """

    name: ClassVar[str]
    family = "manipulator"
    multiple: int = 1
    """Height and width of the faces are multiples of this."""
    mixes_edits: ClassVar[bool] = True
    """Whether the faces of a batch may have different edits: the conditions alone tell them apart, not the names."""
    published: ClassVar[Published | None] = None
    """Of a model whose weights neither ship nor are trained here."""

    @classmethod
    def from_checkpoint(cls, path: str | Path, **config: Any) -> Self:
        """The official repository's file, read safely and strictly; returned in eval mode.

        Of a `published` model any file of the right layout loads, with a warning where it is another one.

        Raises:
            WeightsError: the file is missing, damaged, unsafe, or does not fit this model.
        """
        if cls.published is None:
            return super().from_checkpoint(path, **config)
        try:
            model = super().from_checkpoint(path, **config)
        except WeightsError as error:
            raise WeightsError(f"{str(error).rstrip('.')}. Expected {cls.published}") from error
        digests = [sha256(file) for file in official_files(path)]
        if digests != [*cls.published.files.values()]:
            warnings.warn(
                f"{path} has other weights than those that {cls.name} was tried with: its sha256 is "
                f"{', '.join(digests)}, and not that of {cls.published}",
                stacklevel=2,
            )
        return model

    @abstractmethod
    def edits(self, attributes: Attributes) -> tuple[Edit, ...]:
        """The model's edits for faces with these labels, one row per face: of the GANs the paper's five, of others one
        or more.
        """

    @abstractmethod
    def forward(self, x: Images, edit: Edit) -> Manipulation:
        """Eq. (1): the forged face, as large as x, and E_k's features of x. Faces on the [-1, 1] scale.

        A model of a fixed size resamples, see `images.resize`.
        """

    def inverse_edit(self, edit: Edit, x: Images, attributes: Attributes) -> Edit | None:
        """The edit that leads from the forged face back to x, a face with these labels; None where there is none."""
        return None

    def use_batch_statistics(self, enabled: bool = True) -> Self:
        """For training only: normalise by the batch's own statistics, where the model has statistics of batches."""
        return self


class WrappedManipulator(Manipulator):
    """Another manipulator's edits and weights; subclasses say what happens to its faces or its forgeries."""

    def __init__(self, manipulator: Manipulator) -> None:
        nn.Module.__init__(self)  # the weights are the other's
        self.manipulator = manipulator

    def edits(self, attributes: Attributes) -> tuple[Edit, ...]:
        """The manipulator's."""
        return self.manipulator.edits(attributes)

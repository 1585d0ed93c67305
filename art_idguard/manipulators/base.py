"""The contract of a face manipulator M_k, Eq. (1): face + edit -> forged face."""

from abc import ABC, abstractmethod
from typing import ClassVar, Self

from art_idguard.hub.model import HubModel
from art_idguard.types import Attributes, Edit, Images, Manipulation


class Manipulator(HubModel, ABC):
    """A frozen or trainable face manipulation model.

    `forward` returns the forged face and the features of E_k from one pass. `train()` and `eval()`
    must not change what it returns.
    """

    name: ClassVar[str]
    family = "manipulator"
    multiple: int = 1
    """Height and width of the faces are multiples of this."""
    mixes_edits: ClassVar[bool] = True
    """Whether the faces of a batch may have different edits: the conditions alone tell them apart, not the names."""

    @abstractmethod
    def edits(self, attributes: Attributes) -> tuple[Edit, ...]:
        """The paper's five edits of this model for faces with these labels, one row per face."""

    @abstractmethod
    def forward(self, x: Images, edit: Edit) -> Manipulation:
        """Eq. (1): the forged face, and E_k's features of x. Faces on the [-1, 1] scale."""

    def inverse_edit(self, edit: Edit, x: Images, attributes: Attributes) -> Edit | None:
        """The edit that leads from the forged face back to x, a face with these labels; None where there is none."""
        return None

    def use_batch_statistics(self, enabled: bool = True) -> Self:
        """For training only: normalise by the batch's own statistics, where the model has statistics of batches."""
        return self

"""A step's faces in parts, so that a large batch needs the memory of a small one."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from jaxtyping import Float
from torch import Tensor

from art_idguard.losses import LossConfig, Objective
from art_idguard.manipulators.base import Manipulator
from art_idguard.objective import Reference, objective, reference
from art_idguard.recognizers.base import Recognizer
from art_idguard.regions import MaskedFaces
from art_idguard.types import Edit, Images


class Part(NamedTuple):
    """Some of a step's faces as one manipulator sees them: of their protected versions, L_k^adv and K_k."""

    rows: slice
    share: float
    objective: Callable[[Sequence[Images]], Objective]


def parts_of(
    manipulator: Manipulator,
    edit: Edit,
    recognizers: Sequence[Recognizer],
    view: MaskedFaces,
    loss: LossConfig,
    clean: Reference | None,
    accelerator: Accelerator,
    size: int | None,
) -> list[Part]:
    """The faces in parts of a size; every loss is a mean over faces, so nothing else changes."""
    count = len(view.images)
    parts = []
    for start in range(0, count, size or count):
        rows = slice(start, min(start + (size or count), count))
        seen, asked = _of(view, rows), Edit(edit.name, edit.condition[rows])
        with accelerator.autocast():
            known = _of(clean, rows) if clean else reference(manipulator, asked, recognizers, seen, loss)
        task = partial(objective, manipulator, asked, recognizers, seen, loss=loss, clean=known)
        parts.append(Part(rows, (rows.stop - rows.start) / count, task))
    return parts


def _of(value: Any, rows: slice) -> Any:
    """These rows of every tensor in tuples of tuples."""
    if isinstance(value, tuple):
        inner = [_of(part, rows) for part in value]
        return type(value)(*inner) if hasattr(value, "_fields") else tuple(inner)
    return value if value is None else value[rows]


def differentiate(
    parts: Sequence[Part], arriving: Sequence[Images], accelerator: Accelerator, term: int | None = None
) -> tuple[Float[Tensor, "2"], list[Images]]:
    """L_k^adv and K_k, and the gradient of the first, or of one of its terms, by the faces that arrive.

    The graph of one part lives at a time. Distortions are not under autocast: bf16 is as coarse as the perturbation.
    """
    values, gradients = [], []
    for rows, share, task in parts:
        leaves = [images[rows].detach().requires_grad_() for images in arriving]
        with accelerator.autocast():
            found = task(leaves)
        differentiated = found.total if term is None else found.terms[term]
        values.append(share * torch.stack([found.total.detach(), found.kpi]))
        gradients.append(torch.autograd.grad(share * differentiated, leaves, materialize_grads=True))
    return torch.stack(values).sum(0), [torch.cat(column) for column in zip(*gradients, strict=True)]

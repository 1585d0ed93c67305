"""Types that pass between the parts of the package.

Notation (name here -> the paper's symbol):
    Images -> x, y            Edit.condition -> a            Manipulation.output -> M_k(x)
    Manipulation.features -> E_k(x)                          Protected.specific -> x + G(cat(x, delta_p))
    Protected.prior -> x + delta_p                           Region.component -> m^bin, Region.heat -> m^hm
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

ATTRIBUTES = ("Black_Hair", "Blond_Hair", "Brown_Hair", "Male", "Young")
"""The attributes that the paper edits, in the order of every label vector."""

Images = Float[Tensor, "B 3 H W"]
"""RGB faces on the [-1, 1] scale (inside the package; [0, 1] at the file and ART boundary)."""

Maps = Float[Tensor, "B 1 H W"]
"""One value in [0, 1] per pixel: a soft mask or a heat map."""

Attributes = Float[Tensor, "B 5"]
"""0/1 labels in the order of `ATTRIBUTES`; zeros where nothing is known."""

Landmarks = Float[Tensor, "B 5 2"]
"""Right eye, left eye, nose tip, right and left mouth corner (as seen: left to right), as (x, y) pixels."""

Frames = Float[Tensor, "B 2 3"]
"""Affine maps from the ArcFace template to the picture, both in normalised [-1, 1] coordinates."""


class Edit(NamedTuple):
    """What a manipulator is asked to do; `condition` is in the manipulator's own form, one row per image."""

    name: str
    condition: Float[Tensor, "B C"]


class Manipulation(NamedTuple):
    """A forged face and the features on the way to it, from one forward pass."""

    output: Images
    features: Float[Tensor, "B F h w"]


class Protected(NamedTuple):
    """The two protected versions of one batch (Eq. 14): by the generator, and by the prior alone (P-Pert)."""

    specific: Images
    prior: Images


class Region(NamedTuple):
    """Where identity shows in a batch of faces."""

    component: Maps
    """Eyes, brows, nose and mouth: m^bin of Eq. (5)."""
    heat: Maps
    """What a recogniser looks at: m^hm of Eq. (6)."""
    face: Maps
    """Brows to chin: the mask of Eq. (16)."""


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on a device, without waiting for what that is at: a plain `to` waits until all of it is done."""
    return tensor.to(device, non_blocking=device.type != "mps")  # which might read it after it is gone


@contextmanager
def float32() -> Iterator[None]:
    """Layers and tensors are made in float32, as weights and faces are, whatever torch's default is."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)

"""Inpainting of disrupted forgeries (section IV-D2, Table V): what somebody does who wants to use them nevertheless."""

from art_idguard.errors import IDGuardError
from art_idguard.plugins import Registry
from art_idguard.restorers.base import Restored, Restorer
from art_idguard.restorers.inpainter import FaceInpainter, learned
from art_idguard.restorers.opencv import navier_stokes, telea

RESTORERS: Registry[Restorer] = Registry(
    "restorers", {"telea": telea, "navier-stokes": navier_stokes, "learned": learned}
)
"""By the names of `art-idguard evaluate --restorers`."""

__all__ = ["RESTORERS", "FaceInpainter", "Restored", "Restorer", "find"]


def find(name: str) -> Restorer:
    """The restorer of this name.

    Raises:
        IDGuardError: there is none.
    """
    if name not in RESTORERS:
        raise IDGuardError(f"unknown restorer {name!r}; choose from: {', '.join(RESTORERS.names())}")
    return RESTORERS[name]

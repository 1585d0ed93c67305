"""Who is it: face recognisers, by name."""

from pathlib import Path
from typing import Any

from art_idguard.hub.loading import load_member
from art_idguard.hub.shipped import shipped
from art_idguard.plugins import Registry
from art_idguard.recognizers.arcface import ArcFace
from art_idguard.recognizers.base import Recognizer, cosine
from art_idguard.recognizers.mobilefacenet import MobileFaceNet
from art_idguard.recognizers.mobilefacenet_192d import MobileFaceNet192
from art_idguard.recognizers.sface import SFace
from art_idguard.recognizers.vggface import VGGFace

RECOGNIZERS: Registry[type[Recognizer]] = Registry(
    "recognizers",
    {recognizer.name: recognizer for recognizer in (SFace, MobileFaceNet, MobileFaceNet192, ArcFace, VGGFace)},
)


def load(spec: str | Path, **config: Any) -> Recognizer:
    """A frozen recogniser: a folder, a Hub id, or name=file; see `hub.loading.load_member`.

    Examples:
        >>> load("sface").name
        'sface'
        >>> load("mobilefacenet=mobilefacenet.safetensors")  # doctest: +SKIP
    """
    return load_member(RECOGNIZERS, spec, **config)


def default() -> Recognizer:
    """The SFace that ships with the package."""
    return load(shipped("recognizers/sface"))


__all__ = [
    "RECOGNIZERS",
    "ArcFace",
    "MobileFaceNet",
    "MobileFaceNet192",
    "Recognizer",
    "SFace",
    "VGGFace",
    "cosine",
    "default",
    "load",
]

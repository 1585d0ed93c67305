"""Every kind of model with weights, and how to load one without knowing its kind."""

from pathlib import Path

from art_idguard.attribute_classifier import AttributeClassifier
from art_idguard.errors import IDGuardError
from art_idguard.forensics.watermarker import Watermarker
from art_idguard.hub.model import HubModel
from art_idguard.hub.repository import read_config
from art_idguard.manipulators import MANIPULATORS
from art_idguard.perturbation import Protector
from art_idguard.recognizers import RECOGNIZERS
from art_idguard.restorers import FaceInpainter

_EVERY: tuple[type[HubModel], ...] = (
    Protector,
    Watermarker,
    *MANIPULATORS.values(),
    *RECOGNIZERS.values(),
    AttributeClassifier,
    FaceInpainter,
)
MODELS = {model.name: model for model in _EVERY}


def load(model: str | Path, *, revision: str | None = None) -> HubModel:
    """Any model of the package by its config.json: a protector, a watermarker, a manipulator, a recogniser.

    Examples:
        >>> [type(load(name)).__name__ for name in ("stargan", "sface")]
        ['StarGAN', 'SFace']

    Raises:
        IDGuardError: there is none of this kind, or what its from_pretrained raises.
    """
    kind = read_config(model, revision=revision)["model_type"]
    if kind not in MODELS:
        raise IDGuardError(f"{model} is of unknown kind {kind!r}; known: {', '.join(MODELS)}")
    return MODELS[kind].from_pretrained(model, revision=revision)

"""ART estimators of manipulators."""

from art_idguard._lazy import lazy

__getattr__, __dir__ = lazy(
    __name__,
    {"Disruption": "art_idguard.estimators.disruption", "PyTorchManipulator": "art_idguard.estimators.manipulator"},
)

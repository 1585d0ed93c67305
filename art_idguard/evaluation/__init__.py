"""Evaluation of protections and of manipulators."""

from art_idguard._lazy import lazy

__getattr__, __dir__ = lazy(__name__, {"evaluate": "art_idguard.evaluation.protection"})

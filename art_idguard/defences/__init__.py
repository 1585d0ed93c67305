"""ART defences: images protected before a model sees them, manipulators that withstand attacks."""

from art_idguard.defences.preprocessor import IDGuardPreprocessor

__all__ = ["IDGuardPreprocessor"]

"""ART defences: images protected before a model sees them, manipulators that withstand attacks."""

from art_idguard.defences.preprocessor import IDGuardPreprocessor
from art_idguard.defences.trainer import ManipulatorAdversarialTrainer

__all__ = ["IDGuardPreprocessor", "ManipulatorAdversarialTrainer"]

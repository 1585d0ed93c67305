"""ID-Guard: protect face photos against GAN face manipulation.

>>> import art_idguard
>>> "Protector" in dir(art_idguard)
True
"""

from art_idguard._lazy import lazy

__version__ = "0.1.0"

_EXPORTS = {
    "IDGuardAttack": "art_idguard.attacks",
    "IDGuardUniversalAttack": "art_idguard.attacks",
    "ClassifierAttack": "art_idguard.attacks",
    "TorchAttack": "art_idguard.attacks",
    "PyTorchManipulator": "art_idguard.estimators.manipulator",
    "IDGuardPreprocessor": "art_idguard.defences",
    "ManipulatorAdversarialTrainer": "art_idguard.defences",
    "Protector": "art_idguard.perturbation",
    "RefinedProtector": "art_idguard.perturbation.refined",
    "MANIPULATORS": "art_idguard.manipulators",
    "RECOGNIZERS": "art_idguard.recognizers",
    "WEIGHTINGS": "art_idguard.weighting",
    "IDGuardError": "art_idguard.errors",
    "WeightsError": "art_idguard.errors",
}

__all__ = sorted(_EXPORTS)


__getattr__, __dir__ = lazy(__name__, _EXPORTS)

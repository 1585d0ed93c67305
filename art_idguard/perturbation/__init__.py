"""The Protector and what it is made of: generators, prior perturbation, PGD."""

from art_idguard.perturbation.generators.base import Generator
from art_idguard.perturbation.generators.resnet import ResnetGenerator
from art_idguard.perturbation.generators.transformer import TransformerGenerator
from art_idguard.perturbation.generators.unet import UNetGenerator
from art_idguard.perturbation.pgd import pgd
from art_idguard.perturbation.prior import (
    FaceReconstructor,
    gradient_prior,
    initial_prior,
    train_surrogate,
)
from art_idguard.perturbation.protector import GENERATORS, Protector
from art_idguard.perturbation.visibility import UNNOTICED, Visibility

__all__ = [
    "GENERATORS",
    "UNNOTICED",
    "FaceReconstructor",
    "Generator",
    "Protector",
    "ResnetGenerator",
    "TransformerGenerator",
    "UNetGenerator",
    "Visibility",
    "gradient_prior",
    "initial_prior",
    "pgd",
    "train_surrogate",
]

"""ART attacks: ID-Guard, and what the paper compares it with."""

from art_idguard.attacks.anti_forgery import AntiForgeryAttack
from art_idguard.attacks.base import CommonParams, ProtectionAttack
from art_idguard.attacks.bounded import BoundedParams
from art_idguard.attacks.classifier import ClassifierAttack
from art_idguard.attacks.cmua import CMUAAttack
from art_idguard.attacks.disrupting import DisruptingAttack
from art_idguard.attacks.iap import IAPAttack
from art_idguard.attacks.idguard import IDGuardAttack
from art_idguard.attacks.initiative import InitiativeAttack
from art_idguard.attacks.torchattacks import TorchAttack
from art_idguard.attacks.universal import IDGuardUniversalAttack

ATTACKS: dict[str, type[ProtectionAttack]] = {
    attack.__name__: attack
    for attack in (
        IDGuardAttack,
        IDGuardUniversalAttack,
        DisruptingAttack,
        CMUAAttack,
        InitiativeAttack,
        IAPAttack,
        AntiForgeryAttack,
    )
}

__all__ = [
    "ATTACKS",
    "AntiForgeryAttack",
    "BoundedParams",
    "CMUAAttack",
    "ClassifierAttack",
    "CommonParams",
    "DisruptingAttack",
    "IAPAttack",
    "IDGuardAttack",
    "IDGuardUniversalAttack",
    "InitiativeAttack",
    "ProtectionAttack",
    "TorchAttack",
]

"""ART attacks: ID-Guard, and what the paper compares it with."""

from art_idguard.attacks.base import ProtectionAttack
from art_idguard.attacks.idguard import IDGuardAttack
from art_idguard.attacks.universal import IDGuardUniversalAttack

ATTACKS: dict[str, type[ProtectionAttack]] = {
    attack.__name__: attack for attack in (IDGuardAttack, IDGuardUniversalAttack)
}

__all__ = ["ATTACKS", "IDGuardAttack", "IDGuardUniversalAttack", "ProtectionAttack"]

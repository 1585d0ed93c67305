"""The disruption part of IAP as an ART attack."""

from art_idguard.attacks.trained import GeneratorAttack
from art_idguard.baselines.generator import GeneratorObjective
from art_idguard.baselines.iap import iap


class IAPAttack(GeneratorAttack):
    """IAP's disruption part (Zhu et al., TIFS 2023): features of all manipulators shall not correlate.

    See `baselines.iap` for what is inferred, and `attacks.trained.GeneratorAttack` for the parameters.
    """

    def objective(self) -> GeneratorObjective:
        """What the generator maximises."""
        return iap(self.manipulators)

"""The disruption part of IAP as an ART attack."""

from jaxtyping import Float
from torch import Tensor

from art_idguard.attacks.trained import GeneratorAttack
from art_idguard.trained_baselines import train_iap
from art_idguard.types import Images


class IAPAttack(GeneratorAttack):
    """IAP's disruption part (Zhu et al., TIFS 2023): features of all manipulators shall not correlate.

    See `trained_baselines.train_iap` for what is inferred.
    """

    def train(self, x: Images, attributes: Float[Tensor, "B 5"]) -> None:
        """Learn from faces on the [-1, 1] scale."""
        protector = self.new_protector(x.shape[-1])
        self.protector = train_iap(protector, self.manipulators, x, attributes, **self.settings())

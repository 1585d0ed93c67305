"""Initiative Defense (PG) as an ART attack."""

from jaxtyping import Float
from torch import Tensor

from art_idguard.attacks.trained import GeneratorAttack
from art_idguard.trained_baselines import train_initiative
from art_idguard.types import Images


class InitiativeAttack(GeneratorAttack):
    """PG (Huang et al., AAAI 2021): a generator trained in turn with a surrogate of one manipulator.

    See `trained_baselines.train_initiative` for what differs from the published code.
    """

    def train(self, x: Images, attributes: Float[Tensor, "B 5"]) -> None:
        """Learn from faces on the [-1, 1] scale."""
        protector = self.new_protector(x.shape[-1])
        self.protector = train_initiative(protector, self.manipulators[0], x, attributes, **self.settings())

    def _check_params(self) -> None:
        super()._check_params()
        if len(self.estimators) > 1:
            raise ValueError(f"`estimators`: PG has a surrogate of one manipulator, found {len(self.estimators)}")

"""Initiative Defense (PG) as an ART attack."""

from art_idguard.attacks.trained import GeneratorAttack
from art_idguard.baselines.generator import GeneratorObjective
from art_idguard.baselines.initiative import initiative


class InitiativeAttack(GeneratorAttack):
    """PG (Huang et al., AAAI 2021): a generator trained in turn with a surrogate of one manipulator.

    See `baselines.initiative` for what differs from the published code, and `attacks.trained.GeneratorAttack` for the
    parameters; `estimators` is one.

    Examples:
        >>> import numpy as np
        >>> from art_idguard import PyTorchManipulator
        >>> stargan = PyTorchManipulator.from_pretrained("stargan", input_shape=(3, 32, 32))
        >>> x = np.linspace(0, 1, 3 * 32 * 32, dtype=np.float32).reshape(1, 3, 32, 32)
        >>> attack = InitiativeAttack(stargan, eps=0.025, steps=1, channels=8, verbose=False).fit(x)
        >>> bool(abs(attack.generate(x) - x).max() <= 0.02501)
        True
    """

    def objective(self) -> GeneratorObjective:
        """What the generator maximises."""
        return initiative(self.manipulators[0], seed=self.seed)

    def _check_params(self) -> None:
        super()._check_params()
        if len(self.estimators) > 1:
            raise ValueError(f"`estimators`: PG has a surrogate of one manipulator, found {len(self.estimators)}")

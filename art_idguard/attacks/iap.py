"""The disruption part of IAP as an ART attack."""

from art_idguard.attacks.trained import GeneratorAttack
from art_idguard.baselines.generator import GeneratorObjective
from art_idguard.baselines.iap import iap


class IAPAttack(GeneratorAttack):
    """IAP's disruption part (Zhu et al., TIFS 2023): features of all manipulators shall not correlate.

    See `baselines.iap` for what is inferred, and `attacks.trained.GeneratorAttack` for the parameters.

    Examples:
        >>> import numpy as np
        >>> from art_idguard import PyTorchManipulator
        >>> stargan = PyTorchManipulator.from_pretrained("stargan", input_shape=(3, 32, 32))
        >>> x = np.linspace(0, 1, 3 * 32 * 32, dtype=np.float32).reshape(1, 3, 32, 32)
        >>> attack = IAPAttack(stargan, eps=0.025, steps=1, channels=8, verbose=False).fit(x)
        >>> bool(abs(attack.generate(x) - x).max() <= 0.02501)
        True
    """

    def objective(self) -> GeneratorObjective:
        """What the generator maximises."""
        return iap(self.manipulators)

"""The attacks of torchattacks, an optional package, run on a manipulator."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from art_idguard.attacks.classifier import ClassifierAttack
from art_idguard.errors import IDGuardError
from art_idguard.estimators.classifier import DisruptionClassifier, DisruptionLogits
from art_idguard.estimators.manipulator import PyTorchManipulator
from art_idguard.images import PixelRange
from art_idguard.metrics import L2_THRESHOLD


class TorchAttack(ClassifierAttack):
    """An attack of torchattacks against a manipulator, as an ART attack; see `ClassifierAttack`.

    torchattacks works on [0, 1]: whatever the estimator's `clip_values`, its epsilon and step sizes are on that scale.
    It knows no masks; the mask is enforced on what it returns.

    Examples:
        >>> stargan = PyTorchManipulator.from_pretrained("stargan", input_shape=(3, 64, 64))
        >>> attack = TorchAttack(stargan, "PGD", eps=0.025, steps=10)  # doctest: +SKIP
        >>> attack.generate(x)  # doctest: +SKIP

    Args:
        estimator: the manipulator.
        attack: the name of an attack, such as "PGD" or "CW", or its class.
        threshold: see `ClassifierAttack`.
        verbose: show a progress bar over the images.
        params: of the attack, such as eps=0.025.

    Raises:
        EstimatorError: `estimator` is no `PyTorchManipulator`.
        IDGuardError: torchattacks is not installed, or has no such attack.
        ValueError: a parameter has a wrong type or value.
    """

    def __init__(
        self,
        estimator: PyTorchManipulator,
        attack: str | type[Any],
        *,
        threshold: float = L2_THRESHOLD,
        verbose: bool = True,
        **params: Any,
    ) -> None:
        super().__init__(estimator, attack, threshold=threshold, verbose=verbose, **params)

    def run(self, classifier: DisruptionClassifier, clean: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        """The attack on one image (1, 3, H, W)."""
        pixels = self.estimator.pixel_range
        unit = torch.tensor((clean - pixels.low) / pixels.span, device=self.estimator.device)
        intact = torch.zeros(1, dtype=torch.long, device=unit.device)
        attacked = self.attack(_OnUnitScale(classifier.logits, pixels), **self.params)(unit, intact)
        return pixels.low + attacked.detach().cpu().numpy() * pixels.span

    def _check_params(self) -> None:
        if isinstance(self.attack, str):
            self.attack = _named(self.attack)
        super()._check_params()

    def _fits(self, attack: type) -> bool:
        return issubclass(attack, _torchattacks().attack.Attack)


class _OnUnitScale(nn.Module):
    def __init__(self, logits: DisruptionLogits, pixels: PixelRange) -> None:
        super().__init__()
        self.logits, self.pixels = logits, pixels

    def forward(self, x: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 2"]:
        return self.logits(self.pixels.low + x * self.pixels.span)


def _torchattacks() -> Any:
    try:
        import torchattacks  # an extra
    except ImportError as error:
        raise IDGuardError("this attack needs torchattacks: pip install 'art-idguard[torchattacks]'") from error
    return torchattacks


def _named(name: str) -> type[Any]:
    package = _torchattacks()
    if name not in package.__all__:
        raise IDGuardError(f"torchattacks has no attack {name!r}; it has: {', '.join(package.__all__)}")
    return getattr(package, name)

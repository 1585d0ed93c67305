"""Eq. (15): a manipulator is trained on faces that a protector attacks, and the protector along with it."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import reduce
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from art_idguard.errors import IDGuardError
from art_idguard.hub.shipped import shipped
from art_idguard.losses import to_float32
from art_idguard.manipulators.base import Manipulator
from art_idguard.perturbation import Protector, pgd
from art_idguard.training.checkpoint import restore_moments
from art_idguard.training.loop import guest
from art_idguard.training.manipulator.config import HardeningConfig
from art_idguard.training.manipulator.setup import InnerAttack
from art_idguard.training.manipulator.train import train_manipulator
from art_idguard.types import Edit, Images


def harden(
    config: HardeningConfig,
    *,
    resume: bool = False,
    verbose: bool = True,
    on_stop: Callable[[str], object] = warnings.warn,
) -> Path:
    """Train a manipulator adversarially; returns the folder of the hardened one. See `train_manipulator`.

    Args:
        config: the settings; `start` names the manipulator to harden, by default the one of its name that ships.
        resume: go on from the checkpoint in `config.output`, with the protector as it was.
        verbose: show a progress bar.
        on_stop: told when the training has been stopped, and at which step.

    Raises:
        IDGuardError: unusable settings, data or weights, a loss that is not finite, or minutes that end before the
            generator's first turn.
    """
    if config.start is None:
        config = replace(config, start=_shipped(config.manipulator))
    with guest():  # a new network draws its weights before it is given those of the file
        attack = attacker(config)
    return train_manipulator(config, resume=resume, verbose=verbose, attack=attack, on_stop=on_stop)


def _shipped(name: str) -> str:
    folder = shipped(f"manipulators/{name}-celeba128")
    if not folder.is_dir():
        raise IDGuardError(f"no trained {name} ships; name the one to harden with start, a folder or Hub id")
    return str(folder)


def attacker(config: HardeningConfig, protector: Protector | None = None) -> InnerAttack:
    """The inner maximisation that the settings name."""
    if config.attack == "pgd":
        return PGDAttacker(epsilon=config.epsilon, steps=config.pgd_steps)
    return ProtectorAttacker(protector or Protector.from_pretrained(config.protector), lr=config.protector_lr)


def _distance(manipulator: Manipulator, edit: Edit, attacked: Images, clean: Images) -> Float[Tensor, ""]:
    return F.mse_loss(to_float32(manipulator(attacked, edit).output), clean)


class PGDAttacker:
    """PGD-AT: at each step PGD away from the clean output of the generator as it is (Madry et al., ICLR 2018).

    Deviates: Ruiz et al. (2020) maximise the distance from an all-zero picture, on a copy with tracked statistics, and
    in their "G+D" the discriminator takes attacked faces for real; here it sees clean ones, their "G only".

    Args:
        epsilon: bound on the [-1, 1] scale.
        steps: of length 2 epsilon / steps, so that few of them cross the ball as well.
    """

    def __init__(self, *, epsilon: float = 0.05, steps: int = 10) -> None:
        self.epsilon, self.steps = epsilon, steps

    def __call__(self, x: Images, edit: Edit, generator: Manipulator) -> Images:
        """Attacked faces on the [-1, 1] scale."""
        with torch.no_grad():
            clean = to_float32(generator(x, edit).output)
        return pgd(
            lambda attacked: _distance(generator, edit, attacked, clean),
            x,
            epsilon=self.epsilon,
            steps=self.steps,
            step_size=2 * self.epsilon / self.steps,
            warn=False,
        )


class ProtectorAttacker(nn.Module):
    """Inner maximisation of Eq. (15): one step of Adam on the protector, which then attacks.

    Deviates: the paper does not name the loss of the inner maximisation. Here it is the squared distance of the whole
    forged face: Eq. (9)'s masks need face points, which a manipulator's training data has not. Nor does it name a share
    of clean faces or the protector's steps for one of the manipulator: here every face that the generator sees is
    attacked, and the protector learns at every step, those of the discriminator included. delta_p stays as it is.

    Args:
        protector: it is changed.
        lr: of Adam.
    """

    def __init__(self, protector: Protector, *, lr: float = 1e-4) -> None:
        super().__init__()
        self.protector = protector.requires_grad_().train()
        self.protector.prior.requires_grad_(False)
        self.learned = [p for p in protector.parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adam(self.learned, lr=lr, betas=(0.5, 0.999))

    def forward(self, x: Images, edit: Edit, generator: Manipulator) -> Images:
        """Attacked faces on the [-1, 1] scale, by the protector as it was before its step."""
        with torch.no_grad():
            clean = to_float32(generator(x, edit).output)
        with torch.enable_grad():
            attacked = self.protector(x).specific
            distance = _distance(generator, edit, attacked, clean)
            gradients = reduce(torch.autograd.grad(-distance, self.learned), "mean")  # over all processes
        for parameter, gradient in zip(self.learned, gradients, strict=True):
            parameter.grad = gradient
        self.optimizer.step()
        return attacked.detach()

    def get_extra_state(self) -> dict[str, Any]:
        """Adam's moments, so that a resumed run repeats an unbroken one."""
        return self.optimizer.state_dict()

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Go on with them."""
        restore_moments(self.optimizer, state)

"""The manipulator adapted to protected faces: LoRA patching, and fine-tuning of all its weights.

What comes of it is kept as a manipulator's folder, so that a protector can be trained against it.
"""

import math
from collections.abc import Callable, Iterable
from copy import deepcopy

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from art_idguard.adversary.learning import learn
from art_idguard.adversary.setting import AdversarySetting, Attempts
from art_idguard.data.faces import FaceBatch
from art_idguard.manipulators.base import Manipulator
from art_idguard.training.manipulator.hardening import PGDAttacker
from art_idguard.types import Edit, Images

RANK, ALPHA = 8, 2.0
LORA_LR, FINE_TUNING_LR = 1e-3, 1e-4
PGD_STEPS = 3

Attacker = Callable[[Images, Edit, Manipulator], Images]


class LoRA(nn.Module):
    """A convolution's weight W + gate * alpha / rank * B A (Hu et al., ICLR 2022), which begins as W.

    Args:
        weight: of the convolution.
        rank: of the change.
    """

    def __init__(self, weight: Tensor, rank: int = RANK) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.empty(rank, weight[0].numel()).to(weight))
        self.b = nn.Parameter(weight.new_zeros(len(weight), rank))
        self.gate = nn.Parameter(weight.new_ones(()))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        """The changed weight."""
        return weight + self.gate * ALPHA / len(self.a) * (self.b @ self.a).view_as(weight)


def lora_patched(manipulator: Manipulator, *, seed: int) -> Manipulator:
    """A copy of which nothing but the LoRA of each convolution learns."""
    patched = deepcopy(manipulator).requires_grad_(False)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for module in list(patched.modules()):
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                parametrize.register_parametrization(module, "weight", LoRA(module.weight))
    return patched


def lora(setting: AdversarySetting) -> Attempts:
    """LoRA patching (IEEE SPL 2026): rank 8, a learnable gate in each convolution, all else frozen, Adam at 1e-3.

    Each step attacks the patched manipulator by PGD and draws its answers to clean and attacked faces to the
    original's to the clean ones. It needs no protector.

    Deviates: dozens of steps of four faces, not an epoch of 1,000; PGD takes `PGD_STEPS` steps; the gate is a factor
    that begins at 1.
    """
    patched = lora_patched(setting.manipulator, seed=setting.seed)
    return _adapted(setting, "lora", patched, PGDAttacker(epsilon=setting.protector.epsilon, steps=PGD_STEPS), LORA_LR)


def fine_tuning(setting: AdversarySetting) -> Attempts:
    """All weights learn to answer the released protector's faces, and clean ones, as the original answers clean."""

    @torch.no_grad()
    def protect(x: Images, edit: Edit, manipulator: Manipulator) -> Images:
        return setting.protector(x).specific

    copy = deepcopy(setting.manipulator).requires_grad_()
    return _adapted(setting, "fine-tuning", copy, protect, FINE_TUNING_LR, given=[setting.protector])


def _adapted(
    setting: AdversarySetting,
    name: str,
    learner: Manipulator,
    attack: Attacker,
    lr: float,
    given: Iterable[nn.Module] = (),
) -> Attempts:
    original = setting.manipulator
    if not list(original.parameters()):  # such as the photo itself
        return {}

    def loss(batch: FaceBatch, step: int) -> Float[Tensor, ""]:
        edits = original.edits(batch.attributes)
        edit, x = edits[step % len(edits)], batch.images
        with torch.no_grad():
            target = original(x, edit).output
        answers = (learner(faces, edit).output for faces in (x, attack(x, edit, learner)))
        return torch.stack([F.mse_loss(answer, target) for answer in answers]).sum()

    learnt = learn(original, loss, setting, name, steps=setting.steps, lr=lr, learner=learner, given=given)
    learnt[setting.steps].save_pretrained(setting.folder / f"{setting.name}-{name}")  # any command takes it as a target
    return {f"{name}, {steps} steps": adapted for steps, adapted in learnt.items()}

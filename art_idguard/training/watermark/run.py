"""Run of a watermarker's training: networks, faces, optimisers, made from its settings or at its checkpoint."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from art_idguard.data.pixels import placed
from art_idguard.data.reading import read_labelled
from art_idguard.distortions import require_known
from art_idguard.errors import IDGuardError
from art_idguard.files.tensors import digest
from art_idguard.forensics.networks import Discriminator
from art_idguard.forensics.watermarker import Watermarker
from art_idguard.hub.shipped import short_name
from art_idguard.manipulators import load as load_manipulator
from art_idguard.manipulators import shipped_manipulators
from art_idguard.manipulators.base import Manipulator
from art_idguard.training.base import TrainingRun, open_run
from art_idguard.training.checkpoint import restore_moments
from art_idguard.training.watermark.config import WatermarkConfig
from art_idguard.types import ATTRIBUTES
from art_idguard.weighting import TaskWeighting, make_weighting

SIZE = 128
"""Of a new watermarker's faces, where the settings have none."""


@dataclass(kw_only=True)
class WatermarkRun(TrainingRun):
    """What the training of a watermarker consists of."""

    config: WatermarkConfig
    images: UInt8[Tensor, "N 3 S S"]
    attributes: Float[Tensor, "N 5"]
    manipulators: list[Manipulator]
    watermarker: Watermarker
    discriminator: Discriminator
    optimizer: torch.optim.Adam
    discriminator_optimizer: torch.optim.Adam
    weighting: TaskWeighting
    epsilon: float
    """The watermarker's bound in the end; its own is what it is in this step."""
    begun: float | None = None
    """Share of the budget from which on manipulators take part; None until then."""

    @property
    def networks(self) -> dict[str, nn.Module]:
        """What is trained."""
        return {"watermarker": self.watermarker, "discriminator": self.discriminator}

    def _kept(self) -> dict[str, Any]:
        return {**self.networks, "weighting": self.weighting}

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {
            **super().state(),
            **{name: module.state_dict() for name, module in self._kept().items()},
            "optimizer": self.optimizer.state_dict(),
            "discriminator_optimizer": self.discriminator_optimizer.state_dict(),
            "begun": self.begun,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        super().load_state(state)
        for name, module in self._kept().items():
            module.load_state_dict(state[name])
        self.begun = state["begun"]
        restore_moments(self.optimizer, state["optimizer"])
        restore_moments(self.discriminator_optimizer, state["discriminator_optimizer"])


def build_run(config: WatermarkConfig, *, resume: bool = False) -> WatermarkRun:
    """Pictures, frozen manipulators, networks and optimisers of a run, at its checkpoint if it resumes."""
    require_known(config.augment)
    names = list(config.manipulators) or shipped_manipulators()
    weighting = make_weighting(config.weighting, alpha=config.alpha or (1.0,) * len(names), solver=config.mgda_solver)
    accelerator, checkpoint = open_run(config, resume=resume)
    device = accelerator.device
    targets = [load_manipulator(name).to(device) for name in names]
    torch.manual_seed(config.seed)
    watermarker = _watermarker(config).train().to(device)
    images, attributes = _labelled(config, watermarker.size)
    discriminator = Discriminator(channels=config.channels).train().to(device)
    run = WatermarkRun(
        config=replace(config, manipulators=tuple(map(short_name, names))),
        accelerator=accelerator,
        inputs={
            "faces": digest([images]),
            "labels": digest([attributes]),
            "manipulators": digest(tensor for target in targets for tensor in target.state_dict().values()),
            **({"start": digest(watermarker.state_dict().values())} if config.start else {}),
        },
        images=placed(images, device),
        attributes=attributes.to(device),
        manipulators=targets,
        watermarker=watermarker,
        discriminator=discriminator,
        optimizer=torch.optim.Adam(watermarker.parameters(), lr=config.lr),
        discriminator_optimizer=torch.optim.Adam(discriminator.parameters(), lr=config.lr),
        weighting=weighting.to(device),
        epsilon=watermarker.epsilon,
        begun=0.0 if config.start or not config.alone else None,
    )
    if checkpoint:
        run.load_state(checkpoint)
    return run


def _labelled(config: WatermarkConfig, size: int) -> tuple[UInt8[Tensor, "N 3 S S"], Float[Tensor, "N 5"]]:
    found = read_labelled(
        config.faces,
        attributes=ATTRIBUTES,
        size=config.size or size,
        split=config.split,
        limit=config.limit,
        decoded_in=config.decoded_in,
    )
    if len(found[0]) < config.batch_size:
        raise IDGuardError(f"{len(found[0])} faces do not fill a batch of {config.batch_size}")
    return found


def _watermarker(config: WatermarkConfig) -> Watermarker:
    if config.start:
        return Watermarker.from_pretrained(config.start).requires_grad_()
    return Watermarker(bits=config.bits, epsilon=config.epsilon, size=config.size or SIZE, channels=config.channels)

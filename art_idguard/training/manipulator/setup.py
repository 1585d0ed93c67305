"""Run of a manipulator's training, made from its settings or at its checkpoint."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64, UInt8
from safetensors.torch import load_file
from torch import Tensor, nn

from art_idguard import manipulators
from art_idguard.data.pixels import placed, taken
from art_idguard.data.reading import read_labelled
from art_idguard.errors import IDGuardError
from art_idguard.files.tensors import digest
from art_idguard.images import from_uint8
from art_idguard.manipulators.base import Manipulator
from art_idguard.training.base import TrainingRun, open_run
from art_idguard.training.checkpoint import restore_moments
from art_idguard.training.manipulator.config import ManipulatorConfig
from art_idguard.training.manipulator.objectives import OBJECTIVES, GANObjective, Terms
from art_idguard.types import Edit, Images

InnerAttack = Callable[[Images, Edit, Manipulator], Images]
"""Inner maximisation of adversarial training: faces, the edit and the generator as it is now -> attacked faces.

It may learn at each call. Its random numbers come from torch's own generators, which the step has seeded. One that
has state_dict and load_state_dict is kept in the run's checkpoint; a module is moved to the run's device.
"""


class PreloadedGAN(NamedTuple):
    """What a caller has in memory already, in place of what the settings name."""

    images: UInt8[Tensor, "N 3 S S"]
    labels: Float[Tensor, "N A"]
    """In the order of the objective's attributes."""
    generator: Manipulator
    """To go on from; it is changed."""


@runtime_checkable
class Stateful(Protocol):
    """What a checkpoint can keep."""

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any:
        """Go on from there."""


@dataclass(kw_only=True)
class ManipulatorRun(TrainingRun):
    """The networks, their optimisers and the data; its steps are the discriminator's."""

    config: ManipulatorConfig
    objective: GANObjective[Any, Any]
    images: UInt8[Tensor, "N 3 S S"]
    labels: Float[Tensor, "N A"]
    generator: Manipulator
    discriminator: nn.Module | None
    """None where the generator learns from a teacher."""
    average: Manipulator
    """The exponential moving average of the generator."""
    optimizers: dict[str, torch.optim.Adam]
    attack: InnerAttack | None = None
    teacher: Manipulator | None = None
    """The generator as it was, or another; see `distill_step`."""
    first_bad: dict[str, Int64[Tensor, ""]] = field(default_factory=dict)
    """The first step at which a network's loss or gradient was not finite, or 0; on the device."""
    latest: Terms = field(default_factory=Terms)
    """Each term of the losses as it was last, for the log."""

    @property
    def networks(self) -> dict[str, nn.Module]:
        """The players, in the order of a step."""
        discriminator = {} if self.discriminator is None else {"discriminator": self.discriminator}
        return discriminator | {"generator": self.generator}

    def faces(self, index: Int64[Tensor, " B"]) -> Images:
        """Faces cropped and mirrored at random, in one gather from their bytes."""
        device, size, count = index.device, self.config.size, len(index)
        rows, columns = torch.randint(self.config.margin + 1, (2, count, 1), device=device)
        span = torch.arange(size, device=device)
        mirrored = torch.rand(count, 1, device=device) < 0.5
        rows, columns = rows + span, columns + torch.where(mirrored, size - 1 - span, span)
        channels = torch.arange(3, device=device)[:, None, None]
        faces, each = taken(self.images, index), torch.arange(count, device=device)[:, None, None, None]
        pictures = faces[each, channels, rows[:, None, :, None], columns[:, None, None, :]]
        return from_uint8(pictures).contiguous(memory_format=memory_format(device))

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {
            **super().state(),
            "average": self.average.state_dict(),
            **{name: network.state_dict() for name, network in self.networks.items()},
            **{f"{name}_optimizer": optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "attack": self.attack.state_dict() if isinstance(self.attack, Stateful) else None,
            "latest": self.latest,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        super().load_state(state)
        for name, network in (*self.networks.items(), ("average", self.average)):
            network.load_state_dict(state[name])
        for name, optimizer in self.optimizers.items():
            restore_moments(optimizer, state[f"{name}_optimizer"])
        if isinstance(self.attack, Stateful):
            self.attack.load_state_dict(state["attack"])
        self.latest = {name: term.to(self.accelerator.device) for name, term in state.get("latest", {}).items()}


def memory_format(device: torch.device) -> torch.memory_format:
    """Channels last where the convolutions want it."""
    return torch.channels_last if device.type == "cuda" else torch.contiguous_format


def build_run(
    config: ManipulatorConfig,
    *,
    resume: bool = False,
    attack: InnerAttack | None = None,
    parts: PreloadedGAN | None = None,
) -> ManipulatorRun:
    """Data, networks and optimisers of a run, at its checkpoint if it resumes."""
    if config.distill and not (config.start or config.teacher or parts):
        raise IDGuardError("distillation needs a generator that teaches; name it with start or teacher")
    kind = OBJECTIVES[config.manipulator]
    config = _in_a_precision_of(kind, config)
    accelerator, checkpoint = open_run(config, resume=resume)
    device = accelerator.device
    images, labels = parts[:2] if parts else _labelled(config, kind)
    _check_batch(config, kind, processes=accelerator.num_processes, faces=len(images))
    objective = kind(config, labels)
    generator, discriminator = (_placed(network, device) for network in _networks(config, kind, parts))
    average = deepcopy(generator).requires_grad_(False).use_batch_statistics(False)
    # Adversarial training keeps the statistics of a trained generator: those of attacked faces are not what it meets.
    if config.distill or (attack is not None and (parts is not None or config.start is not None)):
        generator.use_batch_statistics(False)
    teacher = _teacher(config, average).to(device) if config.distill else None
    adam = {"betas": config.betas, "fused": device.type == "cuda"}
    run = ManipulatorRun(
        config=config,
        accelerator=accelerator,
        inputs=_digests(config, (images, labels), teacher, average, discriminator, attack),
        objective=objective,
        images=placed(images, device),
        labels=labels.to(device),
        generator=generator,
        discriminator=None if config.distill else discriminator,
        average=average,
        optimizers={"generator": torch.optim.Adam(objective.parameter_groups(generator), **adam)},
        attack=attack.to(device) if isinstance(attack, nn.Module) else attack,
        teacher=teacher,
    )
    if run.discriminator is not None:
        run.optimizers["discriminator"] = torch.optim.Adam(run.discriminator.parameters(), lr=config.lr, **adam)
    run.first_bad = {name: torch.zeros((), dtype=torch.int64, device=device) for name in run.networks}
    if checkpoint:
        run.load_state(checkpoint)
    if config.compile and device.type == "cuda":
        generator.compile()  # the discriminator is differentiated twice and cannot be
    return run


def _in_a_precision_of(kind: type[GANObjective[Any, Any]], config: ManipulatorConfig) -> ManipulatorConfig:
    """The settings, in which "auto" is no precision that this kind diverges in."""
    if config.precision == "auto" and "bf16" not in kind.precisions:
        return replace(config, precision="no")
    if config.precision not in (*kind.precisions, "auto"):
        raise IDGuardError(f"{kind.name} diverges in {config.precision}; train it with precision 'no' (TF32 on a GPU)")
    return config


def _digests(
    config: ManipulatorConfig,
    faces: tuple[Tensor, Tensor],
    teacher: nn.Module | None,
    generator: nn.Module,
    discriminator: nn.Module,
    attack: InnerAttack | None,
) -> dict[str, str]:
    """What a resumed run has to find again; players that begin at random are made anew from the seed."""
    networks = {
        "teacher": teacher,
        "start": generator if config.start else None,
        "start_discriminator": discriminator if config.start_discriminator else None,
        "protector": attack if isinstance(attack, nn.Module) else None,
    }
    return {"faces": digest(faces)} | {
        name: digest((*network.parameters(), *network.buffers())) for name, network in networks.items() if network
    }


def _placed(network: Any, device: torch.device) -> Any:
    return network.to(device).to(memory_format=memory_format(device))


def _check_batch(config: ManipulatorConfig, kind: type[GANObjective[Any, Any]], *, processes: int, faces: int) -> None:
    if (share := config.batch_size // processes) < kind.least_share:
        raise IDGuardError(
            f"{kind.name} compares faces of a batch; expected at least {kind.least_share} a process, found {share}"
        )
    if faces < config.batch_size:
        raise IDGuardError(f"{faces} faces do not fill a batch of {config.batch_size}")


def _labelled(
    config: ManipulatorConfig, kind: type[GANObjective[Any, Any]]
) -> tuple[UInt8[Tensor, "N 3 S S"], Float[Tensor, "N A"]]:
    size = config.size + config.margin
    return read_labelled(
        config.faces,
        attributes=kind.attributes,
        size=size,
        split=config.split,
        limit=config.limit,
        decoded_in=config.decoded_in,
    )


def _teacher(config: ManipulatorConfig, start: Manipulator) -> Manipulator:
    """Who answers the clean faces: the model that the settings name, or the generator as it starts."""
    if not config.teacher:
        return deepcopy(start)
    teacher = manipulators.load(config.teacher)
    if teacher.name != config.manipulator:
        raise IDGuardError(f"{config.teacher} is a {teacher.name}, not a {config.manipulator}; name another teacher")
    return teacher


def _networks(
    config: ManipulatorConfig, kind: type[GANObjective[Any, Any]], parts: PreloadedGAN | None
) -> tuple[Manipulator, nn.Module]:
    """Both players: new, or those to go on from."""
    torch.manual_seed(config.seed)
    generator, discriminator = kind.generator(config), kind.discriminator(config)
    start = parts.generator if parts else manipulators.load(config.start) if config.start else None
    if start is not None:
        if start.name != config.manipulator:
            raise IDGuardError(f"{config.start} is a {start.name}, not a {config.manipulator}; name another")
        generator = start.requires_grad_().train().use_batch_statistics()
    if config.start_discriminator:
        try:
            discriminator.load_state_dict(load_file(config.start_discriminator))
        except Exception as error:
            raise IDGuardError(f"cannot start from {config.start_discriminator}: {error}") from error
    return generator, discriminator

"""What every training consists of: its processes, a budget, a checkpoint."""

import os
import warnings
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast_object_list, gather_object
from torch import nn

from art_idguard.errors import IDGuardError
from art_idguard.files.tensors import all_finite
from art_idguard.perturbation.precision import faster_precision
from art_idguard.training.checkpoint import CHECKPOINT, load_checkpoint, save_checkpoint
from art_idguard.training.config import TrainingConfig
from art_idguard.training.log import make_trackers

RANKS = tuple(
    f"{library}{name}"
    for library, names in {
        "": ("RANK", "LOCAL_RANK", "WORLD_SIZE"),
        "PMI_": ("RANK", "SIZE"),
        "OMPI_COMM_WORLD_": ("RANK", "LOCAL_RANK", "SIZE"),
        "MV2_COMM_WORLD_": ("RANK", "LOCAL_RANK", "SIZE"),
        "MPI_": ("LOCALRANKID",),
    }.items()
    for name in names
)
"""Environment variables by which launchers tell a process its place."""


def make_accelerator(precision: str = "no", **options: Any) -> Accelerator:
    """Accelerate keeps the first precision of a process; here each training has its own.

    Without `cpu` it takes the processes that torchrun starts on a machine without a GPU for strangers.

    Args:
        precision: "no" or "bf16".
        options: further ones of `Accelerator`.

    Raises:
        IDGuardError: the processes that a launcher has announced do not meet.
    """
    AcceleratorState._reset_state()
    launched = {name: os.environ[name] for name in RANKS if name in os.environ}
    if launched and "MASTER_ADDR" not in os.environ:  # every launcher of several processes says where they meet
        warnings.warn(f"one process: {', '.join(launched)} left over without MASTER_ADDR", stacklevel=2)
        for name in launched:
            del os.environ[name]
    try:
        return Accelerator(mixed_precision=precision, cpu=not torch.accelerator.is_available(), **options)
    except ValueError as error:
        raise IDGuardError(
            f"cannot join the other processes: {error}. Use accelerate launch, or unset {', '.join(launched)}"
        ) from error
    finally:
        os.environ.update(launched)


@torch.no_grad()
def follow(average: nn.Module, current: nn.Module, decay: float, updates: int) -> None:
    """The average of the weights follows them, faster at first."""
    decay = min(decay, (1 + updates) / (10 + updates))
    to, of = average.state_dict(), current.state_dict()
    moving = [key for key, value in to.items() if value.is_floating_point()]
    torch._foreach_lerp_([to[key] for key in moving], [of[key] for key in moving], 1 - decay)


def open_run(config: TrainingConfig, *, resume: bool) -> tuple[Accelerator, dict[str, Any] | None]:
    """The processes, which mostly share a batch evenly, and the checkpoint if there is one to resume.

    Raises:
        IDGuardError: the batch has no even shares, a tracker is unknown or not installed, or the folder holds a run
            that these settings cannot go on with.
    """
    accelerator = make_accelerator()
    if config.shares_faces and config.batch_size % accelerator.num_processes:
        raise IDGuardError(
            f"batch size {config.batch_size} cannot be shared by {accelerator.num_processes} processes evenly"
        )
    folder = Path(config.output)
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = load_checkpoint(folder)
    if len(steps := set(gather_object([checkpoint["step"] if checkpoint else 0]))) > 1:
        raise IDGuardError(
            f"processes find {folder} at different steps, {sorted(steps)}; it has to be one for all machines"
        )
    trackers = make_trackers(config.trackers, folder, step=checkpoint["step"] if checkpoint else 0)
    precision = config.precision
    if precision == "auto":  # a resumed run keeps what it measured
        precision = checkpoint["precision"] if checkpoint else faster_precision(accelerator.device)
        (precision,) = broadcast_object_list([precision])  # each process may have measured another
    accelerator = make_accelerator(precision, log_with=trackers or None, project_dir=folder)
    if checkpoint is None:
        return accelerator, None
    if not resume:
        raise IDGuardError(f"{folder} holds a run; resume it (--resume) or choose another output folder")
    if (command := checkpoint.get("command", "another version")) != config.command:
        raise IDGuardError(f"{folder} holds a run of {command}, not of {config.command}; choose another output folder")
    if odd := sorted(asdict(config).keys() ^ checkpoint["config"].keys()):
        raise IDGuardError(f"cannot resume {folder}: another version began it, which differs in {', '.join(odd)}")
    if changed := config.differences(checkpoint["config"]):
        raise IDGuardError(f"cannot resume {folder} with other settings: {', '.join(changed)} changed")
    config.check_steps(checkpoint["config"], step=checkpoint["step"], elapsed=checkpoint["elapsed"])
    return accelerator, checkpoint


@dataclass(kw_only=True)
class TrainingRun(ABC):
    """What all trainings consist of; `step` counts the finished steps, `elapsed` the seconds over all launches."""

    config: TrainingConfig
    accelerator: Accelerator
    inputs: dict[str, str]
    """Digests of the data and of the networks that stay as they are."""
    step: int = 0
    elapsed: float = 0.0

    @property
    def folder(self) -> Path:
        """Where the run keeps its files."""
        return Path(self.config.output)

    def effective(self) -> TrainingConfig:
        """The settings as they came to be: with the precision that was measured."""
        return replace(self.config, precision=self.accelerator.mixed_precision)

    def progress(self) -> float:
        """The used share of the budget of steps or of minutes, whichever ends first; equal on every process."""
        used = self.step / self.config.steps
        if self.config.minutes is None:
            return used
        used = max(used, self.elapsed / 60 / self.config.minutes)
        if not self.accelerator.use_distributed:
            return used
        return float(self.accelerator.reduce(torch.tensor(used, device=self.accelerator.device), "mean"))

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {
            "command": self.config.command,
            "config": asdict(self.config),
            "inputs": self.inputs,
            "step": self.step,
            "elapsed": self.elapsed,
            "precision": self.accelerator.mixed_precision,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint.

        Raises:
            IDGuardError: the run began with other inputs.
        """
        before, now = state["inputs"], self.inputs
        if changed := [name for name in now | before if before.get(name) != now.get(name)]:
            raise IDGuardError(
                f"cannot resume {self.folder}: {', '.join(changed)} changed since it began; "
                "bring them back, or choose another output folder"
            )
        self.step, self.elapsed = state["step"], state["elapsed"]

    @property
    @abstractmethod
    def networks(self) -> dict[str, nn.Module]:
        """What is trained."""

    def save_checkpoint(self) -> None:
        """Replace the run's checkpoint.

        Raises:
            IDGuardError: the weights are not finite, which the last update may have made them; or the disk is full.
        """
        for name, network in self.networks.items():
            if not all(map(all_finite, network.state_dict().values())):
                raise IDGuardError(
                    f"step {self.step}: the weights of the {name} are not finite. {self.recovery_hint()}"
                )
        save_checkpoint(self.folder, self.state())

    def recovery_hint(self) -> str:
        """What to do where a loss is not finite."""
        good = self.folder / CHECKPOINT
        start = f"The last good checkpoint is {good}; resume" if good.exists() else "There is no checkpoint yet; start"
        coarse = self.accelerator.mixed_precision != "no"
        return f"{start} with a lower lr" + (" or with precision 'no'" if coarse else "")

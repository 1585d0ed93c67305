"""Distillation: a narrow protector learns to do what a wide one does (Hinton et al., 2015), without any manipulator.

A step costs what the two generators cost, a fifteenth of a step of Algorithm 1 against four manipulators. As in every
training, all that is random in step t depends on (seed, t) alone.
"""

import warnings
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import reduce
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from tqdm import tqdm

from art_idguard.data.pixels import placed, taken
from art_idguard.data.reading import read_labelled
from art_idguard.errors import IDGuardError
from art_idguard.files.grid import save_grid
from art_idguard.files.tensors import digest
from art_idguard.images import from_uint8
from art_idguard.perturbation import Protector
from art_idguard.training.base import TrainingRun, follow, open_run
from art_idguard.training.checkpoint import restore_moments
from art_idguard.training.loop import Training, run_training
from art_idguard.training.protector.config import DistillationConfig
from art_idguard.training.seeding import batch_index, seed_step
from art_idguard.types import Images, sent

SAMPLES = 8
COLUMNS = "photo | by the teacher | by the student | 10 x change by the teacher | by the student"


def distill(
    config: DistillationConfig,
    *,
    resume: bool = False,
    verbose: bool = True,
    on_stop: Callable[[str], object] = warnings.warn,
) -> Path:
    """Train a narrow protector to do what another does, and save the average of its weights; returns its folder.

    Ctrl-C or SIGTERM ends it after the step in hand: the checkpoint and the student as it is then are saved.

    Args:
        config: the settings; see `DistillationConfig`.
        resume: go on from the checkpoint in `config.output`; without one, start anew.
        verbose: show a progress bar.
        on_stop: told when the training has been stopped, and at which step.

    Raises:
        IDGuardError: unusable settings, data or weights, or a loss that is not finite.
    """
    return run_training(
        config, lambda: Distillation(build_run(config, resume=resume), title="distilling", verbose=verbose), on_stop
    )


@dataclass(kw_only=True)
class DistillationRun(TrainingRun):
    """What a distillation consists of."""

    config: DistillationConfig
    images: UInt8[Tensor, "N 3 S S"]
    teacher: Protector
    student: Protector
    average: Protector
    """Of the student's weights over the steps: what is saved in the end."""
    optimizer: torch.optim.Adam

    @property
    def networks(self) -> dict[str, nn.Module]:
        """What is trained."""
        return {"student": self.student}

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {
            **super().state(),
            "student": self.student.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        super().load_state(state)
        self.student.load_state_dict(state["student"])
        self.average.load_state_dict(state["average"])
        restore_moments(self.optimizer, state["optimizer"])


def build_run(config: DistillationConfig, *, resume: bool = False) -> DistillationRun:
    """Pictures, teacher, student and optimiser of a run, at its checkpoint if it resumes."""
    accelerator, checkpoint = open_run(config, resume=resume)
    images, _ = read_labelled(
        config.faces,
        attributes=(),
        size=config.size,
        split=config.split,
        limit=config.limit,
        decoded_in=config.decoded_in,
    )
    if len(images) < config.batch_size:
        raise IDGuardError(f"{len(images)} faces do not fill a batch of {config.batch_size}")
    teacher = Protector.from_pretrained(config.teacher).requires_grad_(False)
    torch.manual_seed(config.seed)
    student = narrow(teacher, config.channels).train().to(accelerator.device)
    run = DistillationRun(
        config=config,
        accelerator=accelerator,
        inputs={"faces": digest([images]), "teacher": digest(teacher.state_dict().values())},
        images=placed(images, accelerator.device),
        teacher=teacher.to(accelerator.device),
        student=student,
        average=deepcopy(student).requires_grad_(False).eval(),
        optimizer=torch.optim.Adam(student.generator.parameters(), lr=config.lr, betas=(0.5, 0.999)),
    )
    if checkpoint:
        run.load_state(checkpoint)
    return run


def narrow(teacher: Protector, channels: int) -> Protector:
    """A new protector with the teacher's bound, visibility and P-Pert, and a ResNet of this width."""
    options: Any = teacher._hub_mixin_config
    generator = {"generator": "resnet", "generator_config": {"channels": channels, "norm": "instance"}}
    student = Protector(**{**options, **generator})
    student.prior.requires_grad_(False).copy_(teacher.prior)
    return student


def distance(student: Protector, teacher: Protector, x: Images) -> Float[Tensor, ""]:
    """Mean square of what the two make differently of the same faces, in units of epsilon squared."""
    with torch.no_grad():
        expected = teacher(x).specific
    return ((student(x).specific - expected) / teacher.epsilon).square().mean()


def train_step(run: DistillationRun, *, progress: float = 0.0) -> Float[Tensor, ""]:
    """One step, on faces mirrored at random; returns the loss, equal on every process.

    Args:
        run: the run, which is changed.
        progress: the used share of the budget, on which the learning rate depends.
    """
    config, accelerator = run.config, run.accelerator
    whole = batch_index(run.step, len(run.images), config.batch_size, config.seed)
    index = sent(whole[accelerator.process_index :: accelerator.num_processes], accelerator.device)
    seed_step(config.seed, run.step, accelerator.process_index)
    x = from_uint8(taken(run.images, index))
    x = torch.where(torch.rand(len(x), 1, 1, 1, device=x.device) < 0.5, x.flip(-1), x)
    with accelerator.autocast():
        loss = distance(run.student, run.teacher, x)
    learned = list(run.student.generator.parameters())
    gradients = reduce(torch.autograd.grad(loss, learned), "mean")
    loss = accelerator.reduce(loss.detach(), "mean")
    if (run.step + 1) % config.log_every == 0 and not loss.isfinite():
        raise IDGuardError(f"step {run.step + 1}: the loss of the student is not finite. {run.recovery_hint()}")
    for parameter, gradient in zip(learned, gradients, strict=True):
        parameter.grad = gradient
    run.optimizer.param_groups[0]["lr"] = config.rate(run.step, progress)
    run.optimizer.step()
    follow(run.average, run.student, config.ema, run.step)
    run.step += 1
    return loss


class Distillation(Training[DistillationRun]):
    """Distillation in the loop of every training."""

    def train_step(self, *, progress: float) -> None:
        """See `train_step`."""
        self.loss = train_step(self.run, progress=progress)

    def log(self, bar: tqdm, *, is_last: bool) -> None:
        """A line every `log_every` steps."""
        if not self.is_logged(is_last=is_last):
            return
        run, loss = self.run, float(self.loss)
        line = {"step": run.step, "seconds": round(run.elapsed, 2), "loss": {"student": loss}}
        self.write(bar, line, lr={"generator": run.optimizer.param_groups[0]["lr"]}, seen={"loss": loss})

    @torch.no_grad()
    def sample(self) -> Path:
        """A row a face."""
        run = self.run
        photos = from_uint8(run.images[:SAMPLES].to(run.accelerator.device))
        both = [protector(photos).specific for protector in (run.teacher, run.average)]
        columns = [photos, *both, *(10 * (protected - photos) for protected in both)]
        path = run.folder / "samples" / f"{run.step:06d}.png"
        save_grid(path, list(zip(*columns, strict=True)), captions=[COLUMNS] * len(photos))
        return path

    def finish(self) -> Path:
        """Save the average of the student's weights."""
        folder = self.run.folder / "protector"
        if self.is_main:
            self.run.effective().save(folder, places=False)
            self.run.average.save_pretrained(folder)
        self.run.accelerator.wait_for_everyone()
        return folder

"""A manipulator's own training: its published losses and schedule, within a budget of steps and of minutes.

Everything random in step t depends on (seed, t) alone, so a checkpoint needs no random state and, where the budget
is one of steps, a resumed run repeats an unbroken one bit for bit. Between two lines of the log nothing waits for
the device.
"""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from art_idguard.errors import IDGuardError
from art_idguard.files.grid import save_grid
from art_idguard.files.tensors import save_atomically
from art_idguard.images import from_uint8
from art_idguard.training.loop import Training, any_process, run_training
from art_idguard.training.manipulator.config import DISCRIMINATOR, ManipulatorConfig
from art_idguard.training.manipulator.setup import InnerAttack, ManipulatorRun, PreloadedGAN, build_run, memory_format
from art_idguard.training.manipulator.step import distill_step, train_step
from art_idguard.types import ATTRIBUTES

SAMPLES = 8  # faces in a sample picture


def train_manipulator(
    config: ManipulatorConfig,
    *,
    resume: bool = False,
    verbose: bool = True,
    attack: InnerAttack | None = None,
    parts: PreloadedGAN | None = None,
    on_stop: Callable[[str], object] = warnings.warn,
) -> Path:
    """Train a manipulator by its own losses and save the average of its generator; returns its folder.

    Ctrl-C or SIGTERM ends it after the step in hand: the checkpoint and the average as it is then are saved.

    Args:
        config: the settings; `ManipulatorConfig.from_recipe` has each model's published ones.
        resume: go on from the checkpoint in `config.output`; without one, start anew.
        verbose: show a progress bar.
        attack: for adversarial training, what turns faces into the generator's input; see `InnerAttack`. The
            discriminator's real faces, and what reconstructions are compared with, stay as they are.
        parts: faces, labels and the generator to go on from, in place of those that the settings name.
        on_stop: told when the training has been stopped, and at which step.

    Raises:
        IDGuardError: unusable settings or data, a loss that is not finite, or minutes that end before the generator's
            first turn.
    """

    def start() -> ManipulatorTraining:
        run = build_run(config, resume=resume, attack=attack, parts=parts)
        return ManipulatorTraining(run, title=config.manipulator, verbose=verbose)

    return run_training(config, start, on_stop)


class ManipulatorTraining(Training[ManipulatorRun]):
    """A GAN's training, hardening or distillation in the loop of every training."""

    def train_step(self, *, progress: float) -> None:
        """One step of the published training, or of distillation."""
        learn = train_step if self.run.teacher is None else distill_step
        self.run.latest |= learn(self.run, progress=progress)

    def log(self, bar: tqdm, *, is_last: bool) -> None:
        """A line every `log_every` steps, and before a checkpoint.

        Raises:
            IDGuardError: a step since the last line was not finite.
        """
        run = self.run
        if not self.is_logged(is_last=is_last):
            return
        require_finite(run)
        self.note_time()  # now that the device has caught up
        rates = {name: optimizer.param_groups[0]["lr"] for name, optimizer in run.optimizers.items()}
        record = _record(run)
        losses = {name: [value for term, value in record["loss"].items() if term.startswith(name)] for name in rates}
        self.write(bar, record, lr=rates, seen={f"{name} loss": sum(terms) for name, terms in losses.items() if terms})

    def sample(self) -> Path:
        """See `save_sample`."""
        return save_sample(self.run)

    def finish(self) -> Path:
        """Save the average of the generator, and the discriminator beside its folder.

        Raises:
            IDGuardError: the budget is used up and the generator had no turn.
        """
        run, config, folder = self.run, self.run.config, self.run.folder / "manipulator"
        if run.progress() >= 1 and run.step < config.first_update:
            raise IDGuardError(
                f"the generator never learned: {run.step} steps in {config.minutes} minutes, warmup {config.warmup}, "
                f"n_critic {config.n_critic}; resume with more minutes"
            )
        if self.is_main:
            run.effective().save(folder, places=False)
            average = run.average.half() if config.half else run.average
            average.eval().save_pretrained(folder)
            if run.discriminator is not None:
                discriminator = {name: t.half() for name, t in run.discriminator.state_dict().items()}
                save_atomically(discriminator, run.folder / DISCRIMINATOR)
        run.accelerator.wait_for_everyone()
        return folder


def _record(run: ManipulatorRun) -> dict[str, Any]:
    """A line of the log."""
    values = torch.stack(list(run.latest.values())).tolist()
    return {
        "step": run.step,
        "seconds": round(run.elapsed, 2),
        "lr": run.optimizers["generator"].param_groups[0]["lr"],
        "loss": dict(zip(run.latest, values, strict=True)),
    }


def require_finite(run: ManipulatorRun) -> None:
    """Wait for the device and see whether every step so far was finite.

    Raises:
        IDGuardError: one was not; names the step, the network and the last good checkpoint.
    """
    bad = {name: int(step) for name, step in run.first_bad.items() if step > 0}
    if not any_process(run.accelerator, bool(bad)):
        return
    name, step = min(bad.items(), key=lambda item: item[1]) if bad else ("network of another process", run.step)
    where = f"{run.config.manipulator}'s {name}"
    raise IDGuardError(f"step {step}: the loss of {where} is not finite. {run.recovery_hint()}")


@torch.no_grad()
def save_sample(run: ManipulatorRun) -> Path:
    """A row a face: the photo, then each edit of the averaged generator."""
    edge, size = run.config.margin // 2, run.config.size
    crop = slice(edge, edge + size)
    device = run.labels.device
    pictures = from_uint8(run.images[:SAMPLES, :, crop, crop].to(device))
    photos = pictures.contiguous(memory_format=memory_format(device))
    known = [run.objective.attributes.index(name) for name in ATTRIBUTES]
    forged = [run.average(photos, edit).output for edit in run.average.edits(run.labels[:SAMPLES, known])]
    columns: list[Float[Tensor, "B 3 H W"]] = [photos, *forged]
    save_grid(path := run.folder / "samples" / f"{run.step:06d}.png", list(zip(*columns, strict=True)))
    return path

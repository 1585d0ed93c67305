"""A manipulator's own training: its published losses and schedule, within a budget of steps and of minutes.

Everything random in step t depends on (seed, t) alone, so a checkpoint needs no random state and, where the budget
is one of steps, a resumed run repeats an unbroken one bit for bit. Between two lines of the log nothing waits for
the device.
"""

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from art_idguard.errors import IDGuardError
from art_idguard.files.grid import save_grid
from art_idguard.files.tensors import save_atomically
from art_idguard.images import from_uint8
from art_idguard.losses import single
from art_idguard.training.base import carry_through, follow
from art_idguard.training.checkpoint import save_checkpoint
from art_idguard.training.loop import LogFile, anywhere, seed_step
from art_idguard.training.manipulator_config import ManipulatorConfig
from art_idguard.training.manipulator_run import Attack, ManipulatorParts, ManipulatorRun, memory_format, prepare
from art_idguard.training.objectives import Batch, Terms
from art_idguard.types import ATTRIBUTES

SAMPLES = 8  # faces in a sample picture


def train_manipulator(
    config: ManipulatorConfig,
    *,
    resume: bool = False,
    verbose: bool = True,
    attack: Attack | None = None,
    parts: ManipulatorParts | None = None,
    on_stop: Callable[[str], object] = warnings.warn,
) -> Path:
    """Train a manipulator by its own losses and save the average of its generator; returns its folder.

    Ctrl-C or SIGTERM ends it after the step in hand: the checkpoint and the average as it is then are saved.

    Args:
        config: the settings; `ManipulatorConfig.from_recipe` has each model's published ones.
        resume: go on from the checkpoint in `config.output`; without one, start anew.
        verbose: show a progress bar.
        attack: for adversarial training, what turns faces into the generator's input; see `Attack`. The
            discriminator's real faces, and what reconstructions are compared with, stay as they are.
        parts: faces, labels and the generator to go on from, in place of those that the settings name.
        on_stop: told when the training has been stopped, and at which step.

    Raises:
        IDGuardError: unusable settings or data, a loss that is not finite, or minutes that end before the generator's
            first turn.
    """
    start = partial(prepare, config, resume=resume, attack=attack, parts=parts)
    return carry_through(config, start, partial(_loop, verbose=verbose), _finish, on_stop)


def advance(run: ManipulatorRun, *, progress: float) -> Terms:
    """One discriminator step and, after the warm-up every `n_critic` steps, one of the generator.

    Args:
        run: the run, which is changed.
        progress: the used share of the budget, on which the learning rates depend.

    Returns:
        The terms of the losses, on the device: "discriminator/..." and "generator/...".
    """
    config, objective = run.config, run.objective
    assert run.discriminator is not None
    set_learning_rates(run, progress)
    generators_turn = run.step >= config.warmup and (run.step + 1) % config.n_critic == 0
    batch = _batch(run, with_gradient=generators_turn)
    with run.accelerator.autocast(), torch.set_grad_enabled(generators_turn):
        forged = objective.forge(run.generator, batch)
    with run.accelerator.autocast():
        detached = batch._replace(edit=batch.edit._replace(condition=batch.edit.condition.detach()))
        terms = objective.discriminator_terms(run.discriminator, detached, tuple(t.detach() for t in forged))
    report = _update(run, "discriminator", terms)
    if generators_turn:
        with _frozen(run.discriminator):
            with run.accelerator.autocast():
                terms = objective.generator_terms(run.generator, run.discriminator, batch, forged)
            report |= _update(run, "generator", terms)
        follow(run.average, run.generator, config.ema, run.step // config.n_critic)
    run.step += 1
    return report


def distill_step(run: ManipulatorRun, *, progress: float) -> Terms:
    """One step of the generator towards what its teacher makes of the clean faces.

    Adversarially robust distillation (Goldblum et al., AAAI 2020), for images: there is no discriminator, which is
    seldom published with a generator, and the edits stay what they were. With `smoothness` the teacher is followed on
    clean faces, and attacks may not change the answer (TRADES, Zhang et al., ICML 2019).

    Deviates: L1 in place of the divergence of logits. Eq. (15) has the published losses.
    """
    assert run.teacher is not None
    set_learning_rates(run, progress)
    batch = _batch(run, with_gradient=False)
    with run.accelerator.autocast():
        with torch.no_grad():
            taught = single(run.teacher(batch.real, batch.edit).output)
        answer = single(run.generator(batch.inputs, batch.edit).output)
        if smoothness := run.config.smoothness:
            clean = single(run.generator(batch.real, batch.edit).output)
            terms = {"distillation": F.l1_loss(clean, taught), "smoothness": smoothness * F.l1_loss(answer, clean)}
        else:
            terms = {"distillation": F.l1_loss(answer, taught)}
    report = _update(run, "generator", terms)
    follow(run.average, run.generator, run.config.ema, run.step)
    run.step += 1
    return report


def _batch(run: ManipulatorRun, *, with_gradient: bool) -> Batch:
    accelerator, objective = run.accelerator, run.objective
    drawn = objective.draw(run.step)
    index = drawn.faces[accelerator.process_index :: accelerator.num_processes].to(accelerator.device)
    seed_step(run.config.seed, run.step, accelerator.process_index)
    real, labels = run.faces(index), run.labels[index]
    with torch.set_grad_enabled(with_gradient):
        edit = objective.edit(run.generator, real, labels, drawn.task)
    inputs = real
    if run.attack is not None:
        with accelerator.autocast():
            inputs = run.attack(real, edit._replace(condition=edit.condition.detach()), run.generator).detach()
    return Batch(real, inputs, labels, edit, drawn.task)


def set_learning_rates(run: ManipulatorRun, progress: float) -> None:
    """Constant up to `decay_from` of the budget, then linear to zero at its end."""
    decay = run.config.decay_from
    factor = 1.0 if progress <= decay else max(0.0, (1 - progress) / (1 - decay))
    for optimizer in run.optimizers.values():
        for group in optimizer.param_groups:
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor


def _update(run: ManipulatorRun, name: str, terms: Terms) -> Terms:
    """A step of Adam on the sum of the terms, over all processes; notes whether it was finite."""
    network, optimizer = run.networks[name], run.optimizers[name]
    optimizer.zero_grad(set_to_none=True)
    loss = torch.stack(list(terms.values())).sum()
    loss.backward()
    _average_gradients(run, network)
    norm = nn.utils.clip_grad_norm_(network.parameters(), run.config.clip)
    bad = run.first_bad[name]
    run.first_bad[name] = torch.where((loss.isfinite() & norm.isfinite()) | (bad > 0), bad, run.step + 1)
    optimizer.step()
    return {f"{name}/{term}": value.detach() for term, value in terms.items()}


def _average_gradients(run: ManipulatorRun, network: nn.Module) -> None:
    """One message for all gradients; every process drew the same task, so the same parameters have one."""
    if not run.accelerator.use_distributed:
        return
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    mean = run.accelerator.reduce(torch.cat([g.flatten() for g in gradients]), "mean")
    for gradient, part in zip(gradients, mean.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


@contextmanager
def _frozen(network: nn.Module) -> Iterator[None]:
    """Gradients flow through the network and not into it."""
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)


def _loop(run: ManipulatorRun, stopped: dict[str, bool], *, verbose: bool) -> None:
    config, main = run.config, run.accelerator.is_main_process
    bar = tqdm(total=config.steps, initial=run.step, desc=config.manipulator, disable=not (verbose and main))
    began, before = time.monotonic(), run.elapsed
    progress, logged, latest = run.progress(), (run.step, run.elapsed), Terms()
    learn = advance if run.teacher is None else distill_step
    with bar, LogFile(run.folder, step=run.step, enabled=main) as log:
        while progress < 1:
            latest |= learn(run, progress=progress)
            run.elapsed = before + time.monotonic() - began
            progress = run.progress()
            last = anywhere(run.accelerator, stopped["now"]) or progress >= 1
            keep = last or run.step % config.checkpoint_every == 0
            if keep or run.step % config.log_every == 0:
                require_finite(run)
                run.elapsed = before + time.monotonic() - began  # now that the device has caught up
                log.write(_record(run, latest, logged))
                bar.update(run.step - bar.n)
                logged = (run.step, run.elapsed)
            if main and keep:
                save_checkpoint(run.folder, run.state())
            if main and (last or run.step % config.sample_every == 0):
                save_sample(run)
            if last:
                return


def _record(run: ManipulatorRun, terms: Terms, logged: tuple[int, float]) -> dict[str, Any]:
    """A line of the log; the speed is that since the last line."""
    steps, seconds = run.step - logged[0], max(run.elapsed - logged[1], 1e-9)
    values = torch.stack(list(terms.values())).tolist()
    return {
        "step": run.step,
        "seconds": round(run.elapsed, 2),
        "images_per_second": round(steps * run.config.batch_size / seconds, 1),
        "lr": run.optimizers["generator"].param_groups[0]["lr"],
        "loss": dict(zip(terms, values, strict=True)),
    }


def require_finite(run: ManipulatorRun) -> None:
    """Wait for the device and see whether every step so far was finite.

    Raises:
        IDGuardError: one was not; names the step, the network and the last good checkpoint.
    """
    bad = {name: int(step) for name, step in run.first_bad.items() if step > 0}
    if not anywhere(run.accelerator, bool(bad)):
        return
    name, step = min(bad.items(), key=lambda item: item[1]) if bad else ("network of another process", run.step)
    raise IDGuardError(f"step {step}: the loss of {run.config.manipulator}'s {name} is not finite. {run.way_out()}")


@torch.no_grad()
def save_sample(run: ManipulatorRun) -> None:
    """A row a face: the photo, then each edit of the averaged generator."""
    edge, size = run.config.margin // 2, run.config.size
    crop = slice(edge, edge + size)
    photos = from_uint8(run.images[:SAMPLES, :, crop, crop]).contiguous(memory_format=memory_format(run.images.device))
    known = [run.objective.attributes.index(name) for name in ATTRIBUTES]
    forged = [run.average(photos, edit).output for edit in run.average.edits(run.labels[:SAMPLES, known])]
    columns: list[Float[Tensor, "B 3 H W"]] = [photos, *forged]
    save_grid(run.folder / "samples" / f"{run.step:06d}.png", list(zip(*columns, strict=True)))


def _finish(run: ManipulatorRun) -> Path:
    config, folder = run.config, run.folder / "manipulator"
    if run.progress() >= 1 and run.step < config.first_update:
        raise IDGuardError(
            f"the generator never learned: {run.step} steps in {config.minutes} minutes, warmup {config.warmup}, "
            f"n_critic {config.n_critic}; resume with more minutes"
        )
    if run.accelerator.is_main_process:
        average = run.average.half() if config.half else run.average
        average.eval().save_pretrained(folder)
        if run.discriminator is not None:
            discriminator = {name: t.half() for name, t in run.discriminator.state_dict().items()}
            save_atomically(discriminator, run.folder / "discriminator.safetensors")
    run.accelerator.wait_for_everyone()
    return folder

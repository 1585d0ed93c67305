"""One step of a manipulator's training: the discriminator's update, the generator's, or distillation's."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional as F

from art_idguard.losses import to_float32
from art_idguard.training.base import follow
from art_idguard.training.manipulator.objectives import Batch, Terms
from art_idguard.training.manipulator.setup import ManipulatorRun
from art_idguard.training.seeding import seed_step
from art_idguard.types import sent


def train_step(run: ManipulatorRun, *, progress: float) -> Terms:
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
        follow(run.average, run.generator, config.ema, (run.step + 1 - config.first_update) // config.n_critic)
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
            taught = to_float32(run.teacher(batch.real, batch.edit).output)
        answer = to_float32(run.generator(batch.inputs, batch.edit).output)
        if smoothness := run.config.smoothness:
            clean = to_float32(run.generator(batch.real, batch.edit).output)
            terms = {"distillation": F.l1_loss(clean, taught), "smoothness": smoothness * F.l1_loss(answer, clean)}
        else:
            terms = {"distillation": F.l1_loss(answer, taught)}
    report = _update(run, "generator", terms)
    follow(run.average, run.generator, run.config.ema, run.step)
    run.step += 1
    return report


def _batch(run: ManipulatorRun, *, with_gradient: bool) -> Batch:
    accelerator, objective = run.accelerator, run.objective
    drawn = objective.sample_batch(run.step)
    index = sent(drawn.faces[accelerator.process_index :: accelerator.num_processes], accelerator.device)
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

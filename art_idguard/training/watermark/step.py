"""One step of a watermarker's training (section IV-E2): the tasks are the manipulators, from whose forgeries is read.

They share the watermarked faces and the decoder's parameters; see `training.cut_graph`.

Notation (name here -> the paper's symbol):
    objective -> -L_k^wm        message -> m
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from accelerate.utils import reduce
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from art_idguard.data.pixels import taken
from art_idguard.distortions import NOTHING, Distortion, sample_distortion
from art_idguard.errors import IDGuardError
from art_idguard.evaluation.checks import named
from art_idguard.images import from_uint8
from art_idguard.losses import to_float32
from art_idguard.training.cut_graph import Found, TaskGradients, ascend
from art_idguard.training.edits import edits_of
from art_idguard.training.seeding import batch_index, seed_step, step_seed
from art_idguard.training.watermark.run import WatermarkRun
from art_idguard.types import Images, sent
from art_idguard.weighting import UniformWeighting

WIDEST = 0.5
"""The bound at first, on the [-1, 1] scale: under 0.05 nothing is learnt in hundreds of steps, under this in 250."""

LEARNT = 0.05
"""Share of the bits that are misread from the photo alone, from which on manipulators take part."""

LOOKED_AT = 10
"""Steps between looks at that, each of which waits for the device."""

AT_CHANCE = 0.25
"""Mean squared error of a message of which nothing is known."""

KPI_FLOOR = 0.01
"""Of the share of chance's error that is gone, whose sign is noise at chance: beta of Eq. (13) is 4.6 there, not 30."""

Forge = Callable[[Images], Images]


class WatermarkReport(NamedTuple):
    """What one step saw; every entry is equal on every process."""

    objective: Float[Tensor, " K"]
    """Minus L_k^wm; of the photo's own reading where that is learnt alone, and so below."""
    kpi: Float[Tensor, " K"]
    weights: Float[Tensor, " K"]
    errors: Float[Tensor, " K"]
    """Share of the bits that were misread."""
    change: Float[Tensor, ""]
    """Root mean square of the change, as a share of the bound."""
    names: tuple[str, ...]
    """Of the tasks: the manipulators, or the photo."""


def bound(run: WatermarkRun, progress: float) -> float:
    """The bound at this share of the budget: wide until manipulators take part, then it falls geometrically to epsilon
    over half of what is left; that of a watermarker to go on from is its own.
    """
    if run.config.start or run.epsilon > WIDEST:
        return run.epsilon
    if run.begun is None:
        return WIDEST
    fallen = 2 * (progress - run.begun) / max(1 - run.begun, 1e-9)
    return WIDEST * (run.epsilon / WIDEST) ** min(fallen, 1.0)


def train_step(run: WatermarkRun, *, progress: float = 0.0) -> WatermarkReport:
    """One step: gradients of encoder and decoder, their update, and that of the discriminator.

    Args:
        run: the run, which is changed.
        progress: the used share of the budget, on which the learning rate and the bound depend.
    """
    config, accelerator, step = run.config, run.accelerator, run.step
    whole = batch_index(step, len(run.images), config.batch_size, config.seed)
    places = torch.arange(len(whole))[accelerator.process_index :: accelerator.num_processes]
    index = sent(whole[places], accelerator.device)
    seed_step(config.seed, step, accelerator.process_index)
    x, attributes = from_uint8(taken(run.images, index)), run.attributes[index]
    message = torch.randint(2, (len(x), run.watermarker.bits), device=x.device).to(x)
    run.watermarker.epsilon = bound(run, progress)
    with accelerator.autocast():
        marked = to_float32(run.watermarker(x, message))
    decoder = list(run.watermarker.decoder.parameters())
    gradients = TaskGradients([marked, *decoder], run.watermarker.encoder.parameters(), decoder, accelerator)
    errors: list[Tensor] = []
    if run.begun is None:
        task = partial(_task, run, message, NOTHING, errors)
        seen = ascend([partial(task, lambda marked: marked)], gradients, UniformWeighting())
    else:
        distortion = sample_distortion(config.augment, seed=step_seed(config.seed, step))
        task = partial(_task, run, message, distortion, errors)
        edits, _ = edits_of(run.manipulators, attributes, step, places)
        forges = [lambda images, m=m, e=e: m(images, e).output for m, e in zip(run.manipulators, edits, strict=True)]
        tasks = [partial(task, forge) for forge in forges]
        beside = partial(_beside, run, x, message, distortion)
        seen = ascend(tasks, gradients, run.weighting, beside=beside, kpi_floor=KPI_FLOOR)
    share = (marked.detach() - x).square().mean().sqrt() / run.watermarker.epsilon
    names = ["photo"] if run.begun is None else list(named(run.manipulators))
    misread, change = reduce((torch.stack(errors), share), "mean")
    report = WatermarkReport(*seen, misread, change, tuple(names))
    if (step + 1) % config.log_every == 0:
        _require_finite(run, report)
    for optimizer in (run.optimizer, run.discriminator_optimizer):
        optimizer.param_groups[0]["lr"] = config.rate(step, progress)
    run.optimizer.step()
    if config.adversarial_weight:
        _discriminate(run, x, marked.detach())
    run.step += 1
    if run.begun is None:
        looked = run.step % LOOKED_AT == 0 and bool(report.errors[0] <= LEARNT)
        run.begun = run.progress() if looked or run.step >= config.alone else None
    return report


def _task(
    run: WatermarkRun,
    message: Float[Tensor, "B L"],
    distortion: Distortion,
    errors: list[Tensor],
    forge: Forge,
    leaves: Sequence[Tensor],
) -> Found:
    """-L_k^wm of one manipulator, its gradient, and as KPI the share of chance's error that is gone."""
    with run.accelerator.autocast():
        forged = to_float32(forge(leaves[0]))
    loss, scores = _reading(run, message, distortion.images(forged))
    cotangent = torch.autograd.grad(-loss, leaves)
    errors.append(((scores.detach() > 0.5) != message.bool()).float().mean())
    return Found(-loss.detach(), 1 - loss.detach() / AT_CHANCE, cotangent)


def _reading(
    run: WatermarkRun, message: Float[Tensor, "B L"], arriving: Images
) -> tuple[Float[Tensor, ""], Float[Tensor, "B L"]]:
    """MSE(m, D_m(.)), and the scores. Distortions come before, not under autocast: bf16 is as coarse as the change."""
    with run.accelerator.autocast():
        scores = run.watermarker.read(arriving)
    return F.mse_loss(scores, message), scores


def _beside(
    run: WatermarkRun,
    x: Images,
    message: Float[Tensor, "B L"],
    distortion: Distortion,
    leaves: Sequence[Tensor],
) -> list[Tensor]:
    """The gradient of what has no weight of its own: reading the photo itself, and how it looks."""
    config, marked = run.config, leaves[0]
    loss, _ = _reading(run, message, distortion.images(marked))
    loss = loss + config.image_weight * F.mse_loss(marked, x) / run.watermarker.epsilon**2
    if config.adversarial_weight:
        with run.accelerator.autocast():
            scores = to_float32(run.discriminator(marked))
        loss = loss + config.adversarial_weight * (scores - 1).square().mean()
    return list(torch.autograd.grad(-loss, leaves))


def _discriminate(run: WatermarkRun, x: Images, marked: Images) -> None:
    """An update of the discriminator: photos at 1, watermarked ones at 0 (LSGAN)."""
    learned = list(run.discriminator.parameters())
    with run.accelerator.autocast():
        real, fake = to_float32(run.discriminator(torch.cat([x, marked]))).chunk(2)
        loss = ((real - 1).square().mean() + fake.square().mean()) / 2
    for parameter, gradient in zip(learned, reduce(torch.autograd.grad(loss, learned), "mean"), strict=True):
        parameter.grad = gradient
    run.discriminator_optimizer.step()


def _require_finite(run: WatermarkRun, report: WatermarkReport) -> None:
    gradients = torch.stack([p.grad.abs().sum() for p in run.watermarker.parameters() if p.grad is not None])
    if not bool(report.objective.isfinite().all() & report.weights.isfinite().all() & gradients.isfinite().all()):
        raise IDGuardError(
            f"step {run.step + 1}: the objective of some manipulator (its gradient) is not finite. Check the weights "
            f"and the faces. {run.recovery_hint()}"
        )

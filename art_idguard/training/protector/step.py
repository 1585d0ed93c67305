"""One step of Algorithm 1 with the graph cut at the protected images.

The tasks are the manipulators, and share nothing but the two protected images z (by the generator) and z_p (by the
prior); see `training.cut_graph`.

Notation (name here -> the paper's symbol):
    specific, prior -> x + G(cat(x, delta_p)), x + delta_p
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from accelerate import Accelerator
from jaxtyping import Float, Int64
from torch import Tensor, nn

from art_idguard.distortions import NOTHING, Distortion, sample_distortion
from art_idguard.errors import IDGuardError
from art_idguard.evaluation.checks import named
from art_idguard.faces.alignment import nudged
from art_idguard.losses import TERMS, LossConfig, to_float32
from art_idguard.manipulators.base import Manipulator
from art_idguard.objective import Reference, distorted
from art_idguard.perturbation import Protector
from art_idguard.recognizers.base import Recognizer
from art_idguard.regions import MaskedFaces, masked_faces
from art_idguard.training.base import follow
from art_idguard.training.cut_graph import Found, Spread, TaskGradients, ascend
from art_idguard.training.edits import edits_of
from art_idguard.training.protector.parts import Part, differentiate, parts_of
from art_idguard.training.protector.run import ProtectorRun, loss_config
from art_idguard.training.seeding import batch_index, seed_step, step_seed
from art_idguard.types import Edit, Images, sent
from art_idguard.weighting.base import TaskWeighting


class StepReport(NamedTuple):
    """What one step saw; every entry is equal on every process."""

    objective: Float[Tensor, " K"]
    kpi: Float[Tensor, " K"]
    weights: Float[Tensor, " K"]
    shares: Float[Tensor, "K 3"] | None = None
    """Share of each of `losses.TERMS` in a manipulator's gradient, by length; None where nobody asked."""


def cut_graph_step(
    protector: Protector,
    manipulators: Sequence[Manipulator],
    edits: Sequence[Edit],
    recognizers: Sequence[Recognizer],
    weighting: TaskWeighting,
    masked: MaskedFaces,
    accelerator: Accelerator,
    loss: LossConfig,
    distortion: Distortion = NOTHING,
    *,
    kpi_scale: Float[Tensor, " K"] | float = 1.0,
    prior: bool = True,
    clean: Callable[[int], Reference] | None = None,
    shares: bool = False,
    micro_batch: int | None = None,
    spread: Spread = "faces",
) -> StepReport:
    """Eq. (3) and (4), lines 18-20 of Algorithm 1 up to the update: sets `.grad` to minus the ascent direction.

    Args:
        protector: what is trained; its prior may be frozen, z_p is left out then.
        manipulators: frozen (no parameter requires a gradient).
        edits: one for each manipulator.
        recognizers: frozen.
        weighting: the task weights lambda_k.
        masked: clean faces, which manipulators see through the distortion, as they do the protected ones.
        accelerator: the processes and their precision.
        loss: form and weights of Eq. (9).
        distortion: its gradient is part of v_k.
        kpi_scale: what K_k is a share of, see `LossConfig.kpi`.
        prior: whether z_p takes part in this step.
        clean: what the k-th manipulator makes of the clean faces (as distorted), where it is known.
        shares: find each term's share of the gradients, at the cost of going through each manipulator thrice more.
        micro_batch: faces that a manipulator sees at a time, which bounds its memory; default: all.
        spread: what processes share out; where it is tasks, all have the same faces.
    """
    # 1. One generator forward; the protected images are what the tasks share.
    with accelerator.autocast():
        protected = _protected(protector, masked.images, prior)
    view = distorted(masked, distortion)
    lengths = masked.images.new_zeros(len(manipulators), len(TERMS))

    # 2. Each manipulator's v_k.
    def task(k: int, leaves: Sequence[Tensor]) -> Found:
        arriving = [distortion.images(images) for images in leaves]
        known = clean(k) if clean else None
        parts = parts_of(manipulators[k], edits[k], recognizers, view, loss, known, accelerator, micro_batch)
        (total, kpi), by_arriving = differentiate(parts, arriving, accelerator)
        cotangent = torch.autograd.grad(arriving, leaves, by_arriving)
        if shares:
            lengths[k] = _lengths(parts, distortion, leaves, accelerator)
        return Found(total, kpi, cotangent)

    # 3. The weights, and one generator backward with their sum.
    tasks = [partial(task, k) for k in range(len(manipulators))]
    gradients = task_gradients(protector, protected, accelerator, spread)
    weighed = ascend(tasks, gradients, weighting, kpi_scale=kpi_scale)
    return StepReport(*weighed, _as_shares(lengths, accelerator) if shares else None)


def _protected(protector: Protector, x: Images, prior: bool) -> list[Images]:
    """Those of z and z_p that learn; for the prior alone no generator runs."""
    if not _learning(protector.generator):
        return [to_float32((x + protector.universal(x)).clamp(-1, 1))]
    return [to_float32(images) for images in protector(x)[: 1 + prior] if images.requires_grad]


def task_gradients(
    protector: Protector, protected: Sequence[Images], accelerator: Accelerator, spread: Spread = "faces"
) -> TaskGradients:
    """Of the generator by x + G(cat(x, delta_p)), of the prior by x + delta_p as well, of those that are trained."""
    prior = [protector.prior] if protector.prior.requires_grad else []
    generator = _learning(protector.generator)
    return TaskGradients(protected, generator or prior, prior if generator else [], accelerator, spread)


def _learning(network: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def _lengths(
    parts: Sequence[Part], distortion: Distortion, leaves: Sequence[Images], accelerator: Accelerator
) -> Float[Tensor, "3"]:
    """Length of each term's own gradient by the protected images; 0 of a term that is a constant.

    Each from a graph of its own: a compiled one cannot be gone through twice.
    """
    lengths = []
    for term in range(len(TERMS)):
        arriving = [distortion.images(images) for images in leaves]
        _, gradients = differentiate(parts, arriving, accelerator, term)
        back = torch.autograd.grad(arriving, leaves, gradients)
        lengths.append(torch.stack([gradient.norm() for gradient in back]).norm())
    return torch.stack(lengths)


def _as_shares(lengths: Float[Tensor, "K 3"], accelerator: Accelerator) -> Float[Tensor, "K 3"]:
    mean = accelerator.reduce(lengths, "mean")
    return mean / mean.sum(dim=1, keepdim=True).clamp(min=torch.finfo(mean.dtype).tiny)


def train_step(run: ProtectorRun, *, progress: float = 0.0) -> StepReport:
    """One step of Algorithm 1: gradients, update, and projection of the prior to its ball.

    Args:
        run: the run, which is changed.
        progress: the used share of the budget, on which the learning rate depends.
    """
    config, accelerator, step = run.config, run.accelerator, run.step
    whole = batch_index(step, len(run.faces), config.batch_size, config.seed)
    rank, count = (0, 1) if config.spread == "tasks" else (accelerator.process_index, accelerator.num_processes)
    places = torch.arange(len(whole))[rank::count]
    index = sent(whole[places], accelerator.device)
    batch = run.faces.batch(index)
    view = masked_faces(batch, aligned=config.aligned)
    turn = sum(divmod(step, config.prior_every))  # the steps that the prior takes part in have all edits in turn, too
    edits, choices = edits_of(run.manipulators, batch.attributes, turn, places)
    loss, distortion = loss_config(config), sample_distortion(config.augment, seed=step_seed(config.seed, step))
    recognizers = _recognizers(run)
    seed_step(config.seed, step, rank)  # dropout
    report = cut_graph_step(
        run.protector,
        run.manipulators,
        edits,
        recognizers,
        run.weighting,
        _nudged(view, config.nudge, seed=step_seed(config.seed, step), among=(places, len(whole))),
        accelerator,
        loss,
        distortion,
        kpi_scale=run.kpi_scale,
        prior=step % config.prior_every == 0,
        clean=_clean(run, index, choices, edits, recognizers, view, loss) if distortion is NOTHING else None,
        shares=(step + 1) % config.shares_every == 0,
        micro_batch=config.micro_batch,
        spread=config.spread,
    )
    if (step + 1) % config.log_every == 0:
        _require_finite(run, report)
    for group in run.optimizer.param_groups:
        group["lr"] = group["scale"] * config.rate(step, progress)
    run.optimizer.step()
    run.protector.project_prior_()
    if run.average is not None:
        follow(run.average, run.protector, config.ema, step)
    run.step += 1
    return report


def _nudged(view: MaskedFaces, share: float, *, seed: int, among: tuple[Int64[Tensor, " B"], int]) -> MaskedFaces:
    if view.frame is None or not share:
        return view
    return view._replace(frame=nudged(view.frame, share, seed=seed, among=among))


def _recognizers(run: ProtectorRun) -> list[Recognizer]:
    """The recognisers of this step; none where the identity term has no weight."""
    if not loss_config(run.config).identity_weight:
        return []
    if run.config.recognizer_choice == "all":
        return run.recognizers
    chance = torch.Generator().manual_seed(step_seed(run.config.seed, run.step))
    torch.rand(1, generator=chance)  # the first is the distortion's
    return [run.recognizers[int(torch.randint(len(run.recognizers), (), generator=chance))]]


def _clean(
    run: ProtectorRun,
    index: Int64[Tensor, " B"],
    choices: Sequence[Int64[Tensor, " B"]],
    edits: Sequence[Edit],
    recognizers: Sequence[Recognizer],
    view: MaskedFaces,
    loss: LossConfig,
) -> Callable[[int], Reference] | None:
    """What the k-th manipulator makes of the clean faces, from the run's caches; None where it has none."""
    if run.clean is None:
        return None
    caches, chosen = run.clean, [run.recognizers.index(recognizer) for recognizer in recognizers]

    @torch.no_grad()
    def made(k: int) -> Reference:
        with run.accelerator.autocast():
            row = caches[k].reference(index, choices[k], run.manipulators[k], edits[k], run.recognizers, view, loss)
        return row._replace(identities=tuple(row.identities[j] for j in chosen))

    return made


def _require_finite(run: ProtectorRun, report: StepReport) -> None:
    gradients = torch.stack([p.grad.abs().sum() for p in run.protector.parameters() if p.grad is not None])
    if bool(report.objective.isfinite().all() & report.weights.isfinite().all() & gradients.isfinite().all()):
        return
    bad = [name for name, o in zip(named(run.manipulators), report.objective, strict=True) if not o.isfinite()]
    raise IDGuardError(
        f"step {run.step + 1}: the objective of {', '.join(bad) or 'some manipulator (its gradient)'} is not finite. "
        f"Check the weights and the faces. {run.recovery_hint()}"
    )

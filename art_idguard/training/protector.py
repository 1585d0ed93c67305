"""Algorithm 1: joint training of the perturbation generator and the prior perturbation, on accelerate.

Everything random in step t depends on (seed, t) alone, so a checkpoint needs no random state and, where the budget
is one of steps, a resumed run repeats an unbroken one bit for bit.
"""

import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Int64
from torch import Tensor
from tqdm import tqdm

from art_idguard.distortions import NOTHING, draw
from art_idguard.errors import IDGuardError
from art_idguard.losses import LossConfig
from art_idguard.objective import Reference
from art_idguard.recognizers.base import Recognizer
from art_idguard.regions import Scene, scene
from art_idguard.training.base import carry_through, follow
from art_idguard.training.checkpoint import save_checkpoint
from art_idguard.training.config import ProtectorConfig
from art_idguard.training.loop import anywhere, batch_index, seed_step, step_seed
from art_idguard.training.reporting import Log, save_sample
from art_idguard.training.run import Parts, Run, edits_of, loss_config, prepare
from art_idguard.training.step import StepReport, cut_graph_step
from art_idguard.types import Edit


def train_protector(
    config: ProtectorConfig,
    *,
    resume: bool = False,
    verbose: bool = True,
    parts: Parts | None = None,
    on_stop: Callable[[str], object] = warnings.warn,
) -> Path:
    """Train a protector by Algorithm 1 and save it; returns the folder of the finished protector.

    Ctrl-C or SIGTERM ends it after the step in hand: the checkpoint and the protector as it is then are saved.

    Args:
        config: the settings; see `ProtectorConfig`.
        resume: go on from the checkpoint in `config.output`; without one, start anew.
        verbose: show progress bars.
        parts: faces, manipulators and the protector to go on from (it is changed), in place of those that the
            settings name.
        on_stop: told when the training has been stopped, and at which step.

    Raises:
        IDGuardError: unusable settings, data or weights, or a loss that is not finite.
    """
    start = partial(prepare, config, resume=resume, parts=parts, verbose=verbose)
    return carry_through(config, start, partial(_loop, verbose=verbose), _finish, on_stop)


def advance(run: Run, *, progress: float = 0.0) -> StepReport:
    """One step of Algorithm 1: gradients, update, and projection of the prior to its ball.

    Args:
        run: the run, which is changed.
        progress: the used share of the budget, on which the learning rate depends.
    """
    config, accelerator, step = run.config, run.accelerator, run.step
    whole = batch_index(step, len(run.faces), config.batch_size, config.seed)
    places = torch.arange(len(whole))[accelerator.process_index :: accelerator.num_processes]
    index = whole[places].to(accelerator.device)
    batch = run.faces.batch(index)
    view = scene(batch, aligned=config.aligned)
    edits, choices = edits_of(run.manipulators, batch, step, places)
    loss, distortion = loss_config(config), draw(config.augment, seed=step_seed(config.seed, step))
    judges = _judges(run)
    seed_step(config.seed, step, accelerator.process_index)  # dropout
    report = cut_graph_step(
        run.protector,
        run.manipulators,
        edits,
        judges,
        run.weighting,
        view,
        accelerator,
        loss,
        distortion,
        kpi_scale=run.kpi_scale,
        prior=step % config.prior_every == 0,
        clean=clean_references(run, index, choices, edits, judges, view, loss) if distortion is NOTHING else None,
        shares=step % config.shares_every == 0,
    )
    _require_finite(run, report)
    rise = min(1.0, (step + 1) / config.warmup) if config.warmup else 1.0
    for group in run.optimizer.param_groups:
        group["lr"] = config.lr * group["scale"] * rise * (1 - progress if config.schedule == "linear" else 1)
    run.optimizer.step()
    run.protector.project_prior_()
    if run.average is not None:
        follow(run.average, run.protector, config.ema, step)
    run.step += 1
    return report


def _judges(run: Run) -> list[Recognizer]:
    """The recognisers of this step."""
    if run.config.recognizer_choice == "all":
        return run.recognizers
    chance = torch.Generator().manual_seed(step_seed(run.config.seed, run.step))
    return [run.recognizers[int(torch.randint(len(run.recognizers), (), generator=chance))]]


def clean_references(
    run: Run,
    index: Int64[Tensor, " B"],
    choices: Sequence[Int64[Tensor, " B"]],
    edits: Sequence[Edit],
    judges: Sequence[Recognizer],
    view: Scene,
    loss: LossConfig,
) -> list[Reference] | None:
    """What the manipulators make of the clean faces, from the run's caches; None where it has none."""
    if run.clean is None:
        return None
    known = [run.recognizers.index(judge) for judge in judges]
    found = []
    with torch.no_grad(), run.accelerator.autocast():
        for cache, choice, manipulator, edit in zip(run.clean, choices, run.manipulators, edits, strict=True):
            row = cache.reference(index, choice, manipulator, edit, run.recognizers, view, loss)
            found.append(row._replace(identities=tuple(row.identities[j] for j in known)))
    return found


def _require_finite(run: Run, report: StepReport) -> None:
    gradients = torch.stack([p.grad.abs().sum() for p in run.protector.parameters() if p.grad is not None])
    if bool(report.objective.isfinite().all() & report.weights.isfinite().all() & gradients.isfinite().all()):
        return
    bad = [t.name for t, o in zip(run.manipulators, report.objective, strict=True) if not o.isfinite()]
    raise IDGuardError(
        f"step {run.step + 1}: the objective of {', '.join(bad) or 'some manipulator (its gradient)'} is not finite. "
        f"Check the weights and the faces. {run.way_out()}"
    )


def _loop(run: Run, stopped: dict[str, bool], *, verbose: bool) -> None:
    config, main = run.config, run.accelerator.is_main_process
    bar = tqdm(total=config.steps, initial=run.step, desc="training", disable=not (verbose and main))
    began, progress = time.monotonic() - run.elapsed, run.progress()
    with bar, Log(run) as log:
        while progress < 1:
            report = advance(run, progress=progress)
            run.elapsed = time.monotonic() - began
            progress = run.progress()
            log.note(report, bar)
            last = anywhere(run.accelerator, stopped["now"]) or progress >= 1
            if main and (last or run.step % config.checkpoint_every == 0):
                save_checkpoint(run.folder, run.state())
            if main and (last or run.step % config.sample_every == 0):
                save_sample(run)
            if last:
                return


def _finish(run: Run) -> Path:
    folder = run.folder / "protector"
    if run.accelerator.is_main_process:
        run.trained.eval().save_pretrained(folder)
    run.accelerator.wait_for_everyone()
    return folder

"""Face visits a second of a training: with both branches each step and clean outputs made anew, and without.

The steps take turns in one process, on four manipulators with random weights. What the recipes save is the prior's
branch in all but every n-th step, and the clean outputs (once the cache has them); `--compile` adds compiled
manipulators.
"""

from argparse import Namespace
from collections.abc import Callable, Sequence
from copy import deepcopy

from accelerate import Accelerator

from art_idguard.losses import LOG
from art_idguard.manipulators import Manipulator
from art_idguard.objective import reference
from art_idguard.training.protector.step import cut_graph_step
from art_idguard.weighting import make_weighting

from .measuring import operations, seconds, turns
from .step import PAPERS, setting
from .suite import Suite

PRIOR_EVERY = 8
"""As in hub/recipes/protector-log.toml."""

KINDS = {
    "both branches, clean outputs made": (True, False),
    "generator's branch, clean outputs made": (False, False),
    "both branches, clean outputs kept": (True, True),
    "generator's branch, clean outputs kept": (False, True),
}
"""Whether the prior's branch takes part, and whether clean outputs are known."""

BEFORE, _, *MIXED = KINDS
MIX, COMPILED = f"P-Pert every {PRIOR_EVERY} steps, clean outputs kept", ", compiled"


def compiled(manipulators: Sequence[Manipulator]) -> list[Manipulator]:
    """Copies, as a training with `compile` has them."""
    copies = deepcopy(list(manipulators))
    for manipulator in copies:
        manipulator.compile()
    return copies


def measure(suite: Suite, options: Namespace) -> None:
    """Face visits a second of each step, and of the mix that a training takes."""
    suite.about(
        f"A step of a protector's training: 4 manipulators, batch {options.batch}, {options.size} px, width "
        f"{options.channels}."
    )
    scale = (options.batch, options.size, options.channels)
    protector, manipulators, edits, recognizers, masked = setting(PAPERS[:4], *scale)
    rule, accelerator = make_weighting("kpi", alpha=(1.0,) * 4), Accelerator(cpu=True)
    clean = [reference(m, e, recognizers, masked, LOG) for m, e in zip(manipulators, edits, strict=True)]

    def step(targets: Sequence[Manipulator], prior: bool, kept: bool) -> Callable[[], object]:
        parts = protector, targets, edits, recognizers, rule, masked, accelerator, LOG
        return lambda: cut_graph_step(*parts, prior=prior, clean=clean.__getitem__ if kept else None)

    sets = {"": manipulators} | ({COMPILED: compiled(manipulators)} if options.compile else {})
    steps = {n + suffix: step(sets[suffix], *KINDS[n]) for suffix in sets for n in (MIXED if suffix else KINDS)}
    work = {name: operations(steps[name]) for name in KINDS}
    for run in steps.values():
        run()  # warms up, or compiles

    def add(name: str, taken: float, work: float) -> None:
        suite.add(name, {"seconds": taken, "visits a second": options.batch / taken}, of=BEFORE, operations=work)

    for order in turns(options.repeats, steps):
        taken = {}
        for name, run in order:
            taken[name] = seconds(run)
            add(name, taken[name], work[name.removesuffix(COMPILED)])
        for suffix in sets:
            mixed = _mean([taken[name + suffix] for name in MIXED])
            add(MIX + suffix, mixed, _mean([work[name] for name in MIXED]))


def _mean(both_and_one: list[float]) -> float:
    """Over the steps of which one has both branches."""
    both, one = both_and_one
    return (both + (PRIOR_EVERY - 1) * one) / PRIOR_EVERY

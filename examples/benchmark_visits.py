"""Face visits a second of a training: with both branches each step and clean outputs made anew, and without.

The steps take turns in one process, on four full-size manipulators with random weights: speed does not depend on what
they have learnt. What the recipes save is the prior's branch in all but every n-th step, and the clean outputs (once
the cache has them).
"""

import argparse
import statistics
import time

import torch
from accelerate import Accelerator
from benchmark import setting

from art_idguard.losses import LOG
from art_idguard.objective import reference
from art_idguard.training.protector.step import cut_graph_step
from art_idguard.weighting import make_weighting

PRIOR_EVERY = 8
"""As in hub/recipes/protector-log.toml."""


def visits(options: argparse.Namespace) -> None:
    """Print face visits a second of each step, and of the mix that a training takes."""
    protector, manipulators, edits, recognizers, masked = setting(4, options.batch, options.size)
    rule, accelerator = make_weighting("kpi", alpha=(1.0,) * 4), Accelerator(cpu=True)
    clean = [reference(m, e, recognizers, masked, LOG) for m, e in zip(manipulators, edits, strict=True)]
    kinds = {
        "both branches, clean outputs made": {"prior": True, "clean": None},
        "generator's branch, clean outputs made": {"prior": False, "clean": None},
        "both branches, clean outputs kept": {"prior": True, "clean": clean},
        "generator's branch, clean outputs kept": {"prior": False, "clean": clean},
    }
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    for turn in range(options.repeats + 1):  # the first warms up
        for kind, how in kinds.items():
            start = time.perf_counter()
            cut_graph_step(protector, manipulators, edits, recognizers, rule, masked, accelerator, LOG, **how)
            if turn:
                seconds[kind].append(time.perf_counter() - start)
    median = {kind: statistics.median(times) for kind, times in seconds.items()}
    before, _, both, one = median.values()
    median[f"P-Pert every {PRIOR_EVERY} steps, clean outputs kept"] = (both + (PRIOR_EVERY - 1) * one) / PRIOR_EVERY
    print(f"4 manipulators, batch {options.batch}, {options.size} px, {torch.get_num_threads()} threads, float32")
    print("| step | seconds | face visits a second | of the first |\n|---|---:|---:|---:|")
    for kind, each in median.items():
        print(f"| {kind} | {each:.2f} | {options.batch / each:.3f} | {before / each:.2f} |")

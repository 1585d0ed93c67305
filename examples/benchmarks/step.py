"""The cut-graph training step against the textbook one, against the official loop's form, and as manipulators grow.

Textbook: one graph of all tasks; for S-I each is differentiated by the generator's parameters. The official loop's
form is that with the two protected versions in passes of their own; its passes of E_k, which come besides, are left
out. Each figure comes from a process of its own.
"""

from argparse import Namespace
from collections.abc import Sequence

import torch
from accelerate import Accelerator
from torch import Tensor

from art_idguard.losses import LossConfig, Objective
from art_idguard.manipulators import MANIPULATORS, Manipulator
from art_idguard.objective import objective, reference
from art_idguard.perturbation import Protector
from art_idguard.recognizers import Recognizer, SFace
from art_idguard.regions import MaskedFaces
from art_idguard.training.protector.step import cut_graph_step
from art_idguard.types import Edit, Region
from art_idguard.weighting import TaskStatistics, TaskWeighting, make_weighting

from .measuring import alone, operations, seconds, turns
from .memory import peak_mib
from .suite import Suite

PAPERS = tuple(name for name, kind in MANIPULATORS.items() if kind.published is None)
"""The paper's manipulators."""

VARIANTS = {
    "textbook S-I": ("textbook", "mgda", "parameters"),
    "official form S-I": ("official", "mgda", "parameters"),
    "cut S-I, perturbation": ("cut", "mgda", "perturbation"),
    "cut S-I, parameters": ("cut", "mgda", "parameters"),
    "textbook S-II": ("textbook", "kpi", "parameters"),
    "official form S-II": ("official", "kpi", "parameters"),
    "cut S-II": ("cut", "kpi", "parameters"),
    "cut S-I, clean outputs kept, 2 faces at a time": ("kept", "mgda", "perturbation"),
    "cut S-II, clean outputs kept, 2 faces at a time": ("kept", "kpi", "parameters"),
}
"""The last two are what `train --clean-cache FOLDER --micro-batch 2` does once the cache is filled."""


def textbook_step(
    protector: Protector,
    manipulators: list[Manipulator],
    edits: list[Edit],
    recognizers: list[Recognizer],
    weighting: TaskWeighting,
    masked: MaskedFaces,
    loss: LossConfig,
    *,
    apart: bool = False,
) -> Tensor:
    """One graph of all tasks, autograd.grad per task by the generator's parameters, weighted sum, backward.

    `apart`: as in the official code, a pass of a manipulator for each protected version, not one for both.
    """
    protected = protector(masked.images)

    def task(manipulator: Manipulator, edit: Edit) -> Objective:
        clean = reference(manipulator, edit, recognizers, masked, loss)
        passes = [[version] for version in protected] if apart else [list(protected)]
        found = [objective(manipulator, edit, recognizers, masked, versions, loss, clean) for versions in passes]
        return Objective(*(torch.stack(parts).sum(0) for parts in zip(*found, strict=True)))

    tasks = [task(manipulator, edit) for manipulator, edit in zip(manipulators, edits, strict=True)]
    totals = torch.stack([task.total for task in tasks])

    def gramian(_space: str) -> Tensor:
        parameters = list(protector.generator.parameters())
        rows = [torch.autograd.grad(total, parameters, retain_graph=True) for total in totals]
        matrix = torch.stack([torch.cat([g.flatten() for g in row]) for row in rows]).double()
        return matrix @ matrix.T

    kpi = torch.stack([task.kpi for task in tasks])
    weights = weighting(TaskStatistics(totals.detach(), kpi, gramian))
    (-(weights.to(totals) * totals).sum()).backward()
    return weights


def setting(kinds: Sequence[str], batch: int, size: int, channels: int) -> tuple:
    """Networks with random weights, and faces of noise: speed does not depend on what they have learnt or show."""
    torch.manual_seed(0)
    widths = {"hisd": {"widths": (channels, 2 * channels, 4 * channels)}}
    manipulators = [
        MANIPULATORS[kind](**widths.get(kind, {"channels": channels})).eval().requires_grad_(False) for kind in kinds
    ]
    images = torch.rand(batch, 3, size, size) * 2 - 1
    region = Region(*torch.rand(3, batch, 1, size, size))
    attributes = torch.randint(0, 2, (batch, 5)).float()
    edits = [m.edits(attributes)[0] for m in manipulators]
    protector = Protector(size=size, generator_config={"channels": channels})
    recognizer = SFace(width=channels // 2).requires_grad_(False)
    return protector, manipulators, edits, [recognizer], MaskedFaces(images, region, None)


def one(how: tuple[str, str, str], kinds: Sequence[str], *scale: int) -> tuple[dict[str, float], int]:
    """Seconds of a step after the one that warms up, peak memory above what the networks take; operations."""
    form, weighting, space = how
    protector, manipulators, edits, recognizers, masked = setting(kinds, *scale)
    rule = make_weighting(weighting, alpha=(1.0,) * len(kinds), space=space)
    parts = protector, manipulators, edits, recognizers, rule, masked
    accelerator, loss = Accelerator(cpu=True), LossConfig()

    before, options = peak_mib(), {}
    if form == "kept":
        clean = [reference(m, edit, recognizers, masked, loss) for m, edit in zip(manipulators, edits, strict=True)]
        options = {"clean": clean.__getitem__, "micro_batch": 2}

    def step() -> None:
        if form in ("cut", "kept"):
            cut_graph_step(*parts, accelerator, loss, **options)
        else:
            protector.zero_grad()
            textbook_step(*parts, loss, apart=form == "official")

    work = operations(step)
    return {"seconds": seconds(step), "MiB": peak_mib() - before}, work


def measure(suite: Suite, options: Namespace) -> None:
    """Time, memory and arithmetic of a step in each form, and what it takes as manipulators grow."""
    scale = (options.batch, options.size, options.channels)
    suite.about(
        f"A training step: {len(PAPERS)} manipulators, batch {options.batch}, {options.size} px, width "
        f"{options.channels}. MiB: peak memory above what the networks take. Where the number of manipulators grows, "
        "all are StarGANs; the textbook's stop at 5."
    )
    for order in turns(options.repeats, VARIANTS):
        for name, how in order:
            figures, work = alone(one, how, PAPERS, *scale)
            suite.add(name, figures, of=f"textbook {'S-II' if how[1] == 'kpi' else 'S-I'}", operations=work)
    first = f"{options.manipulators[0]} manipulators"
    for count in options.manipulators:
        for name in ("cut S-I, perturbation", "cut S-II", *["textbook S-II"] * (count <= 5)):
            figures, work = alone(one, VARIANTS[name], ("stargan",) * count, *scale)
            suite.add(name, figures, of=f"{name}, {first}", at=("manipulators", count), operations=work)

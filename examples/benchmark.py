"""Measure what the project claims: `python examples/benchmark.py step | visits | train-manipulator | attack`.

`step` compares the cut-graph training step with the textbook one (one graph of all tasks) in one run: seconds
and peak memory a step, for KPI and MGDA, and memory against the number of manipulators; then a solve of MGDA.
Each figure comes from a process of its own, the variants taking turns; medians are printed.

`visits` compares how many faces a second a protector's training sees, with and without what need not be done anew.

`train-manipulator --faces FOLDER` compares images a second of StarGAN's training here with those of the plain loop:
a DataLoader that decodes each picture when its turn comes, float32, pictures judged one set at a time, a look at the
losses after every step. The peak that a share is of: a product of large matrices, same precision, same device.

`attack` compares `IDGuardAttack.generate` with the bare generator over the same batches, and with ART's PGD-10 on all
manipulators; and how far memory rises beyond the output. Take OMP_NUM_THREADS=1 where other work runs beside it.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

import torch
from accelerate import Accelerator
from torch import Tensor

from art_idguard.losses import LossConfig
from art_idguard.manipulators import MANIPULATORS, Manipulator
from art_idguard.objective import objective
from art_idguard.perturbation import Protector
from art_idguard.recognizers import Recognizer, default
from art_idguard.regions import MaskedFaces
from art_idguard.training.protector.step import cut_graph_step
from art_idguard.types import Edit, Region
from art_idguard.weighting import MGDAWeighting, TaskStatistics, TaskWeighting, make_weighting

VARIANTS = {
    "textbook S-I": ("textbook", "mgda", "parameters"),
    "cut S-I, perturbation": ("cut", "mgda", "perturbation"),
    "cut S-I, parameters": ("cut", "mgda", "parameters"),
    "textbook S-II": ("textbook", "kpi", "parameters"),
    "cut S-II": ("cut", "kpi", "parameters"),
}


def textbook_step(
    protector: Protector,
    manipulators: list[Manipulator],
    edits: list[Edit],
    recognizers: list[Recognizer],
    weighting: TaskWeighting,
    masked: MaskedFaces,
    loss: LossConfig,
) -> Tensor:
    """One graph of all tasks, autograd.grad per task by the generator's parameters, weighted sum, backward."""
    protected = protector(masked.images)
    tasks = [
        objective(m, edit, recognizers, masked, protected, loss) for m, edit in zip(manipulators, edits, strict=True)
    ]
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


def setting(count: int, batch: int, size: int) -> tuple:
    """Full-size networks with random weights: speed does not depend on what they have learnt."""
    torch.manual_seed(0)
    classes = [kind for kind in MANIPULATORS.values() if kind.published is None]  # the paper's
    manipulators = [classes[i % len(classes)]().eval().requires_grad_(False) for i in range(count)]
    images = torch.rand(batch, 3, size, size) * 2 - 1
    region = Region(*torch.rand(3, batch, 1, size, size))
    attributes = torch.randint(0, 2, (batch, 5)).float()
    edits = [m.edits(attributes)[0] for m in manipulators]
    return Protector(size=size), manipulators, edits, [default()], MaskedFaces(images, region, None)


def one(kind: str, weighting: str, space: str, count: int, batch: int, size: int) -> dict[str, float]:
    """Seconds of a step after a warm-up, and the process's peak memory above what the networks take."""
    protector, manipulators, edits, recognizers, masked = setting(count, batch, size)
    rule = make_weighting(weighting, alpha=(1.0,) * count, space=space)
    accelerator = Accelerator(cpu=True)
    loss = LossConfig()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(2):
        start = time.perf_counter()
        if kind == "cut":
            cut_graph_step(protector, manipulators, edits, recognizers, rule, masked, accelerator, loss)
        else:
            protector.zero_grad()
            textbook_step(protector, manipulators, edits, recognizers, rule, masked, loss)
        seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"seconds": seconds, "mib": peak / 1024}


def measured(variant: str, count: int, options: argparse.Namespace) -> dict[str, float]:
    """`one` in a process of its own."""
    command = [
        sys.executable,
        __file__,
        "one",
        variant,
        str(count),
        str(options.batch),
        str(options.size),
    ]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def step(options: argparse.Namespace) -> None:
    """Print the table of the cut-graph step against the textbook step."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in VARIANTS}
    for _ in range(options.repeats):
        for name in VARIANTS:
            runs[name].append(measured(name, 5, options))

    def median(name: str, figure: str) -> float:
        return statistics.median(run[figure] for run in runs[name])

    print(f"5 manipulators, batch {options.batch}, {options.size} px, {torch.get_num_threads()} threads")
    print("| step | seconds | of the textbook's | MiB | of the textbook's |\n|---|---|---|---|---|")
    for name in VARIANTS:
        base = "textbook S-II" if name.endswith("S-II") else "textbook S-I"
        row = [f"{median(name, f):.2f} | {median(name, f) / median(base, f):.2f}" for f in ("seconds", "mib")]
        print(f"| {name} | {' | '.join(row)} |")
    ratio = median("cut S-I, perturbation", "seconds") / median("cut S-II", "seconds")
    print(f"\nS-I in perturbation space costs {ratio:.3f} x S-II.")
    growth = {k: measured("cut S-II", k, options)["mib"] for k in (1, 5, 12)}
    print("Memory of cut S-II: " + ", ".join(f"{k} manipulators {m:.0f} MiB" for k, m in growth.items()))
    print(f"A solve of MGDA at K = 5: median {solve_milliseconds():.2f} ms")


def solve_milliseconds(tasks: int = 5, repeats: int = 50) -> float:
    """Median time of a solve, the first (which compiles the problem) left out."""
    weighting, times = MGDAWeighting(), []
    for i in range(repeats + 1):
        rows = torch.randn(tasks, 100, generator=torch.Generator().manual_seed(i), dtype=torch.float64)
        statistics_ = TaskStatistics(torch.ones(tasks), torch.ones(tasks), lambda _space, rows=rows: rows @ rows.T)
        start = time.perf_counter()
        weighting(statistics_)
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times[1:])


def visits(options: argparse.Namespace) -> None:
    """Print how many faces a second a protector's training sees."""
    from benchmark_visits import visits as compare

    compare(options)


def train_manipulator(options: argparse.Namespace) -> None:
    """Print how fast manipulators are trained."""
    from benchmark_manipulator import train_manipulator as compare

    compare(options)


def attack(options: argparse.Namespace) -> None:
    """Print what protecting costs."""
    from benchmark_attack import attack as compare  # imports ART, which the others do not need

    compare(options)


def main() -> None:
    """Parse the command line."""
    if sys.argv[1:2] == ["one"]:
        variant, count, batch, size = sys.argv[2], *map(int, sys.argv[3:])
        print(json.dumps(one(*VARIANTS[variant], count, batch, size)))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    commands = {"step": step, "visits": visits, "train-manipulator": train_manipulator, "attack": attack}
    parser.add_argument("what", choices=commands)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--faces", help="of train-manipulator: faces with labels")
    parser.add_argument("--channels", type=int, default=16, help="of train-manipulator: width; 64 is published")
    parser.add_argument("--steps", type=int, default=10, help="of train-manipulator: discriminator steps to time")
    parser.add_argument("--limit", type=int, default=256, help="of train-manipulator: faces to read")
    parser.add_argument("--images", type=int, default=256, help="of attack: images to protect")
    parser.add_argument("--pgd-images", type=int, default=2, help="of attack: images for PGD, which takes long")
    options = parser.parse_args()
    if options.what == "train-manipulator" and not options.faces:
        parser.error("train-manipulator needs --faces")
    commands[options.what](options)


if __name__ == "__main__":
    main()

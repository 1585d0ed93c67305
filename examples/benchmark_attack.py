"""The `attack` of benchmark.py: `IDGuardAttack.generate` against the bare generator, and against ART's PGD."""

import argparse
import multiprocessing
import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import torch
from art.attacks.evasion import ProjectedGradientDescent

from art_idguard import MANIPULATORS, IDGuardAttack, PyTorchManipulator
from art_idguard.images import resize, to_signed

MIB = 2**20


def faces(count: int, size: int) -> np.ndarray:
    """Images of noise: speed does not depend on what they show."""
    return np.random.default_rng(0).random((count, 3, size, size), dtype=np.float32)


def bare_forward(attack: IDGuardAttack, x: np.ndarray) -> Callable[[], object]:
    """The generator alone, over batches that lie ready on its device."""
    protector = attack.protector.to(attack.device).eval()
    images = to_signed(torch.from_numpy(x).to(attack.device))
    prior = resize(protector.prior.detach(), (x.shape[2], x.shape[3])).expand_as(images)
    ready = torch.cat([images, prior], dim=1).split(attack.batch_size)

    @torch.inference_mode()
    def forward() -> None:
        for batch in ready:
            protector.generator(batch)

    return forward


def seconds(run: Callable[[], object]) -> np.ndarray:
    """Of the clock, and of this process's CPU time, which other processes do not lengthen."""
    wait = torch.cuda.synchronize if torch.cuda.is_available() else (lambda: None)
    wait()
    start = np.array([time.perf_counter(), time.process_time()])
    run()
    wait()
    return np.array([time.perf_counter(), time.process_time()]) - start


def growth(count: int, size: int, batch: int) -> float:
    """MiB that the peak memory of this process rises, once warm, to protect so many images, the output included."""
    attack, x = IDGuardAttack.from_pretrained(batch_size=batch, verbose=False), faces(count, size)
    attack.generate(x[: 2 * batch])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    attack.generate(x)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def attack(options: argparse.Namespace) -> None:
    """Print the cost of `generate` beside the bare generator's and PGD's, and the growth of memory."""
    idguard = IDGuardAttack.from_pretrained(batch_size=options.batch, verbose=False)
    x = faces(options.images, options.size)
    runs = {"bare generator": bare_forward(idguard, x), "IDGuardAttack.generate": lambda: idguard.generate(x)}
    idguard.generate(x[: options.batch])
    times: dict[str, list[np.ndarray]] = {name: [] for name in runs}
    for i in range(options.repeats):
        for name in sorted(runs, reverse=bool(i % 2)):
            times[name].append(seconds(runs[name]))
    bare, ours = (np.array(times[name]) / len(x) for name in runs)
    setting = f"{options.size} px, batch {options.batch}, {torch.get_num_threads()} threads, {idguard.device}"
    print(f"{len(x)} images, {setting}; medians")
    print("| per image | seconds | CPU seconds |\n| --- | ---: | ---: |")
    for name, per_image in (("bare generator", bare), ("IDGuardAttack.generate", ours)):
        print(f"| {name} | {' | '.join(f'{v:.4f}' for v in np.median(per_image, axis=0))} |")
    print(f"| ratio | {' | '.join(f'{v:.3f}' for v in np.median(ours / bare, axis=0))} |")

    total = np.zeros(2)
    few = x[: options.pgd_images]
    gans = {name: kind for name, kind in MANIPULATORS.items() if kind.published is None}  # the paper's
    for name, manipulator in gans.items():  # with random weights: speed does not depend on them
        estimator = PyTorchManipulator(manipulator(), input_shape=x.shape[1:])
        pgd = ProjectedGradientDescent(estimator, eps=0.025, eps_step=0.005, max_iter=10, verbose=False)
        both = [seconds(lambda pgd=pgd: pgd.generate(few)) / len(few) for _ in range(options.repeats)]
        total += (taken := np.median(both, axis=0))
        print(f"| ART PGD-10 on {name} | {taken[0]:.3f} | {taken[1]:.3f} |", flush=True)
    print(f"| ART PGD-10, {len(gans)} manipulators | {total[0]:.3f} | {total[1]:.3f} |")
    print(f"| of which IDGuardAttack is faster | {' | '.join(f'{v:.0f} x' for v in total / np.median(ours, axis=0))} |")

    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as alone:
        for count in (options.images // 2, options.images):
            found = alone.submit(growth, count, options.size, options.batch).result()
            output = count * x[0].nbytes / MIB
            print(f"Peak memory for {count} images rises by {found:.1f} MiB; output {output:.1f} MiB")

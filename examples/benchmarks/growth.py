"""Cost as work grows: images, pixels, and processes that share the threads. Of manipulators see `step` and `refine`."""

import os
from argparse import Namespace
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing.synchronize import Barrier
from pathlib import Path

import torch

from art_idguard import IDGuardAttack
from art_idguard.perturbation import Protector

from .attack import noise
from .measuring import PROCESSES, alone, operations, seconds
from .memory import peak_mib
from .photos import SIDES, photo, protect
from .suite import Suite


def generate(count: int, size: int, batch: int) -> tuple[dict[str, float], float]:
    """Seconds of an image once warm, peak memory above network and input; operations of an image."""
    attack, x = IDGuardAttack.from_pretrained(batch_size=batch, verbose=False), noise(count, size)
    before = peak_mib()
    work = operations(lambda: attack.generate(x[:batch])) / len(x[:batch])
    taken = seconds(lambda: attack.generate(x))
    return {"seconds": taken / count, "MiB": peak_mib() - before, "MiB of output": x.nbytes / 2**20}, work


def begin(threads: int, everybody: Barrier, source: Path) -> None:
    """A worker has its network in memory, and is warm, before the clock runs."""
    torch.set_num_threads(threads)
    _WORKER["protect"] = partial(protect, source, Protector.from_pretrained().requires_grad_(False), str(os.getpid()))
    _WORKER["protect"]()
    everybody.wait(timeout=600)


def work(photos: int) -> None:
    """Protect a photo so many times."""
    for _ in range(photos):
        _WORKER["protect"]()


def by_processes(count: int, photos: int) -> float:
    """Seconds a photo of so many processes together, each of which protects so many."""
    threads = max(1, torch.get_num_threads() // count)
    ready = (threads, PROCESSES.Barrier(count), photo(SIDES[0]))
    with ProcessPoolExecutor(count, PROCESSES, initializer=begin, initargs=ready) as pool:
        list(pool.map(work, [0] * count))
        return seconds(lambda: list(pool.map(work, [photos] * count))) / (count * photos)


def measure(suite: Suite, options: Namespace) -> None:
    """Images, then pixels, then processes."""
    suite.about(
        "IDGuardAttack.generate, each in a process of its own: an image's seconds, and peak memory above what network "
        f"and input take, output included. Images have {options.size} px, in batches of {options.batch}; of the pixels "
        f"there are two images, one at a time. Processes share the threads; their photos have {SIDES[0]} px."
    )
    device = "cuda" if torch.cuda.is_available() else "cpu"

    def add(what: str, value: int, count: int, size: int, batch: int) -> None:
        figures, work = alone(generate, count, size, batch)
        suite.add("generate", figures, at=(what, value), operations=work, peak=f"{device} float32")

    for count in (options.images // 4, options.images // 2, options.images):
        add("images", count, count, options.size, options.batch)
    for pixels in options.pixels:
        add("pixels", pixels, 2, pixels, 1)
    for count in (1, 2):
        taken = by_processes(count, options.photos)
        suite.add("protect a photo", {"seconds": taken, "photos a second": 1 / taken}, at=("processes", count))


_WORKER: dict[str, Callable[[], None]] = {}
"""What a worker keeps from `begin` to `work`."""

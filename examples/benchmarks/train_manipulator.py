"""Images a second of StarGAN's training here, against the plain loop.

That has a DataLoader that decodes each picture when its turn comes, float32, pictures judged one set at a time, and a
look at the losses after every step.
"""

import io
import itertools
import os
import tempfile
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from art_idguard.data.sources import Entry, entries
from art_idguard.training.manipulator.config import ManipulatorConfig
from art_idguard.training.manipulator.losses import classification, gradient_penalty
from art_idguard.training.manipulator.objectives import OBJECTIVES
from art_idguard.training.manipulator.objectives.base import random_shares
from art_idguard.training.manipulator.setup import build_run
from art_idguard.training.manipulator.step import train_step
from art_idguard.types import ATTRIBUTES, Edit

from .measuring import DTYPES, operations, seconds
from .suite import Suite


class Pictures(Dataset):
    """Decodes and mirrors a picture when it is asked for."""

    def __init__(self, found: list[Entry], size: int) -> None:
        self.found, self.size = found, size

    def __len__(self) -> int:
        return len(self.found)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        picture = Image.open(io.BytesIO(self.found[i].read())).convert("RGB").resize((self.size, self.size))
        x = torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 127.5 - 1
        return x.flip(-1) if torch.rand(()) < 0.5 else x, torch.tensor(self.found[i].attributes)


def plain_steps(config: ManipulatorConfig) -> Callable[[], None]:
    """StarGAN's training step as it is usually written."""
    device = Accelerator().device
    found = entries(Path(config.faces), config.split, config.limit, required=ATTRIBUTES)
    workers = min(4, os.cpu_count() or 1)
    pictures = Pictures(found, config.size)
    loader = DataLoader(pictures, config.batch_size, shuffle=True, num_workers=workers, drop_last=True)
    batches = (batch for _ in itertools.count() for batch in loader)
    objective = OBJECTIVES["stargan"]
    generator, discriminator = objective.generator(config).to(device), objective.discriminator(config).to(device)
    g_adam, d_adam = (torch.optim.Adam(n.parameters(), config.lr, config.betas) for n in (generator, discriminator))
    count = itertools.count(1)

    def step() -> None:
        x, labels = (t.to(device) for t in next(batches))
        target = Edit("labels", labels[torch.randperm(len(labels), device=device)])
        fake = generator(x, target).output
        real_scores, logits = discriminator(x)
        penalty = gradient_penalty(lambda p: discriminator(p)[0], x, fake.detach(), random_shares(x))
        d_loss = discriminator(fake.detach())[0].mean() - real_scores.mean() + classification(logits, labels)
        d_loss = d_loss + 10 * penalty
        d_adam.zero_grad()
        d_loss.backward()
        d_adam.step()
        d_loss.item()
        if next(count) % config.n_critic == 0:
            fake = generator(x, target).output
            scores, logits = discriminator(fake)
            cycle = generator(fake, Edit("labels", labels)).output
            g_loss = classification(logits, target.condition) - scores.mean() + 10 * (x - cycle).abs().mean()
            g_adam.zero_grad()
            g_loss.backward()
            g_adam.step()
            g_loss.item()

    return step


def our_steps(config: ManipulatorConfig) -> Callable[[], None]:
    """A step of `train_manipulator`."""
    run = build_run(config)
    return lambda: (train_step(run, progress=0.0), None)[1]


def images_per_second(step: Callable[[], None], config: ManipulatorConfig, repeats: int) -> Iterator[float]:
    """Over as many steps as `config.steps`, in parts with whole turns of the generator, after two turns of it."""
    for _ in range(2 * config.n_critic):
        step()
    steps = config.n_critic * -(-config.steps // (repeats * config.n_critic))
    for _ in range(repeats):
        yield steps * config.batch_size / seconds(lambda: [step() for _ in range(steps)])


def work_per_image(step: Callable[[], None], config: ManipulatorConfig) -> float:
    """Floating point operations for one image, over one turn of the generator."""
    turn = operations(lambda: [step() for _ in range(config.n_critic)])
    return turn / (config.n_critic * config.batch_size)


def measure(suite: Suite, options: Namespace) -> None:
    """Images a second of the plain loop and of ours, and how busy they keep the device.

    A loop's repeats follow each other: accelerate has one precision in a process.
    """
    if not options.faces:
        suite.note("left out: it needs --faces FOLDER, of faces with labels")
        return
    variants: dict[str, tuple[Any, ...]] = {
        "plain loop, float32": (plain_steps, "no", False),
        "ours, float32": (our_steps, "no", False),
    }
    if torch.cuda.is_available():
        variants |= {"ours, bf16": (our_steps, "bf16", False), "ours, bf16, compiled": (our_steps, "bf16", True)}
    suite.about(f"StarGAN, batch {options.batch}, {options.size} px, width {options.channels}; seconds are an image's.")
    first, work = next(iter(variants)), 0.0
    for name, (make, precision, compiled) in variants.items():
        AcceleratorState._reset_state(reset_partial_state=True)
        with tempfile.TemporaryDirectory() as folder:
            config = ManipulatorConfig(
                manipulator="stargan",
                faces=options.faces,
                output=folder,
                size=options.size,
                channels=options.channels,
                batch_size=options.batch,
                steps=options.steps,
                limit=options.limit,
                precision=precision,
                compile=compiled,
            )
            step = make(config)
            work = work or work_per_image(step, config)  # the plain loop's: what has to be done
            peak = f"{Accelerator().device.type} {DTYPES[precision]}"
            for speed in images_per_second(step, config, options.repeats):
                figures = {"images a second": speed, "seconds": 1 / speed}
                suite.add(name, figures, of=first, operations=work, peak=peak)

"""A step of every manipulator's training in this number of processes; saves gradients for a test.

A single process takes the two shares of the batch one after the other, and averages.
"""

import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import torch
from accelerate import Accelerator
from safetensors.torch import save_file

from art_idguard.training.manipulator.config import ManipulatorConfig
from art_idguard.training.manipulator.objectives import OBJECTIVES
from art_idguard.training.manipulator.setup import build_run
from art_idguard.training.manipulator.step import train_step


def gradients(name, faces, output, share=None):
    """Of both networks; without learning, so that the generator meets the same discriminator everywhere."""
    tiny = {"size": 64, "channels": 8, "batch_size": 6, "n_critic": 1, "steps": 4, "clip": float("inf")}
    still = {"lr": 0.0, "mapper_lr": 0.0}
    settings = {"manipulator": name, "faces": faces, "output": str(output)}
    run = build_run(ManipulatorConfig.from_recipe(None, **settings, **tiny, **still))
    if share is not None:
        run.accelerator = SimpleNamespace(
            process_index=share,
            num_processes=2,
            use_distributed=False,
            device=torch.device("cpu"),
            autocast=nullcontext,
        )
    train_step(run, progress=0.0)
    found = [p.grad for network in run.networks.values() for p in network.parameters() if p.grad is not None]
    return torch.cat([gradient.flatten() for gradient in found])


def main(faces, output):
    accelerator = Accelerator(cpu=True)
    count = accelerator.num_processes
    found = {"processes": torch.tensor(count)}
    for name in OBJECTIVES:
        shares = (0, 1) if count == 1 else (None,)
        parts = [gradients(name, faces, output / f"{count}-{name}-{share}", share) for share in shares]
        found[name] = torch.stack(parts).mean(dim=0)
    if accelerator.is_main_process:
        save_file(found, output / f"{count}.safetensors")
    accelerator.end_training()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))

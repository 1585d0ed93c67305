"""A step of every weighting in this number of processes; saves gradients and weights. See test_training.py."""

import sys
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors.torch import save_file

from art_idguard.data.faces import FaceBatch
from art_idguard.data.reading import read_faces
from art_idguard.losses import PAPER
from art_idguard.manipulators import load
from art_idguard.perturbation import Protector
from art_idguard.recognizers import default
from art_idguard.regions import heat_maps, masked_faces
from art_idguard.training.protector.step import cut_graph_step
from art_idguard.weighting import WEIGHTINGS, make_weighting
from tests.toys import ToyRecognizer

CASES = {
    ("faces", torch.float32): ["kpi", "mgda"],
    ("faces", torch.float64): [*WEIGHTINGS, "mgda-parameters"],
    ("tasks", torch.float64): ["kpi", "mgda", "mgda-parameters"],
}
"""Weightings by what processes share out and by precision."""


def main(workplace, output):
    accelerator = Accelerator(cpu=True)
    rank, count = accelerator.process_index, accelerator.num_processes
    faces = heat_maps(read_faces(workplace / "faces", size=32), default())
    whole = torch.arange(4)
    found = {"processes": torch.tensor(count)}
    for (spread, dtype), names in CASES.items():
        batch = faces.batch(whole[rank::count] if spread == "faces" else whole)
        view = masked_faces(FaceBatch(*(None if t is None else t.to(dtype) for t in batch)))
        torch.manual_seed(0)
        recognizers = [ToyRecognizer().to(dtype).requires_grad_(False)]
        targets = [load(str(workplace / name)).to(dtype) for name in ("stargan", "relgan", "stargan")]
        asked: list[object] = []
        for target in targets:
            target.register_forward_pre_hook(lambda *_, asked=asked: asked.append(None))
        edits = [t.edits(batch.attributes.to(dtype))[i] for i, t in enumerate(targets)]
        for name in names:
            torch.manual_seed(0)
            protector = Protector(size=32, generator_config={"channels": 8, "norm": "instance"}).to(dtype)
            protector.prior.data.uniform_(-0.05, 0.05)
            weighting, _, space = name.partition("-")
            rule = make_weighting(weighting, alpha=(1.0, 10.0, 3.0), space=space or "perturbation").to(dtype)
            shares = (spread, name) == ("tasks", "kpi")
            for _ in range(2):  # KPI's first weights are its prior ones
                report = cut_graph_step(
                    protector, targets, edits, recognizers, rule, view, accelerator, PAPER, shares=shares, spread=spread
                )
            key = f"{name}.{spread}.{dtype}"
            found[key] = torch.cat([p.grad.flatten() for p in protector.parameters() if p.grad is not None])
            said = report._asdict().items()
            found |= {f"{key}.{field}": value for field, value in said if value is not None}
        found[f"{spread}.{dtype}.asked"] = torch.tensor(len(asked))
    if accelerator.is_main_process:
        save_file(found, output / f"{count}.safetensors")
    accelerator.end_training()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))

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

NAMES = {torch.float32: ["kpi", "mgda"], torch.float64: [*WEIGHTINGS, "mgda-parameters"]}


def main(workplace, output):
    accelerator = Accelerator(cpu=True)
    rank, count = accelerator.process_index, accelerator.num_processes
    faces = heat_maps(read_faces(workplace / "faces", size=32), default())
    batch = faces.batch(torch.arange(4)[rank::count])
    found = {"processes": torch.tensor(count)}
    for dtype in (torch.float32, torch.float64):
        view = masked_faces(FaceBatch(*(None if t is None else t.to(dtype) for t in batch)))
        torch.manual_seed(0)
        recognizers = [ToyRecognizer().to(dtype).requires_grad_(False)]
        targets = [load(str(workplace / name)).to(dtype) for name in ("stargan", "relgan")]
        edits = [t.edits(batch.attributes.to(dtype))[3] for t in targets]
        for name in NAMES[dtype]:
            torch.manual_seed(0)
            protector = Protector(size=32, generator_config={"channels": 8, "norm": "instance"}).to(dtype)
            protector.prior.data.uniform_(-0.05, 0.05)
            weighting, _, space = name.partition("-")
            rule = make_weighting(weighting, alpha=(1.0, 10.0), space=space or "perturbation").to(dtype)
            for _ in range(2):  # KPI's first weights are its prior ones
                report = cut_graph_step(protector, targets, edits, recognizers, rule, view, accelerator, PAPER)
            found[f"{name}.{dtype}"] = torch.cat(
                [p.grad.flatten() for p in protector.parameters() if p.grad is not None]
            )
            found[f"{name}.{dtype}.weights"] = report.weights
    if accelerator.is_main_process:
        save_file(found, output / f"{count}.safetensors")
    accelerator.end_training()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))

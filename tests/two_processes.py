"""One step of every weighting in this number of processes; saves gradient and weights. See test_training.py."""

import sys
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors.torch import save_file

from art_idguard.data import read_faces
from art_idguard.losses import PAPER
from art_idguard.manipulators import load
from art_idguard.perturbation import Protector
from art_idguard.recognizers import default
from art_idguard.regions import heat_maps, scene
from art_idguard.training.step import cut_graph_step, parameters
from art_idguard.weighting import WEIGHTINGS, make_weighting

workplace, output = map(Path, sys.argv[1:])
accelerator = Accelerator(cpu=True)
rank, count = accelerator.process_index, accelerator.num_processes
recognizer = default()
faces = heat_maps(read_faces(workplace / "faces", size=64), recognizer)
batch = faces.batch(torch.arange(4)[rank::count])
targets = [load(str(workplace / name)) for name in ("stargan", "relgan")]
edits = [t.edits(batch.attributes)[3] for t in targets]
for name in [*WEIGHTINGS, "mgda-parameters"]:
    torch.manual_seed(0)
    protector = Protector(size=64, generator_config={"channels": 8, "norm": "instance"})
    protector.prior.data.uniform_(-0.05, 0.05)
    weighting, _, space = name.partition("-")
    rule = make_weighting(weighting, alpha=(1.0, 10.0), space=space or "perturbation")
    for _ in range(2):  # KPI's first weights are its prior ones
        report = cut_graph_step(protector, targets, edits, recognizer, rule, scene(batch), accelerator, PAPER)
    if accelerator.is_main_process:
        gradient = torch.cat([p.grad.flatten() for p in parameters(protector)])
        found = {"gradient": gradient, "weights": report.weights, "processes": torch.tensor(count)}
        save_file(found, output / f"{name}-{count}.safetensors")
accelerator.end_training()

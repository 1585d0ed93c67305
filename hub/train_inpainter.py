"""Trains the face inpainter of Table V; see hub/restorers/inpainter-celeba128.

    python hub/train_inpainter.py --faces celeba128 --output hub/restorers/inpainter-celeba128

The error where something is missing, on held-out faces and beside OpenCV's two, goes to quality.json and quality.md
beside the weights. It does not resume.
"""

import argparse
import json
import platform
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from art_idguard.data.reading import read_labelled
from art_idguard.evaluation.statistics import Estimate, estimate
from art_idguard.faces.alignment import celeba_landmarks
from art_idguard.files.atomic import write_text
from art_idguard.files.digests import sha256
from art_idguard.images import from_uint8
from art_idguard.regions import component_mask
from art_idguard.restorers.inpainter import SIZE, FaceInpainter
from art_idguard.restorers.opencv import navier_stokes, telea

HOLE_WEIGHT = 6.0
"""Of the error where something is missing, beside that of the whole (Liu et al., ECCV 2018)."""


def random_masks(count: int) -> Tensor:
    """Half of the faces lack eyes, brows, nose and mouth, moved and grown a little, the others a rectangle."""
    components = component_mask(celeba_landmarks((SIZE, SIZE)), (SIZE, SIZE)).expand(count, -1, -1, -1)
    shift = [int(s) for s in torch.randint(-6, 7, (2,))]
    grown = 2 * int(torch.randint(0, 5, ())) + 1
    components = F.max_pool2d(torch.roll(components, shift, (2, 3)), grown, stride=1, padding=grown // 2)
    middle, half = SIZE * (0.2 + 0.6 * torch.rand(2, count, 1)), SIZE * (0.06 + 0.2 * torch.rand(2, count, 1))
    inside = (torch.arange(SIZE) - middle).abs() < half
    rectangles = (inside[0][:, :, None] & inside[1][:, None, :])[:, None].float()
    return torch.where(torch.rand(count, 1, 1, 1) < 0.5, (components > 0.5).float(), rectangles)


def train(images: Tensor, *, steps: int, batch_size: int, lr: float) -> FaceInpainter:
    """L1 in bfloat16 where that is faster, on mirrored faces; AdamW with a one-cycle learning rate."""
    model = FaceInpainter().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    with tqdm(range(steps), "training", mininterval=10) as bar:
        for _ in bar:
            x = from_uint8(images[torch.randint(len(images), (batch_size,))])
            x = torch.where(torch.rand(len(x), 1, 1, 1) < 0.5, x.flip(3), x)
            holes = random_masks(len(x))
            with torch.autocast("cpu", torch.bfloat16):
                filled = model.fill(x * (1 - holes), holes)
            error = (filled.float() - x).abs()
            loss = error.mean() + HOLE_WEIGHT * (error * holes).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            bar.set_postfix_str(f"loss {float(loss):.3f}", refresh=False)
    return model.eval()


@torch.no_grad()
def measure(model: FaceInpainter, images: Tensor) -> dict[str, Estimate]:
    """Mean square, on the [-1, 1] scale, of what each restorer makes of eyes, brows, nose and mouth."""
    mask = component_mask(celeba_landmarks((SIZE, SIZE)), (SIZE, SIZE))
    found: dict[str, list[Tensor]] = {}
    for part in images.split(50):
        x, holes = from_uint8(part), mask.expand(len(part), -1, -1, -1)
        for name, restorer in {"learned": model, "telea": telea, "navier-stokes": navier_stokes}.items():
            error = (restorer(x, holes) - x).square() * (holes > 0.5)
            found.setdefault(name, []).append(error.sum(dim=(1, 2, 3)) / (3 * (holes > 0.5).sum(dim=(1, 2, 3))))
    return {name: estimate(torch.cat(parts)[:, None]) for name, parts in found.items()}


def save_report(output: Path, found: dict[str, Estimate], metadata: dict[str, object]) -> None:
    """Write quality.json and quality.md, for the card."""
    errors = {name: of.json() for name, of in found.items()}
    summary = {"where it was masked": {"mean squared error": errors.pop("learned")}}
    lines = ["| Restorer | mean squared error where it was masked↓ |", "|---|---:|"]
    lines += [f"| {name} | {of.text(4, bounds=True)} |" for name, of in found.items()]
    write_text(
        output / "quality.json",
        json.dumps({"metadata": metadata, "summary": summary, "beside": errors}, indent=1) + "\n",
    )
    write_text(output / "quality.md", "\n".join(lines) + "\n")


def main() -> None:
    """Train, measure and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", required=True, help="data set folder with train and test splits")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    images, _ = read_labelled(options.faces, attributes=(), size=SIZE)
    start = time.monotonic()
    model = train(images, steps=options.steps, batch_size=options.batch_size, lr=options.lr)
    minutes = (time.monotonic() - start) / 60
    model.half().save_pretrained(options.output)
    model = FaceInpainter.from_pretrained(options.output)
    held_out, _ = read_labelled(options.faces, attributes=(), size=SIZE, split="test", limit=500)
    metadata = {
        "data": {"name": Path(options.faces).name, "split": "test"},
        "n": len(held_out),
        "trained_on": len(images),
        "seed": options.seed,
        "steps": options.steps,
        "batch_size": options.batch_size,
        "lr": options.lr,
        "minutes": round(minutes, 1),
        "hardware": f"{platform.machine()} CPU, {torch.get_num_threads()} threads",
        "weights": sha256(options.output / "model.safetensors"),
    }
    save_report(options.output, measure(model, held_out), metadata)
    print((options.output / "quality.md").read_text())


if __name__ == "__main__":
    main()

"""Trains the attribute classifier that judges edits; see hub/classifiers/attributes-celeba128.

    python hub/train_attributes.py --faces celeba128 --output hub/classifiers/attributes-celeba128

Held-out accuracy goes to quality.json and quality.md beside the weights. It takes 26 minutes on one thread of a busy
CPU and does not resume.
"""

import argparse
import json
import platform
import time
from pathlib import Path
from typing import NamedTuple

import torch
from torch.nn import functional as F
from tqdm import tqdm

from art_idguard.attribute_classifier import HAIR, LABELS, AttributeClassifier
from art_idguard.data.reading import read_labelled
from art_idguard.evaluation.statistics import Estimate, estimate
from art_idguard.files.atomic import write_text
from art_idguard.files.digests import sha256
from art_idguard.images import from_uint8

HAIR_COLOUR = "the likeliest hair colour, on faces with just one"
"""What edits of the hair are judged by."""


def train(
    images: torch.Tensor, labels: torch.Tensor, *, epochs: int, batch_size: int, lr: float
) -> AttributeClassifier:
    """Binary cross-entropy on mirrored and shifted faces; Adam with a one-cycle learning rate."""
    model = AttributeClassifier().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.05)
    steps = epochs * (len(images) // batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    with tqdm(total=steps, desc="training") as bar:
        for _ in range(epochs):
            for index in torch.randperm(len(images)).split(batch_size)[: len(images) // batch_size]:
                x = from_uint8(images[index])
                x = torch.where(torch.rand(len(x), 1, 1, 1) < 0.5, x.flip(3), x)
                shift = [int(s) for s in torch.randint(-4, 5, (2,))]
                x = torch.roll(F.pad(x, (4, 4, 4, 4), mode="replicate"), shift, (2, 3))[..., 4:-4, 4:-4]
                loss = F.binary_cross_entropy_with_logits(model(x), labels[index])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                bar.update()
                bar.set_postfix_str(f"loss {float(loss):.3f}")
    return model.eval()


class Accuracy(NamedTuple):
    """On held-out faces, with that of always saying the most frequent value beside it."""

    accuracy: Estimate
    majority: float


@torch.no_grad()
def measure(model: AttributeClassifier, images: torch.Tensor, labels: torch.Tensor) -> dict[str, Accuracy]:
    """The accuracy of each attribute, and of the choice among hair colours."""
    logits = torch.cat([model(from_uint8(part)) for part in images.split(100)])
    found = {name: _accuracy(logits[:, i] > 0, labels[:, i].bool()) for i, name in enumerate(LABELS)}
    hair, said = labels[:, : len(HAIR)], logits[:, : len(HAIR)].argmax(dim=1)
    one = hair.sum(dim=1) == 1
    return found | {HAIR_COLOUR: _accuracy(said[one], hair[one].argmax(dim=1))}


def _accuracy(said: torch.Tensor, truth: torch.Tensor) -> Accuracy:
    constant = (truth == truth.mode().values).double().mean().item()
    return Accuracy(estimate((said == truth).double()[:, None]), constant)


def save_report(output: Path, found: dict[str, Accuracy], metadata: dict[str, object]) -> None:
    """Write quality.json and quality.md, for the card."""
    summary = {}
    lines = ["| Attribute | accuracy (bootstrap 95 % interval) | always the most frequent value |", "|---|---:|---:|"]
    for name, (e, majority) in found.items():
        interval = dict(zip(("mean", "low", "high"), e[:3], strict=True))
        summary[name] = {"accuracy": interval, "majority": majority}
        lines.append(f"| {name} | {e.mean:.1%} ({e.low:.1%} to {e.high:.1%}) | {majority:.1%} |")
    write_text(output / "quality.json", json.dumps({"metadata": metadata, "summary": summary}, indent=1) + "\n")
    write_text(output / "quality.md", "\n".join(lines) + "\n")


def main() -> None:
    """Train, measure and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", required=True, help="data set folder with train and test splits and labels")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    images, labels = read_labelled(options.faces, attributes=LABELS, size=128)
    start = time.monotonic()
    model = train(images, labels, epochs=options.epochs, batch_size=options.batch_size, lr=options.lr)
    minutes = (time.monotonic() - start) / 60
    model.half().save_pretrained(options.output)
    model = AttributeClassifier.from_pretrained(options.output)
    held_out, truth = read_labelled(options.faces, attributes=LABELS, size=128, split="test")
    metadata = {
        "data": {"name": Path(options.faces).name, "split": "test"},
        "n": len(held_out),
        "trained_on": len(images),
        "seed": options.seed,
        "epochs": options.epochs,
        "batch_size": options.batch_size,
        "lr": options.lr,
        "minutes": round(minutes, 1),
        "hardware": f"{platform.machine()} CPU, {torch.get_num_threads()} threads",
        "weights": sha256(options.output / "model.safetensors"),
    }
    save_report(options.output, measure(model, held_out, truth), metadata)
    print((options.output / "quality.md").read_text())


if __name__ == "__main__":
    main()

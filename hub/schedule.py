"""The schedule of the small family (64 px, a quarter of the width): what StarGAN learns for an hour of training.

    python hub/schedule.py --faces celeba128 --output runs/schedule

For each variant and number of the generator's updates it measures how many edits succeed (the shipped classifier), how
much of the person is kept (SFace's cosine to the photo), and how far a white box aimed at the criterion gets (L2_face,
share of faces whose identity is broken), and draws them against updates and against minutes. Trainings and
measurements are kept, so a rerun goes on; each update is the training command's own, at a constant learning rate, so
that a longer run is the shorter one continued.
"""

import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from art_idguard import manipulators, recognizers
from art_idguard.attribute_classifier import default as attribute_classifier
from art_idguard.baselines.criterion import criterion_white_box
from art_idguard.baselines.noise import sign_noise
from art_idguard.data.faces import Faces
from art_idguard.data.reading import read_faces
from art_idguard.evaluation.plots import Panel, curves, save_plot
from art_idguard.evaluation.protection import evaluate
from art_idguard.evaluation.quality import measure_quality
from art_idguard.evaluation.report import CEILING
from art_idguard.evaluation.statistics import Estimate, environment_info
from art_idguard.files.atomic import write_text
from art_idguard.files.parsing import read_toml
from art_idguard.files.recipe import SETTINGS
from art_idguard.training.manipulator import ManipulatorConfig, train_manipulator

VARIANTS: dict[str, dict[str, Any]] = {
    "published: 5 critic steps, batch 16, lr 1e-4": {},
    "2 critic steps": {"n_critic": 2},
    "1 critic step": {"n_critic": 1},
    "1 critic step, lr 4e-4": {"n_critic": 1, "lr": 4e-4},
    "5 critic steps, lr 4e-4": {"lr": 4e-4},
    "2 critic steps, lr 4e-4": {"n_critic": 2, "lr": 4e-4},
    "2 critic steps, lr 1e-3": {"n_critic": 2, "lr": 1e-3},
}
"""By name, what differs from StarGAN's published settings; all at a quarter of the width, in bf16."""

SIZE, CHANNELS, EPSILON = 64, 16, 0.05
QUALITY_FACES, WHITE_BOX_FACES, WHITE_BOX_STEPS = 100, 20, 40


def train(name: str, updates: int, *, faces: str, output: Path) -> dict[str, Any]:
    """Carry a variant to so many updates of its generator and keep what it is then; returns its seconds.

    Args:
        name: of `VARIANTS`.
        updates: of the generator, counted from the start.
        faces: a data set with labels.
        output: folder of the variant, in which each snapshot is a folder named after its updates.
    """
    snapshot = output / str(updates)
    if not snapshot.exists():
        settings = {"size": SIZE, "channels": CHANNELS, "precision": "bf16", "decay_from": 1.0, **VARIANTS[name]}
        config = ManipulatorConfig.from_recipe(
            None, manipulator="stargan", faces=faces, output=str(output / "run"), **settings
        )
        config = replace(config, steps=updates * config.n_critic, checkpoint_every=1000, sample_every=10**9)
        trained = train_manipulator(config, resume=True, on_stop=_interrupt)
        shutil.copytree(trained, draft := output / f".{updates}", dirs_exist_ok=True)
        shutil.copy(output / "run" / "log.jsonl", draft)
        draft.rename(snapshot)
    last = json.loads((snapshot / "log.jsonl").read_text().splitlines()[-1])
    return {"updates": updates, "seconds": last["seconds"]}


def _interrupt(message: str) -> None:
    """A training that was stopped is no snapshot."""
    raise KeyboardInterrupt(message)


def measure(snapshot: Path, tested: Faces) -> dict[str, Any]:
    """Edit success on all faces, and the criterion's white box on the first of them."""
    model, recognizer = manipulators.load(str(snapshot)), recognizers.default()
    quality = measure_quality(model, tested, attribute_classifier(), recognizer)
    aimed = criterion_white_box([recognizer], epsilon=EPSILON, steps=WHITE_BOX_STEPS)
    report = evaluate(
        {"noise": sign_noise(epsilon=EPSILON, seed=0)},
        {"stargan": model},
        tested.select(list(range(WHITE_BOX_FACES))),
        {recognizer.name: recognizer},
        epsilon=EPSILON,
        edits="cycle",
        references={CEILING: aimed},
        reference_faces=WHITE_BOX_FACES,
    )
    return {
        "edit success": quality.cell("success").json(),
        "identity kept": quality.cell("similarity").json(),
        "there and back (L1)": quality.cell("cycle").json(),
        **{
            m: report.mean(m)(CEILING).json()
            for m in ("l2_face", f"similarity.{recognizer.name}", f"dsr.{recognizer.name}")
        },
        "noise l2_face": report.mean("l2_face")("noise").json(),
    }


def main() -> None:
    """Train, measure and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", required=True, help="data set with train and test split and labels")
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument("--updates", type=int, nargs="+", default=[250, 500, 1000, 2000, 4000])
    parser.add_argument("--variants", type=int, nargs="+", default=range(len(VARIANTS)), help="of VARIANTS, from 0")
    args = parser.parse_args()
    tested = read_faces(
        args.faces, size=SIZE, split="test", limit=QUALITY_FACES, cache=args.output / "regions.safetensors"
    )
    for updates in args.updates:
        for i in args.variants:
            record = args.output / f"{i}-{updates}.json"
            if not record.exists():
                name = [*VARIANTS][i]
                found = train(name, updates, faces=args.faces, output=args.output / str(i))
                found |= measure(args.output / str(i) / str(updates), tested)
                write_text(record, json.dumps({"variant": name, **found}))
    save(args.output)


def save(output: Path) -> None:
    """All records as schedule.json, and a figure of them against updates and minutes."""
    records = []
    speed = _updates_a_minute(output)
    for i, settings in enumerate(VARIANTS.values()):
        found = [json.loads(file.read_text()) for file in output.glob(f"{i}-*.json")]
        found.sort(key=lambda record: record["updates"])
        records += [record | {"minutes": record["updates"] / speed[settings.get("n_critic", 5)]} for record in found]
    about = {"settings": VARIANTS, "faces": QUALITY_FACES, "white box": [WHITE_BOX_FACES, WHITE_BOX_STEPS]}
    whole = {**about, **environment_info(torch.device("cpu")), "records": records}
    write_text(output / "schedule.json", json.dumps(whole, indent=1) + "\n")
    measured = dict.fromkeys(record["variant"] for record in records)
    panels = [
        Panel(f"{measure} by {axis}", {name: _course(records, name, measure, axis) for name in measured})
        for axis in ("updates", "minutes")
        for measure in ("edit success", "identity kept", "l2_face")
    ]
    save_plot(output / "schedule.png", curves(panels), "")


def _updates_a_minute(output: Path) -> dict[int, float]:
    """Of the generator, by n_critic, where nothing else was busy: by the logs' highest 95th percentile of speed."""
    speeds: dict[int, float] = {}
    for log in output.glob("*/run/log.jsonl"):
        settings = read_toml(log.with_name(SETTINGS))
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        fast = float(np.quantile([line["images_per_second"] for line in lines], 0.95))
        critic = settings["n_critic"]
        speeds[critic] = max(speeds.get(critic, 0), 60 * fast / settings["batch_size"] / critic)
    return speeds


def _course(records: list[dict[str, Any]], variant: str, measure: str, axis: str) -> dict[float, Estimate]:
    """A curve of the figure."""
    return {
        record[axis]: Estimate(*(record[measure][key] for key in ("mean", "low", "high")))
        for record in records
        if record["variant"] == variant
    }


if __name__ == "__main__":
    main()

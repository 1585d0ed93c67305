"""What is noted of a protector's training: a line a step, sample pictures."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from art_idguard.baselines.idguard import id_guard, p_pert
from art_idguard.evaluation.checks import named
from art_idguard.losses import TERMS
from art_idguard.metrics import forgery_distance
from art_idguard.training.edits import edits_of
from art_idguard.training.protector.run import ProtectorRun
from art_idguard.training.protector.step import StepReport

SAMPLE_FACES = 8
COLUMNS = "photo | protected | forged | when protected | P-Pert | 10 x change"


def record(run: ProtectorRun, report: StepReport) -> dict[str, Any]:
    """A line of the log: objective, KPI and weight of each manipulator in the step that the run has just finished."""
    names = list(named(run.manipulators))
    line: dict[str, Any] = {"step": run.step, "seconds": round(run.elapsed, 2)}
    values = report._replace(shares=None)._asdict()
    line |= {field: dict(zip(names, v.tolist(), strict=True)) for field, v in values.items() if v is not None}
    for term, column in zip(TERMS, () if report.shares is None else report.shares.T, strict=False):
        line[f"share of {term}"] = dict(zip(names, column.tolist(), strict=True))
    if (gap := getattr(run.weighting, "gap", None)) is not None:
        line["duality_gap"] = {"mgda": float(gap)}
    return line


class Sample(NamedTuple):
    """What a protector does to the first faces."""

    rows: list[list[Float[Tensor, "3 S S"]]]
    """A row a manipulator: a photo, protected, forged, forged of the protected, of P-Pert's, and 10 x perturbation."""
    captions: list[str]
    effect: dict[str, dict[str, float]]
    """L2_face and similarity of the forgeries of clean and of protected faces, by manipulator."""


@torch.no_grad()
def look(run: ProtectorRun) -> Sample:
    """The protector as it is now, on the same faces and edits each time."""
    batch = run.faces.batch(slice(SAMPLE_FACES))
    photos, protected, prior = batch.images, id_guard(run.trained)(batch), p_pert(run.trained)(batch)
    edits, choices = edits_of(run.manipulators, batch.attributes, 0, torch.arange(len(photos)))
    sample = Sample([], [], {"L2_face": {}, "similarity": {}})
    targets = named(run.manipulators).items()
    for k, ((name, target), edit, choice) in enumerate(zip(targets, edits, choices, strict=True)):
        forged = [target(images, edit).output for images in (photos, protected, prior)]
        distances = forgery_distance(forged[0], forged[1], batch.landmarks, run.recognizers[0])
        for values, distance in zip(sample.effect.values(), distances, strict=True):
            values[name] = distance.mean().item()
        i = k % len(photos)
        sample.captions.append(f"{name}, {target.edits(batch.attributes)[int(choice[i])].name}: {COLUMNS}")
        sample.rows.append([photos[i], protected[i], *(images[i] for images in forged), 10 * (protected - photos)[i]])
    run.protector.train()
    return sample

"""Loss and task-weight curves of a model's training, from the log that lies beside it."""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from art_idguard.errors import IDGuardError
from art_idguard.evaluation.plots import Panel, curves
from art_idguard.evaluation.statistics import Estimate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POINTS = 200
"""Of a curve at most; each is the mean of as many steps as that takes."""

Steps = list[dict[str, Any]]
"""Records of a log, one a step; the entries that are groups of numbers have a curve for each of them."""


def read_training(model: str) -> Steps:
    """What was logged while a model was trained, its stages' steps counted on; empty where no log is beside it.

    Args:
        model: a folder that has log.jsonl, or log-1.jsonl and so on, or that a run has written beside its log.jsonl.

    Raises:
        IDGuardError: a log is damaged.
    """
    folder = Path(model)
    logs = sorted(folder.glob("log*.jsonl"), key=lambda log: [int(n) for n in re.findall(r"\d+", log.name)])
    if not logs and folder.name in ("protector", "manipulator"):
        logs = list(folder.parent.glob("log.jsonl"))
    steps: Steps = []
    for log in logs:
        before = steps[-1]["step"] if steps else 0
        steps += [record | {"step": before + record["step"]} for record in _records(log)]
    return steps


def _records(log: Path) -> Steps:
    """The last line of a killed run may be half a line."""
    try:
        records = [json.loads(line) for line in log.read_bytes().split(b"\n")[:-1]]
        for record in records:
            groups = [group for group in record.values() if isinstance(group, Mapping)]
            numbers = [record["step"], *(value for group in groups for value in group.values())]
            if len(numbers) < 2 or not {type(number) for number in numbers} <= {int, float}:
                raise ValueError(f"expected a step and groups of numbers, found {record}")
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        raise IDGuardError(f"{log} is no log of a training ({error}); move it away to go on without it") from error
    return records


def training_curves(steps: Steps) -> "Figure":
    """A panel for each group of numbers: of a protector its objectives, KPIs and task weights."""
    groups = dict.fromkeys(g for record in steps for g, values in record.items() if isinstance(values, Mapping))
    names = dict.fromkeys(name for record in steps for g in groups for name in record.get(g, {}))
    return curves(
        [Panel(group, {name: curve(steps, group, name) for name in names}) for group in groups], against="step"
    )


def curve(steps: Steps, group: str, *names: str) -> dict[float, Estimate]:
    """The course of a number of a group, or of the mean of several, at `POINTS` places at most."""
    values = [np.mean([record.get(group, {}).get(name, math.nan) for name in names]) for record in steps]
    parts = np.array_split(np.arange(len(steps)), min(len(steps), POINTS))
    return {
        float(np.mean([steps[i]["step"] for i in part])): Estimate(
            float(np.mean([values[i] for i in part])), math.nan, math.nan
        )
        for part in parts
    }

"""What an adversary reaches on one manipulator: each attempt, and for each face the worst."""

import math
import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from art_idguard.evaluation.document import Document, Section, Table, facts
from art_idguard.evaluation.figures import drawn, panel
from art_idguard.evaluation.measures import Measure
from art_idguard.evaluation.plots import bars, curves
from art_idguard.evaluation.report import Report
from art_idguard.evaluation.statistics import Estimate, estimate
from art_idguard.metrics import L2_THRESHOLD, SIMILARITY_THRESHOLD

if TYPE_CHECKING:
    from matplotlib.figure import Figure

UNTOUCHED = "the photo itself"
"""The row of no protection: what an attempt does to the forgery by itself is its cost."""


class AdversaryReport(NamedTuple):
    """The report of an evaluation whose "manipulators" are attempts on one, compared with its own clean forgeries."""

    manipulator: str
    attempts: Report

    @property
    def measures(self) -> dict[str, Measure]:
        """L2_face, and of each recogniser ID sim. and DSR."""
        prefixes = ("l2_face", "similarity.", "dsr.")
        return {name: m for name, m in self.attempts.measures.items() if name.startswith(prefixes)}

    def worst(self, measure: str, protection: str, *, of: Sequence[str] = ()) -> Estimate:
        """The mean over faces of what each face's worst attempt, of these or of all, leaves: any of them breaks it."""
        cells = self.attempts.cells(measure)[self.attempts.protections.index(protection)]
        if of:
            cells = cells[[self.attempts.manipulators.index(attempt) for attempt in of]]
        return estimate(worst_attempt(cells, self.measures[measure]), share=self.measures[measure].is_rate)

    def json(self) -> dict[str, Any]:
        """Everything, with the estimates."""
        attempts = self.attempts
        return {
            "manipulator": self.manipulator,
            "metadata": dict(attempts.metadata),
            "worst attempt on each face": {
                p: {m: self.worst(m, p).json() for m in self.measures} for p in attempts.protections
            },
            "attempts": {
                k: {p: {m: attempts.cell(m, k)(p).json() for m in self.measures} for p in attempts.protections}
                for k in attempts.manipulators
            },
        }

    def document(self) -> Document:
        """The worst case, then a table for each measure: attempts down, protections across."""
        attempts, measures = self.attempts, self.measures
        shown = [p for p in attempts.protections if p != UNTOUCHED]
        worst = [[p, *(self.worst(m, p).text(measures[m].digits) for m in measures)] for p in shown]
        head = ["Protection", *(m.full_title for m in measures.values())]
        sections = [
            Section(
                measure.full_title,
                table=Table(
                    ["Attempt", *attempts.protections],
                    [
                        [k, *(attempts.cell(name, k)(p).text(measure.digits) for p in attempts.protections)]
                        for k in attempts.manipulators
                    ],
                ),
            )
            for name, measure in measures.items()
            if not measure.is_rate
        ]
        return Document(
            f"What an adversary leaves of protections against {self.manipulator}",
            facts(attempts.metadata),
            Section("For each face the attempt that is worst for it", table=Table(head, worst)),
            [Section(text=_READING), *sections],
        )

    def markdown(self) -> str:
        """The document as Markdown."""
        return self.document().markdown()

    def bars(self) -> "Figure":
        """What each attempt leaves of each protection, and what is left of it where each face meets its worst."""
        attempts = self.attempts

        def left(measure: str, protection: str) -> dict[str, Estimate]:
            each = {k: attempts.cell(measure, k)(protection) for k in attempts.manipulators}
            return {**each, "the worst for each face": self.worst(measure, protection)}

        return bars([panel(m, {p: left(m.name, p) for p in attempts.protections}) for m in drawn(attempts)])

    def against_effort(self) -> "Figure":
        """What is left of each protection where each face meets its worst attempt, of ever more (`efforts`)."""
        levels = efforts(self.attempts.manipulators)
        shown = [p for p in self.attempts.protections if p != UNTOUCHED]

        def left(measure: str) -> dict[str, dict[str, Estimate]]:
            return {p: {level: self.worst(measure, p, of=of) for level, of in levels.items()} for p in shown}

        return curves([panel(m, left(m.name)) for m in drawn(self.attempts)], against="what is tried")

    def against_epsilon(self, bounds: Mapping[str, float]) -> "Figure":
        """What is left of protections of different bounds: as they are, and where each face meets its worst attempt.

        Args:
            bounds: epsilon of each, in the order of the curve.
        """
        attempts = self.attempts

        def left(measure: str) -> dict[str, dict[float, Estimate]]:
            series = {k: attempts.cell(measure, k) for k in attempts.manipulators if k == "none"}
            series["the worst for each face"] = partial(self.worst, measure)
            return {name: {epsilon: of(row) for row, epsilon in bounds.items()} for name, of in series.items()}

        return curves([panel(m, left(m.name)) for m in drawn(attempts)], against="epsilon")


_READING = (
    "One edit each; ± half the 95 % interval. An attempt's forgery of a protected face is compared with the "
    "manipulator's own of the clean photo: high ID sim. and low L2_face are the adversary's success. DSR: L2_face > "
    f"{L2_THRESHOLD} and ID sim. < {SIMILARITY_THRESHOLD}. “{UNTOUCHED}” is the adversary's cost: the attempt on a "
    "clean face."
)


def efforts(attempts: Sequence[str]) -> dict[str, list[str]]:
    """Attempts by the adversary's effort, each level with those before: nothing, what needs no learning, learning.

    >>> efforts(["none", "jpeg=75", "lora, 1 steps", "lora, 2 steps"])["at once"]
    ['none', 'jpeg=75']
    >>> list(efforts(["none", "lora, 1 steps", "lora, 2 steps", "cleaner, 8 steps"]))
    ['none', 'half', 'all steps']
    """
    families: dict[str, list[str]] = {}
    for attempt in attempts:
        if learnt := re.fullmatch(r"(.*), \d+ steps", attempt):
            families.setdefault(learnt[1], []).append(attempt)
    levels = {
        "none": [attempt for attempt in attempts if attempt == "none"],
        "at once": [attempt for attempt in attempts if not any(attempt in stages for stages in families.values())],
    }
    for back, level in ((3, "a quarter"), (2, "half"), (1, "all steps")):
        stage = [stages[-back] for stages in families.values() if len(stages) >= back]
        levels[level] = list(levels.values())[-1] + stage
    found: dict[str, list[str]] = {}
    for level, tried in levels.items():
        if tried and tried not in found.values():
            found[level] = tried
    return found


def worst_attempt(cells: Float[Tensor, "K N E"], measure: Measure) -> Float[Tensor, "N E"]:
    """Of each face and edit, what the attempt leaves that is worst for the protection; NaN where none was measured."""
    sign = 1 if measure.higher_is_better else -1
    least = (sign * cells).nan_to_num(nan=math.inf).amin(dim=0)
    return sign * torch.where(least.isinf(), torch.nan, least)

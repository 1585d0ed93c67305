"""What an adversary reaches on one manipulator: each attempt, and for each face the worst."""

import math
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from art_idguard.evaluation.measures import Measure
from art_idguard.evaluation.report import Report
from art_idguard.evaluation.statistics import Estimate, estimate
from art_idguard.evaluation.tables import markdown_table
from art_idguard.metrics import L2_THRESHOLD, SIMILARITY_THRESHOLD

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

    def worst(self, measure: str, protection: str) -> Estimate:
        """The mean over faces of what each face's worst attempt leaves: any of them breaks the protection."""
        cells = self.attempts.cells(measure)[self.attempts.protections.index(protection)]
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

    def markdown(self) -> str:
        """The worst case, then a table for each measure: attempts down, protections across."""
        attempts, measures = self.attempts, self.measures
        shown = [p for p in attempts.protections if p != UNTOUCHED]
        worst = [[p, *(self.worst(m, p).text(measures[m].digits) for m in measures)] for p in shown]
        about = attempts.metadata
        parts = [
            f"# What an adversary leaves of protections against {self.manipulator}",
            f"{about['data']['name']} ({about['data']['split']}), {about['n']} faces of {about['size']} px, one edit "
            f"each, epsilon {about['epsilon']:g} on [-1, 1], seed {about['seed']}, {about['hardware']}; ± half the "
            "95 % interval. "
            "An attempt's forgery of a protected face is compared with the manipulator's own of the clean photo: "
            f"high ID sim. and low L2_face are the adversary's success. DSR: L2_face > {L2_THRESHOLD} and ID sim. < "
            f"{SIMILARITY_THRESHOLD}. “{UNTOUCHED}” is the adversary's cost: the attempt on a clean face.",
            "**For each face the attempt that is worst for it**",
            markdown_table(["Protection", *(_title(m) for m in measures.values())], worst),
        ]
        for name, measure in measures.items():
            if measure.is_rate:
                continue
            rows = [
                [k, *(attempts.cell(name, k)(p).text(measure.digits) for p in attempts.protections)]
                for k in attempts.manipulators
            ]
            parts += [f"**{_title(measure)}**", markdown_table(["Attempt", *attempts.protections], rows)]
        return "\n\n".join(parts) + "\n"


def _title(measure: Measure) -> str:
    return measure.column + (f" ({measure.recognizer})" if measure.recognizer else "")


def worst_attempt(cells: Float[Tensor, "K N E"], measure: Measure) -> Float[Tensor, "N E"]:
    """Of each face and edit, what the attempt leaves that is worst for the protection; NaN where none was measured."""
    sign = 1 if measure.higher_is_better else -1
    least = (sign * cells).nan_to_num(nan=math.inf).amin(dim=0)
    return sign * torch.where(least.isinf(), torch.nan, least)

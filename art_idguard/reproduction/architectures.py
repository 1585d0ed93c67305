"""Table IV: parameters of the perturbation generators."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from art_idguard.evaluation.document import PAGE, Document, Section, Table, write_html
from art_idguard.perturbation import GENERATORS
from art_idguard.reproduction.config import ReproductionConfig
from art_idguard.reproduction.result import reported, write_result

EXPERIMENT = "table4"


@dataclass(frozen=True)
class Parameters:
    """Their number, by generator."""

    counts: Mapping[str, int]

    def json(self) -> dict[str, Any]:
        """Everything."""
        return {"experiment": EXPERIMENT, "measured": dict(self.counts), "reported": reported(EXPERIMENT)}

    def document(self) -> Document:
        """Beside the paper's."""
        paper = reported(EXPERIMENT)["any"]
        rows = [[name, f"{count:,}", f"{paper[name]:,}"] for name, count in self.counts.items()]
        text = "At the published width. The paper's transformer is TransGAN's, ours is our own, and smaller."
        table = Table(["Generator", "parameters", "reported by the paper"], rows)
        return Document("Table IV: parameters of generators", {}, Section("", text, table), [])


def count_parameters(config: ReproductionConfig, *, verbose: bool) -> dict[str, Parameters]:
    """Write <output>/<SCALE>/table4/parameters.{json,md} and a page; nothing is trained."""
    counts = {}
    for name, generator in GENERATORS.items():
        with torch.device("meta"):
            counts[name] = sum(p.numel() for p in generator().parameters())
    result, folder = Parameters(counts), Path(config.output, config.scale, EXPERIMENT)
    write_html(folder / PAGE, [write_result(result, folder, "parameters")])
    return {"parameters": result}

"""Table VIII: bits that are misread from forgeries, payloads that are read whole, and what of a watermark is seen."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from art_idguard import manipulators, recognizers
from art_idguard.data.spec import DataSpec
from art_idguard.distortions import parse
from art_idguard.errors import IDGuardError
from art_idguard.evaluation.checks import check_size, named
from art_idguard.evaluation.config import ForensicsConfig
from art_idguard.evaluation.document import Document, Section, Table, facts
from art_idguard.evaluation.parts import ProtectorSpec
from art_idguard.evaluation.statistics import Estimate, environment_info
from art_idguard.evaluation.watermarks import Cell, Watermarks
from art_idguard.files.atomic import write_text
from art_idguard.forensics.watermarker import Watermarker
from art_idguard.hub.loading import weights_sha256
from art_idguard.perturbation import Protector
from art_idguard.types import float32

MEASURES = {
    "ber": ("BER↓", 3),
    "payload": ("payloads read↑", 2),
    "ssim": ("SSIM↑", 3),
    "psnr": ("PSNR (dB)↑", 2),
    "l2_face": ("L2_face↑", 4),
    "similarity": ("ID sim.↓", 3),
}


@dataclass(frozen=True)
class ForensicsReport:
    """Of each row and column what was measured; ssim and psnr are in the column `PHOTO`."""

    cells: Mapping[Cell, Estimate]
    metadata: Mapping[str, Any]

    def json(self) -> dict[str, Any]:
        """Everything."""
        found: dict[str, Any] = {}
        for (row, column, measure), cell in self.cells.items():
            found.setdefault(row, {}).setdefault(column, {})[measure] = cell.json()
        return {"metadata": dict(self.metadata), "rows": found}

    def document(self) -> Document:
        """Table VIII: BER by manipulator and SSIM; then a table for each other measure."""
        sections = [Section(title, table=self._table(name)) for name, (title, _) in MEASURES.items() if name != "ber"]
        return Document(
            "Messages in faces, and what is read from their forgeries",
            facts(self.metadata),
            Section("Bits that are misread", _READING, self._table("ber")),
            [section for section in sections if section.table and section.table.rows],
        )

    def _table(self, measure: str) -> Table:
        rows = list(dict.fromkeys(row for row, _, found in self.cells if found == measure))
        columns = list(dict.fromkeys(column for _, column, found in self.cells if found == measure))
        title, digits = MEASURES[measure]
        body = [[row, *(self.cells[row, column, measure].text(digits) for column in columns)] for row in rows]
        return Table(["Method", *(f"{column} {title}" for column in columns)], body)


_READING = (
    "BER: share of the bits of a random message that are misread, 0.5 at chance. Payloads: share of faces whose "
    "message, with its Reed-Solomon code, gives the bytes that were put in. SSIM and PSNR: of the watermarked photo "
    "and the same without. ± half the 95 % interval over faces, each of which has a message of its own."
)


@float32()
def evaluate_watermarkers(config: ForensicsConfig, *, verbose: bool = True) -> ForensicsReport:
    """Measure watermarkers, side by side, and write <output>/<NAME>.{json,md}.

    Args:
        config: the settings.
        verbose: show a progress bar.

    Raises:
        IDGuardError: unusable weights, data, operations or sizes.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    spec, operations = DataSpec.parse(config.data), {text: parse(text) for text in config.operations}
    named_sources = [ProtectorSpec.parse(text) for text in config.watermarkers]
    sources = {name or Path(source).resolve().name: source for name, source in named_sources}
    rows = {name: Watermarker.from_pretrained(source).to(device) for name, source in sources.items()}
    specs = config.manipulators or manipulators.shipped_manipulators()
    targets = named([manipulators.load(text).to(device) for text in specs])
    alone = len(rows) == len(config.watermarkers) and not rows.keys() & {*targets, "protector"}
    if not alone or len({row.size for row in rows.values()}) > 1:
        raise IDGuardError(
            "watermarkers of one name, of a manipulator's, or of several sizes; give each its own NAME=FOLDER, and one "
            "size"
        )
    size = next(iter(rows.values())).size
    check_size(targets.values(), size)
    cache = Path(config.output) / "regions.safetensors"
    faces = spec.read(size=size, limit=config.limit, cache=cache, verbose=verbose).to(device)
    sources |= dict(zip(targets, specs, strict=True))
    protector = None
    if config.protector:
        protector, sources["protector"] = Protector.from_pretrained(config.protector).to(device), config.protector
    recognizer = recognizers.load(config.recognizer) if config.recognizer else recognizers.default()
    metadata = {
        "data": spec.public(),
        "n": len(faces),
        "size": size,
        "weights": {name: weights_sha256(source) for name, source in sources.items()},
        "epsilon": ", ".join(f"{row.epsilon:g}" for row in rows.values()),
        "bits": {name: row.bits for name, row in rows.items()},
        "edits": config.edits,
        "operations": [*operations],
        "seed": config.seed,
        **environment_info(torch.device(device)),
    }
    run = Watermarks(config, rows, targets, protector, recognizer.to(device), operations)
    report = ForensicsReport(run.measure(faces, verbose=verbose), metadata)
    stem = Path(config.output, spec.name)
    write_text(stem.with_name(f"{spec.name}.json"), json.dumps(report.json(), indent=1, allow_nan=False) + "\n")
    write_text(stem.with_name(f"{spec.name}.md"), report.document().markdown())
    return report

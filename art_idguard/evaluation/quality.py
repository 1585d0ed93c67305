"""Quality of a manipulator: edit success, identity kept, cycle error, kernel inception distance."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from art_idguard.attribute_classifier import LABELS, AttributeClassifier, predictions
from art_idguard.data.faces import FaceBatch, Faces
from art_idguard.errors import IDGuardError
from art_idguard.evaluation.config import QualityConfig
from art_idguard.evaluation.document import Document, Section, Table, facts
from art_idguard.evaluation.kid import SEED, kid_estimate
from art_idguard.evaluation.statistics import Estimate, environment_info, estimate
from art_idguard.faces.alignment import arcface_frame
from art_idguard.files.atomic import write_text
from art_idguard.manipulators.base import Manipulator
from art_idguard.metrics import identity_similarity
from art_idguard.recognizers.base import Recognizer
from art_idguard.types import ATTRIBUTES

MEASURES = {
    "success": "edit success↑",
    "before": "before the edit",
    "similarity": "ID sim. to the photo↑",
    "size": "size of the edit (L1)",
    "cycle": "there and back (L1)↓",
}
"""What is measured of every face and edit, and its column."""

COLUMNS = ("Edit", *MEASURES.values(), "KID↓")

FLIPPED = ("Male", "Young")
"""Edits that turn an attribute over; the others set one."""


@dataclass(frozen=True)
class Quality:
    """Values per face and edit; NaN where a face is not concerned."""

    edits: tuple[str, ...]
    values: Mapping[str, Float[Tensor, "N E"]]
    """By `MEASURES`; L1 distances are on the [-1, 1] scale."""
    kid: Mapping[str, Estimate]
    """Of each edit, and "photos": of real faces among each other, the floor."""
    metadata: Mapping[str, Any]

    def cell(self, measure: str, edit: str | None = None) -> Estimate:
        """Mean and 95 % interval over faces, of one edit or of all: Wilson's of shares, or the bootstrap's."""
        columns = slice(None) if edit is None else slice(self.edits.index(edit), self.edits.index(edit) + 1)
        return estimate(self.values[measure][:, columns], share=measure in ("success", "before"))

    def summary(self) -> dict[str, Any]:
        """Estimates by edit, then over all edits."""
        rows: dict[str, str | None] = {**{edit: edit for edit in self.edits}, "all edits": None}
        found: dict[str, Any] = {
            row: {measure: self.cell(measure, edit).json() for measure in MEASURES} for row, edit in rows.items()
        }
        for edit in self.edits:
            found[edit]["kid"] = self.kid[edit].json()
        return found

    def rows(self) -> list[list[str]]:
        """The cells of `COLUMNS`, one row an edit and one of all edits."""
        rows = [[edit, *(self.cell(m, edit).text(3) for m in MEASURES), self.kid[edit].text(4)] for edit in self.edits]
        return [*rows, ["all edits", *(self.cell(m).text(3) for m in MEASURES), ""]]

    def about(self) -> str:
        """What a reader of the table must know."""
        return f"""\
Means ± half the 95 % interval over faces. Edit success: share of the faces that the edit should change in which a
classifier (hub/classifiers/attributes-celeba128) sees the asked attribute afterwards, beside the share in which it saw
it before; bangs and glasses, of which the faces have no labels: of all faces. ID sim.: cosine of
{self.metadata["recognizer"]} embeddings. L1 on the [-1, 1] scale. KID (unbiased, cubic kernel) is taken on those
embeddings at unit length, not on Inception's features: not to be compared with published KIDs. It is between the
forgeries of one half of the faces and photos of the other; of photos among each other {self.kid["photos"].text(4)}."""

    def document(self, model: str = "a manipulator") -> Document:
        """The table, and what its reader must know."""
        table = Section(text=self.about(), table=Table(COLUMNS, self.rows()))
        return Document(f"Edits of {model}", facts(self.metadata), table, ())

    def markdown(self) -> str:
        """The document as Markdown."""
        return self.document().markdown()

    def save(self, folder: Path) -> None:
        """Write quality.json and quality.md, of the model that has the folder's name; each is whole or absent."""
        photos = {"kid": self.kid["photos"].json()}
        content = {"metadata": dict(self.metadata), "summary": self.summary(), "photos": photos}
        write_text(folder / "quality.json", json.dumps(content, indent=1, allow_nan=False) + "\n")
        write_text(folder / "quality.md", self.document(folder.name).markdown())


@torch.no_grad()
def measure_quality(
    manipulator: Manipulator,
    faces: Faces,
    classifier: AttributeClassifier,
    recognizer: Recognizer,
    *,
    batch_size: int = QualityConfig.batch_size,
    metadata: Mapping[str, Any] | None = None,
    verbose: bool = False,
) -> Quality:
    """Forge every face under every edit, and back again.

    Args:
        manipulator: frozen.
        faces: with their labels, at least four, on the device of the networks.
        classifier: judges whether an edit succeeded.
        recognizer: judges whether the person is kept; also gives KID's features.
        batch_size: faces at a time.
        metadata: goes into the report.
        verbose: show a progress bar.

    Raises:
        IDGuardError: fewer than four faces, or none with a label, or an edit that the classifier does not know.
    """
    if len(faces) < 4:
        raise IDGuardError(f"expected at least 4 faces, found {len(faces)}")
    if not faces.attributes.any():
        raise IDGuardError(
            f"the {len(faces)} faces have no labels, so what an edit should change is unknown; expected a CSV with the "
            f"columns file, {', '.join(ATTRIBUTES)} (0/1), or CelebA's list_attr_celeba.txt beside them"
        )
    names = tuple(edit.name for edit in manipulator.edits(faces.attributes[:1]))
    if unknown := set(names) - set(LABELS):
        raise IDGuardError(f"the classifier does not know {', '.join(unknown)}; it tells {', '.join(LABELS)}")
    parts: list[dict[str, Tensor]] = []
    with tqdm(desc=manipulator.name, total=len(faces), unit="face", disable=not verbose) as bar:
        for batch in faces.batches(batch_size):
            parts.append(_measure(manipulator, batch, classifier, recognizer))
            bar.update(len(batch.images))
    values = {key: torch.cat([part[key] for part in parts]).cpu() for key in parts[0]}
    photos, forged = values.pop("photos"), values.pop("forged")
    kid = {name: kid_estimate(forged[::2, e], photos[1::2]) for e, name in enumerate(names)}
    about = {
        **(metadata or {}),
        "n": len(faces),
        "seed": SEED,
        "size": faces.size,
        "recognizer": recognizer.name,
        **environment_info(faces.device),
    }
    return Quality(names, values, kid | {"photos": kid_estimate(photos[::2], photos[1::2])}, about)


def _measure(
    manipulator: Manipulator, batch: FaceBatch, classifier: AttributeClassifier, recognizer: Recognizer
) -> dict[str, Tensor]:
    x, frame = batch.images, arcface_frame(batch.landmarks, (batch.images.shape[-2], batch.images.shape[-1]))
    identity, predicted = recognizer(x, frame), predictions(classifier(x))
    columns: dict[str, list[Tensor]] = {key: [] for key in (*MEASURES, "forged")}
    for edit in manipulator.edits(batch.attributes):
        output = manipulator(x, edit).output
        embedding = recognizer(output, frame)
        wanted = _wanted(edit.name, batch.attributes)
        concerned = torch.where(wanted.isnan(), wanted, torch.ones_like(wanted))
        shown = predictions(classifier(output))[:, LABELS.index(edit.name)]
        columns["success"].append((shown == wanted).float() * concerned)
        columns["before"].append((predicted[:, LABELS.index(edit.name)] == wanted).float() * concerned)
        columns["similarity"].append(identity_similarity(identity, embedding))
        columns["size"].append((output - x).abs().mean(dim=(1, 2, 3)))
        inverse = manipulator.inverse_edit(edit, x, batch.attributes)
        cycled = x.new_full(x.shape, math.nan) if inverse is None else manipulator(output, inverse).output
        columns["cycle"].append((cycled - x).abs().mean(dim=(1, 2, 3)))
        columns["forged"].append(embedding)
    return {key: torch.stack(values, dim=1) for key, values in columns.items()} | {"photos": identity}


def _wanted(edit: str, attributes: Float[Tensor, "B 5"]) -> Float[Tensor, " B"]:
    """What the edited attribute should be; NaN for faces in which it is so already."""
    if edit not in ATTRIBUTES:  # HiSD's bangs and glasses, of which these labels know nothing: seen in all faces
        return attributes.new_ones(len(attributes))
    now = attributes[:, ATTRIBUTES.index(edit)]
    wanted = 1 - now if edit in FLIPPED else torch.ones_like(now)
    return torch.where(now == wanted, math.nan, wanted)

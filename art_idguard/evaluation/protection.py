"""Measure protections: every face, manipulator and edit, by every recogniser, resumably."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional as F

from art_idguard.baselines.base import Attack, Protection
from art_idguard.data.faces import FaceBatch, Faces
from art_idguard.errors import IDGuardError
from art_idguard.evaluation.batches import measure_batches
from art_idguard.evaluation.checks import checked
from art_idguard.evaluation.config import Edits
from art_idguard.evaluation.measures import FORGERIES, PHOTOS, ForgedPair, Measure, PhotoPair, similarity
from art_idguard.evaluation.report import REFERENCES, Report
from art_idguard.evaluation.statistics import environment_info
from art_idguard.faces.alignment import arcface_frame
from art_idguard.files.journal import Record
from art_idguard.manipulators.base import Manipulator
from art_idguard.recognizers.base import Recognizer
from art_idguard.regions import face_mask
from art_idguard.types import Edit, Frames, Images, Maps


def evaluate(
    protections: Mapping[str, Protection],
    manipulators: Mapping[str, Manipulator],
    faces: Faces,
    recognizers: Mapping[str, Recognizer],
    *,
    epsilon: float,
    batch_size: int = 16,
    edits: Edits = "all",
    references: Mapping[str, Attack] | None = None,
    reference_faces: int = 16,
    originals: Mapping[str, Manipulator] | None = None,
    metadata: Mapping[str, Any] | None = None,
    resume_file: Path | None = None,
    verbose: bool = False,
) -> Report:
    """Section IV-A4: what each protection does to each manipulator's forged faces.

    Examples:
        >>> from art_idguard import Protector, baselines, manipulators, recognizers
        >>> report = evaluate(  # doctest: +SKIP
        ...     {"ID-Guard": baselines.id_guard(Protector.from_pretrained())},
        ...     {"stargan": manipulators.load("stargan")},
        ...     faces,
        ...     {"sface": recognizers.default()},
        ...     epsilon=0.05,
        ... )
        >>> print(report.markdown())  # doctest: +SKIP

    Args:
        protections: called once per batch, with gradients enabled.
        manipulators: frozen, in the order of the report.
        faces: on the device of the networks.
        recognizers: first the one that training used, then at least one that it did not.
        epsilon: the bound on the [-1, 1] scale that every protection must keep.
        batch_size: faces at a time.
        edits: every edit for every face, or one: face i, edit i modulo their number.
        references: attacks that know manipulator, face and edit, by names of `report.REFERENCES`, which are their rows.
        reference_faces: how many of the first faces they attack, each under its edit in "cycle".
        originals: whose forgeries of clean faces count, by names of `manipulators`, where these are not their own.
        metadata: what identifies data and weights; goes into the report, and a file of other
            metadata is not resumed.
        resume_file: JSON lines, one appended for each batch; a rerun goes on behind them.
        verbose: show a progress bar.

    Raises:
        IDGuardError: a protection leaves the ball or [-1, 1] or is not finite, `resume_file` belongs to another
            evaluation, or a reference has an unknown name.
    """
    if unknown := set(references or ()) - set(REFERENCES):
        raise IDGuardError(f"unknown references: {', '.join(sorted(unknown))}; choose from: {', '.join(REFERENCES)}")
    run = _Evaluation(
        protections,
        manipulators,
        recognizers,
        epsilon,
        edits,
        references or {},
        reference_faces if references else 0,
        {**manipulators, **(originals or {})},
    )
    setting = {
        **run.setting(),
        "measures": [m.name for m in (*run.measures, *PHOTOS)],
        "metadata": dict(metadata or {}),
    }
    records = measure_batches(
        run.measure, faces, batch_size=batch_size, setting=setting, resume_file=resume_file, verbose=verbose
    )
    return run.report(records, faces, metadata or {})


class _Clean(NamedTuple):
    """Clean photos and their forged faces, and by what disrupted ones are compared with them."""

    images: Images
    output: Images
    embeddings: tuple[Float[Tensor, "B D"], ...]
    mask: Maps
    frame: Frames

    def at(self, rows: Int64[Tensor, " R"]) -> "_Clean":
        return _Clean(
            self.images[rows],
            self.output[rows],
            tuple(e[rows] for e in self.embeddings),
            self.mask[rows],
            self.frame[rows],
        )


@dataclass(frozen=True)
class _Evaluation:
    protections: Mapping[str, Protection]
    manipulators: Mapping[str, Manipulator]
    recognizers: Mapping[str, Recognizer]
    epsilon: float
    edits: Edits
    references: Mapping[str, Attack]
    reference_faces: int
    originals: Mapping[str, Manipulator]

    @property
    def rows(self) -> tuple[str, ...]:
        return (*self.protections, *self.references)

    @property
    def measures(self) -> tuple[Measure, ...]:
        return (*FORGERIES, *map(similarity, self.recognizers))

    def setting(self) -> dict[str, Any]:
        return {
            "protections": self.rows,
            "manipulators": tuple(self.manipulators),
            "recognizers": tuple(self.recognizers),
            "epsilon": self.epsilon,
            "edits": self.edits,
            "reference_faces": self.reference_faces,
        }

    def measure(self, batch: FaceBatch, first: int) -> Record:
        """The values of a batch whose first face is the `first` of the set."""
        protected = [
            checked(name, protect(batch).detach(), batch.images, self.epsilon)
            for name, protect in self.protections.items()
        ]
        index = torch.arange(first, first + len(batch.images), device=batch.images.device)
        forgeries = []
        for name, manipulator in self.manipulators.items():
            edits = manipulator.edits(batch.attributes)
            by_edit = [
                self._edit(name, edit, batch, protected, index, index % len(edits) == e) for e, edit in enumerate(edits)
            ]
            forgeries.append(torch.stack(by_edit, dim=-1))
        most = max(values.shape[-1] for values in forgeries)  # a manipulator with fewer edits has NaN for the others
        forgeries = [F.pad(values, (0, most - values.shape[-1]), value=math.nan) for values in forgeries]
        face = face_mask(batch.landmarks, (batch.images.shape[-2], batch.images.shape[-1]))
        pairs = [PhotoPair(batch.images, images, face) for images in protected]
        photos = torch.stack([torch.stack([measure.of(pair) for pair in pairs]) for measure in PHOTOS])
        return {
            "forgeries": torch.stack(forgeries, dim=2).tolist(),
            "photos": photos.tolist(),
        }

    def _edit(
        self,
        manipulator_name: str,
        edit: Edit,
        batch: FaceBatch,
        protected: list[Images],
        index: Int64[Tensor, " B"],
        turn: Bool[Tensor, " B"],
    ) -> Float[Tensor, "M P B"]:
        """All rows' values for the faces that meet this edit, NaN for the others."""
        table = batch.images.new_full((len(self.measures), len(self.rows), len(turn)), math.nan)
        met = (turn if self.edits == "cycle" else torch.ones_like(turn)).nonzero().flatten()
        if not len(met):
            return table
        manipulator = self.manipulators[manipulator_name]
        clean = self._clean(self.originals[manipulator_name], Edit(edit.name, edit.condition[met]), batch, met)
        for p, images in enumerate(protected):
            table[:, p, met] = self._compare(manipulator, Edit(edit.name, edit.condition[met]), images[met], clean)
        attacked = (turn & (index < self.reference_faces))[met].nonzero().flatten()
        if self.references and len(attacked):
            faces = met[attacked]
            own_edit, attacked_faces = Edit(edit.name, edit.condition[faces]), batch.at(faces)
            for p, (name, attack) in enumerate(self.references.items(), start=len(protected)):
                images = checked(
                    name, attack(manipulator, own_edit, attacked_faces), attacked_faces.images, self.epsilon
                )
                table[:, p, faces] = self._compare(manipulator, own_edit, images, clean.at(attacked))
        return table

    @torch.no_grad()
    def _clean(self, manipulator: Manipulator, edit: Edit, batch: FaceBatch, met: Int64[Tensor, " R"]) -> _Clean:
        size = (batch.images.shape[-2], batch.images.shape[-1])
        landmarks = batch.landmarks[met]
        frame = arcface_frame(landmarks, size)
        images = batch.images[met]
        output = manipulator(images, edit).output
        embeddings = tuple(r(output, frame) for r in self.recognizers.values())
        for name, embedding in zip(self.recognizers, embeddings, strict=True):
            if bool(output.isfinite().all()) and not embedding.isfinite().all():
                raise IDGuardError(f"{name} returns values that are not finite for clean faces; check its weights")
        return _Clean(images, output, embeddings, face_mask(landmarks, size), frame)

    @torch.no_grad()
    def _compare(self, manipulator: Manipulator, edit: Edit, images: Images, clean: _Clean) -> Float[Tensor, "M R"]:
        output = manipulator(images, edit).output
        embeddings = {
            name: (embedding, recognizer(output, clean.frame))
            for embedding, (name, recognizer) in zip(clean.embeddings, self.recognizers.items(), strict=True)
        }
        forged = ForgedPair(clean.output, output, images - clean.images, clean.mask, embeddings)
        return torch.stack([measure.of(forged) for measure in self.measures])

    def report(self, records: list[Record], faces: Faces, metadata: Mapping[str, Any]) -> Report:
        values = torch.cat([torch.tensor(r["forgeries"]) for r in records], dim=3)
        photos = torch.cat([torch.tensor(r["photos"]) for r in records], dim=2)
        unprotected = torch.full_like(photos[:, :1], math.nan).expand(-1, len(self.references), -1)
        photos = torch.cat([photos, unprotected], dim=1)
        edits = {
            name: tuple(edit.name for edit in m.edits(faces.attributes[:1])) for name, m in self.manipulators.items()
        }
        return Report(
            self.rows,
            tuple(self.manipulators),
            edits,
            tuple(self.recognizers),
            {measure.name: of_all for measure, of_all in zip(self.measures, values, strict=True)},
            {measure.name: of_all for measure, of_all in zip(PHOTOS, photos, strict=True)},
            {
                **metadata,
                **self.setting(),
                "n": len(faces),
                "size": faces.size,
                "range": "[-1, 1]",
                **environment_info(faces.device),
            },
            tuple(self._warnings(values, photos, edits)),
        )

    def _warnings(
        self, values: Float[Tensor, "M P K N E"], photos: Float[Tensor, "Q P N"], edits: Mapping[str, Sequence[str]]
    ) -> list[str]:
        warnings = []
        if len(self.recognizers) < 2:
            warnings.append("no recogniser that training did not use was given")
        largest = photos[[measure.name for measure in PHOTOS].index("max_delta")]
        for p, name in enumerate(self.protections):
            if unchanged := int((largest[p] == 0).sum()):
                warnings.append(f"{name} returned {unchanged} of {photos.shape[2]} photos unchanged")
            for k, manipulator in enumerate(self.manipulators):
                expected = values.shape[3] * (len(edits[manipulator]) if self.edits == "all" else 1)
                lost = expected - int(values[:, p, k].isfinite().all(dim=0).sum())
                if lost:
                    warnings.append(
                        f"{lost} of {expected} values of {name} against {manipulator} are not "
                        "finite and left out of the means"
                    )
        return warnings

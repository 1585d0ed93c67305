"""Table VII: how far white-box attacks move an original manipulator, and a hardened one."""

import json
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm import tqdm

from art_idguard import attribute_classifier as attributes
from art_idguard import manipulators, recognizers
from art_idguard.attacks.white_boxes import EPSILON, SIGMA, STEP, STEPS, WHITE_BOXES, reference_pgd
from art_idguard.data.faces import Faces
from art_idguard.data.spec import DataSpec
from art_idguard.errors import IDGuardError, NullAttackWarning
from art_idguard.estimators.manipulator import PyTorchManipulator
from art_idguard.evaluation.checks import check_size
from art_idguard.evaluation.config import RobustnessConfig
from art_idguard.evaluation.document import PAGE, Document, Picture, Section, Table, data_name, facts, write_html
from art_idguard.evaluation.figures import INTERVALS
from art_idguard.evaluation.plots import Panel, bars, save_plot
from art_idguard.evaluation.quality import COLUMNS, Quality, measure_quality
from art_idguard.evaluation.statistics import Estimate, environment_info, estimate
from art_idguard.files.atomic import write_text
from art_idguard.files.grid import save_grid
from art_idguard.files.journal import Record, append, resume
from art_idguard.files.lock import exclusive
from art_idguard.hub.loading import weights_sha256
from art_idguard.hub.shipped import shipped
from art_idguard.images import from_uint8, to_unit
from art_idguard.manipulators.base import Manipulator
from art_idguard.metrics import L2_THRESHOLD, SIMILARITY_THRESHOLD
from art_idguard.recognizers.base import Recognizer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SEED = 0


def attack_manipulator(config: RobustnessConfig, *, verbose: bool = True) -> "Robustness":
    """Attack a manipulator, and perhaps its hardened version, and write <output>/<NAME>.{json,md,png}, and report.html.

    Where the faces have labels, the quality of the models' edits goes with it. A rerun goes on where an interrupted one
    stopped (<output>/<NAME>.jsonl).

    Args:
        config: the settings.
        verbose: show a progress bar.

    Raises:
        IDGuardError: unusable weights, data, names or numbers, or `hardened` is a model of another kind.
    """
    specs = {"original": config.original} | ({} if config.hardened is None else {"hardened": config.hardened})
    device = "cuda" if torch.cuda.is_available() else "cpu"
    models = {name: manipulators.load(spec).to(device) for name, spec in specs.items()}
    if len(kinds := {model.name for model in models.values()}) > 1:
        raise IDGuardError(f"{config.hardened} is no hardened version of {config.original}: {', '.join(sorted(kinds))}")
    check_size(models.values(), config.size)
    judge = config.recognizer or str(shipped("recognizers/sface"))
    recognizer = recognizers.load(judge).to(device)
    spec, output = DataSpec.parse(config.data), Path(config.output)
    faces = spec.read(size=config.size, limit=config.limit, cache=output / "regions.safetensors", verbose=verbose)
    x = to_unit(from_uint8(faces.images)).numpy()
    table = white_box_table(
        models,
        x,
        recognizer,
        attacks=config.attacks,
        metadata={
            "data": f"{spec.name} ({spec.split})",
            "digest": faces.digest(),
            "weights": {name: f"{models[name].name} {weights_sha256(path)}" for name, path in specs.items()},
            "recognizer": f"{recognizer.name} {weights_sha256(judge)}",
            "protector": weights_sha256(str(shipped("protectors/default"))),
        },
        resume_file=output / f"{spec.name}.jsonl",
        verbose=verbose,
    )
    table = replace(table, quality=_quality(models, faces.to(device), recognizer))
    write_text(output / f"{spec.name}.json", json.dumps(table.json(), indent=1, allow_nan=False) + "\n")
    write_text(output / f"{spec.name}.md", table.markdown())
    save_attacked(grid := output / f"{spec.name}.png", models, x)
    pictures = [
        save_plot(output / f"{spec.name}-bars.png", table.bars(), f"Each attack, {INTERVALS}."),
        Picture(grid, "Forgeries of the first faces, and of the same under PGD."),
    ]
    write_html(output / PAGE, [replace(table.document(), pictures=pictures)])
    return table


@dataclass(frozen=True)
class Robustness:
    """What the attacks did to each model: per face, on the [-1, 1] scale."""

    models: tuple[str, ...]
    records: tuple[Record, ...]
    """For each attack and model: l2_face, similarity and linf of each face, seconds, notes."""
    metadata: Mapping[str, Any]
    quality: Mapping[str, Quality] | str = "not measured"
    """Of the models' edits, or why there is none."""

    def cell(self, model: str, attack: str, measure: str) -> Estimate:
        """Mean and bootstrap 95 % interval over the faces."""
        (record,) = (r for r in self.records if (r["model"], r["attack"]) == (model, attack))
        values = torch.tensor([torch.nan if v is None else v for v in record[measure]], dtype=torch.float64)
        return estimate(values[:, None])

    def json(self) -> dict[str, Any]:
        """Everything, with the estimates."""
        rows = [
            {
                "model": r["model"],
                "attack": r["attack"],
                **{m: self.cell(r["model"], r["attack"], m).json() for m in ("l2_face", "similarity", "linf")},
                "seconds_per_face": round(r["seconds"] / max(len(r["l2_face"]), 1), 3),
                "notes": r["notes"],
            }
            for r in self.records
        ]
        quality: Any = self.quality
        if not isinstance(quality, str):
            quality = [{"model": model, **found.summary()} for model, found in quality.items()]
        return {"metadata": dict(self.metadata), "rows": rows, "quality": quality}

    def document(self) -> Document:
        """A row an attack; for each model L2_face and identity similarity, and the ratio of the first two models."""
        heads = [h for model in self.models for h in (f"{model} L2_face↓", f"{model} ID sim.↑")]
        ratio = [f"L2_face {self.models[1]} / {self.models[0]}"] if len(self.models) > 1 else []
        rows = []
        for attack in self._attacks():
            l2 = [self.cell(model, attack, "l2_face") for model in self.models]
            similarity = [self.cell(model, attack, "similarity") for model in self.models]
            cells = [found.text(4) for pair in zip(l2, similarity, strict=True) for found in pair]
            if ratio:
                cells.append(f"{l2[1].mean / l2[0].mean:.3f}" if l2[0].mean > 0 else "n/a")
            linf = max(
                (v for r in self.records if r["attack"] == attack for v in r["linf"] if v is not None), default=0
            )
            rows.append([attack, *cells, f"{linf:.3f}"])
        notes = {f"{r['attack']} on {r['model']}: {note}." for r in self.records for note in r["notes"]}
        return Document(
            f"White-box attacks on {' and '.join(self.models)}, {data_name(self.metadata)}",
            facts({**self.metadata, "n": self.metadata["faces"], "seed": SEED}),
            Section(table=Table(["White-box attack", *heads, *ratio, "max abs. perturbation"], rows)),
            [Section(text=_READING), *(Section(text=note) for note in sorted(notes)), self._quality()],
        )

    def markdown(self) -> str:
        """The document as Markdown."""
        return self.document().markdown()

    def bars(self) -> "Figure":
        """Of each attack what it does to each model."""
        return bars(
            [
                Panel(
                    title, {m: {a: self.cell(m, a, measure) for a in self._attacks()} for m in self.models}, threshold
                )
                for measure, title, threshold in (
                    ("l2_face", "L2_face↓", L2_THRESHOLD),
                    ("similarity", "ID sim.↑", SIMILARITY_THRESHOLD),
                )
            ]
        )

    def _attacks(self) -> list[str]:
        return list(dict.fromkeys(r["attack"] for r in self.records))

    def _quality(self) -> Section:
        if isinstance(self.quality, str):
            return Section(text=f"Quality of the edits: {self.quality}.")
        rows = [[model, *row] for model, found in self.quality.items() for row in found.rows()]
        about = next(iter(self.quality.values())).about()
        return Section("Quality of the edits", about, Table(["Model", *COLUMNS], rows))


_READING = (
    "Face i under edit i modulo their number; means ± half the bootstrap 95 % interval. Epsilon "
    f"{EPSILON} and sigma {SIGMA} on the [-1, 1] scale, {STEPS} steps of {STEP} where no other number stands; the "
    "adaptive attack knows the judging recogniser."
)


def white_box_table(
    models: Mapping[str, Manipulator],
    x: np.ndarray,
    recognizer: Recognizer,
    *,
    attacks: Sequence[str] = (),
    metadata: Mapping[str, Any],
    resume_file: Path | None = None,
    verbose: bool = False,
) -> Robustness:
    """Every attack on every model, white box: it knows model, face and edit (face i meets edit i modulo their number).

    Args:
        models: the original first, then perhaps the hardened one.
        x: faces (N, 3, H, W) within [0, 1].
        recognizer: judges identity, and is known to the adaptive attack.
        attacks: names of `WHITE_BOXES`; default: all.
        metadata: data set and weights; a resumed file has to have the same.
        resume_file: JSON lines, one for each attack on a model.
        verbose: show a progress bar.

    Raises:
        IDGuardError: an unknown attack, or `resume_file` belongs to another table.
    """
    attacks = attacks or tuple(WHITE_BOXES)
    if unknown := set(attacks) - set(WHITE_BOXES):
        raise IDGuardError(f"unknown attacks: {', '.join(sorted(unknown))}; choose from: {', '.join(WHITE_BOXES)}")
    about = {**metadata, "faces": len(x), "size": x.shape[-1]}
    setting = {"attacks": list(attacks), "models": list(models), "metadata": about}
    todo = [(model, attack) for attack in attacks for model in models]
    lock = resume_file and resume_file.with_name(f".{resume_file.name}.lock")
    with exclusive(lock, "attack"), tqdm(desc="attacking", total=len(todo), disable=not verbose) as bar:
        found = {(record["model"], record["attack"]): record for record in resume(resume_file, setting)}
        bar.update(len(found))
        for model, attack in todo:
            if (model, attack) in found:
                continue
            bar.set_postfix_str(f"{attack} on {model}")
            record = {"model": model, "attack": attack} | _measure(models[model], x, attack, recognizer)
            if any(value is not None for value in record["linf"]):  # what failed is tried again by a rerun
                append(resume_file, record)
            found[model, attack] = record
            bar.update()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return Robustness(tuple(models), tuple(found[key] for key in todo), about | environment_info(device))


@contextmanager
def _seeded() -> Iterator[None]:
    """ART and torchattacks draw their starts from the global generators, which are as before afterwards."""
    kept = np.random.get_state()
    with torch.random.fork_rng([torch.cuda.current_device()] if torch.cuda.is_available() else []):
        torch.manual_seed(SEED)
        np.random.seed(SEED)
        try:
            yield
        finally:
            np.random.set_state(kept)


def _measure(model: Manipulator, x: np.ndarray, attack: str, recognizer: Recognizer) -> Record:
    names = PyTorchManipulator(model, input_shape=x.shape[1:]).edit_names
    values, seconds, notes = np.full((3, len(x)), np.nan), 0.0, set()
    for e, edit in enumerate(names):
        faces = x[e :: len(names)]
        if not len(faces):
            continue
        estimator = PyTorchManipulator(model, edit=edit, input_shape=x.shape[1:])
        start = time.monotonic()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", NullAttackWarning)
            try:
                with _seeded():
                    attacked = WHITE_BOXES[attack].run(estimator, faces, recognizer)
            except IDGuardError as error:  # torchattacks is not installed, or the attack refuses
                notes.add(" ".join(str(error).split()))
                continue
        seconds += time.monotonic() - start
        notes |= {"some images came back unchanged" for w in caught if issubclass(w.category, NullAttackWarning)}
        effect = estimator.disruption(faces, attacked, recognizer)
        values[:2, e :: len(names)] = effect.l2_face, effect.similarity
        values[2, e :: len(names)] = 2 * np.abs(attacked - faces).max(axis=(1, 2, 3))
    l2, similarity, linf = ([None if np.isnan(v) else float(v) for v in row] for row in values)
    return {"l2_face": l2, "similarity": similarity, "linf": linf, "seconds": seconds, "notes": sorted(notes)}


def _quality(models: Mapping[str, Manipulator], faces: Faces, recognizer: Recognizer) -> dict[str, Quality] | str:
    """As `evaluate-manipulator` measures it, or why it cannot be: too few faces, or no labels."""
    classifier = attributes.default().to(faces.device)
    try:
        return {name: measure_quality(model, faces, classifier, recognizer) for name, model in models.items()}
    except IDGuardError as error:
        return str(error)


def save_attacked(path: Path, models: Mapping[str, Manipulator], x: np.ndarray) -> None:
    """Rows of a picture: photo, then for each model its clean forgery and that of the photo attacked by PGD."""
    columns = ["photo", *(f"{name}: {what}" for name in models for what in ("forged", "under PGD"))]
    captions, rows = [], []
    for i in range(min(3, len(x))):
        row = [2 * torch.tensor(x[i]) - 1]
        for model in models.values():
            names = PyTorchManipulator(model).edit_names
            edit = names[i % len(names)]
            estimator = PyTorchManipulator(model, edit=edit, input_shape=x.shape[1:])
            for picture in (x[i : i + 1], reference_pgd(estimator, x[i : i + 1])):
                row.append(2 * torch.tensor(estimator.predict(picture)[0]) - 1)
        rows.append(row)
        captions.append(edit)
    save_grid(path, rows, captions=captions, columns=columns)

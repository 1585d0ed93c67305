"""`art-idguard evaluate`: a protector beside its baselines on named data sets, as files."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from art_idguard import manipulators as manipulators_
from art_idguard import recognizers as recognizers_
from art_idguard.baselines.base import Attack, Protection
from art_idguard.baselines.criterion import criterion_white_box
from art_idguard.baselines.disrupting import white_box
from art_idguard.baselines.idguard import id_guard, p_pert, refined
from art_idguard.baselines.noise import brightness, sign_noise
from art_idguard.baselines.registry import TRAINED, Baselines, chosen
from art_idguard.data.spec import DataSpec
from art_idguard.distortions import After, parse
from art_idguard.errors import IDGuardError
from art_idguard.evaluation.calibration import impostor_pairs, thresholds
from art_idguard.evaluation.checks import check_numbers, distinct, named
from art_idguard.evaluation.pictures import save_pictures
from art_idguard.evaluation.protection import Edits, evaluate
from art_idguard.evaluation.report import CEILING, WHITE_BOX, Report
from art_idguard.evaluation.tables import markdown
from art_idguard.files.atomic import write_text
from art_idguard.hub.loading import official_file, weights_sha256
from art_idguard.hub.shipped import shipped
from art_idguard.perturbation import Protector
from art_idguard.perturbation.refined import RefinedProtector
from art_idguard.recognizers.base import Recognizer

ID_GUARD = "ID-Guard"
CMUAEdits = Literal["turn", "each"]
"""The edits in turn in CMUA's steps, or as many steps for each of them, as its official code has it."""

DEFAULT = str(shipped("protectors/default"))


class ProtectorSpec(NamedTuple):
    """A protector to measure, written NAME=FOLDER or FOLDER; a Hub id does as well. Its row has the name."""

    name: str | None
    source: str

    @classmethod
    def parse(cls, text: str) -> "ProtectorSpec":
        """Raises IDGuardError where a name or a folder is empty."""
        named = official_file(text)
        name, source = named or (None, text)
        if name == "" or not source:
            raise IDGuardError(f"cannot read the protector {text!r}; expected FOLDER or NAME=FOLDER")
        return cls(name, source)


def evaluate_protector(
    *,
    protectors: Sequence[str] = (),
    manipulators: Sequence[str],
    recognizers: Sequence[str] = (),
    data: Sequence[str],
    output: Path,
    limit: int | None = None,
    edits: Edits = "all",
    operations: Sequence[str] = (),
    refine: int | Literal["auto"] = 0,
    refine_against: Sequence[str] = (),
    baselines: Sequence[str] | None = None,
    baseline_faces: str | None = None,
    baseline_limit: int = 128,
    calibrate: str | None = None,
    baseline_steps: int = 100,
    cmua_edits: CMUAEdits = "turn",
    reference_faces: int = 0,
    reference_steps: int = 40,
    reference_restarts: int = 1,
    batch_size: int = 16,
    seed: int = 0,
    size: int | None = None,
    verbose: bool = True,
) -> dict[str, Report]:
    """Measure protectors, side by side, and write <output>/<NAME>.{json,md,png} for each data set.

    Beside it stand a brightness shift and noise of random signs, each as strong as its bound allows. A rerun
    goes on where an interrupted one stopped (<output>/<NAME>.jsonl).

    Args:
        protectors: as `ProtectorSpec` reads them, each with a row and one of its P-Pert; by default the one that ships.
            Without a name of its own the first is ID-Guard and others have their folder's. All have one epsilon.
        manipulators: folders or Hub ids, or name=file for official checkpoints.
        recognizers: likewise; first the one that training used, then at least one that it did not
            (without, the report carries a warning). None given: the SFace that ships.
        data: data sets as `DataSpec` reads them.
        output: folder of the results.
        limit: faces of each data set.
        edits: every edit for every face, or "cycle" for one, at a fifth of the cost.
        operations: what all photos, clean and protected, go through before the manipulators see them, such as none,
            jpeg=75, blur=1, resize=0.5 (`distortions.parse`); every pair of manipulator and operation has its own
            columns.
        refine: also the first protector with this many steps of PGD behind it (`RefinedProtector`), which know the
            recognisers but the last, or the only one, and no face's later edit.
        refine_against: the manipulators that they know; all by default.
        baselines: also these, names of `baseline_rows.BASELINES`; none given: all.
        baseline_faces: data set on whose first faces CMUA, PG and IAP are trained; default: the training split
            of the first data set, which a mere folder or tar lacks: a warning tells if faces are in both.
        baseline_limit: how many faces they are trained on (128 in CMUA's paper).
        baseline_steps: of the training of PG's generators, one for each manipulator, and of IAP's (published: 30,000
            for PG).
        cmua_edits: "each" is CMUA's official budget, 10 steps for every edit; in "turn" costs a fifth.
        calibrate: data set whose file names say who it is, such as LFW (`calibration.people`; framing=align): also how
            many forgeries each recogniser, at a false accept rate of 1 % and 0.1 % there, takes for another person.
        reference_faces: attack this many faces by both white boxes, PGD on the whole picture's error and the one aimed
            at the criterion (`criterion_white_box`); figures are shares of the latter's. It knows the recognisers but
            the last, or the only one: the last of several takes part in nothing and judges.
        reference_steps: of each white box.
        reference_restarts: of the criterion's, each of as many steps; a face keeps its best.
        batch_size: faces at a time.
        seed: of noise and of random starts.
        size: side of the faces in pixels; default: that of the protector.
        verbose: show progress bars.

    Raises:
        IDGuardError: unusable weights, data, operations, specifications or numbers, or a protection outside its ball.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    specs = [DataSpec.parse(text) for text in data]
    strangers = DataSpec.parse(calibrate) if calibrate else None
    if not specs or not manipulators:
        raise IDGuardError("nothing to evaluate; name at least one data set and one manipulator")
    if refine_against and not refine:
        raise IDGuardError("--refine-against says whom refining knows, and nothing is refined; add --refine 10")
    regions = output / "regions.safetensors"
    recognizers = recognizers or [str(shipped("recognizers/sface"))]
    guards = _protectors(protectors, device)
    (first, guard), *_ = guards.items()
    targets = named([manipulators_.load(spec).to(device) for spec in manipulators])
    size = guard.prior.shape[-1] if size is None else size
    check_numbers(
        targets.values(),
        size=size,
        limit=limit,
        batch_size=batch_size,
        baseline_limit=baseline_limit,
        baseline_steps=baseline_steps,
        reference_faces=reference_faces,
        reference_steps=reference_steps,
        reference_restarts=reference_restarts,
        refine=1 if refine == "auto" else refine,
    )
    seen = {f"{name}, {text}": After(m, parse(text)) for name, m in targets.items() for text in operations} or targets
    judges = named([recognizers_.load(spec).to(device) for spec in recognizers])
    sources = (*(ProtectorSpec.parse(p).source for p in protectors or [DEFAULT]), *manipulators, *recognizers)
    weights = {k: weights_sha256(spec) for k, spec in zip((*guards, *targets, *judges), sources, strict=True)}
    calibration = _calibration(strangers, judges, weights, size, device, output) if strangers else {}
    known = list(judges)[:-1] or list(judges)  # the last of several judges takes part in nothing
    own: dict[str, Protection] = {}
    for name, each in guards.items():
        own |= {name: id_guard(each), "P-Pert" if name == ID_GUARD else f"P-Pert ({name})": p_pert(each)}
    protections = dict(own)
    about: dict[str, Any] = {}
    if refine:
        foes = [manipulators_.load(spec).to(device) for spec in refine_against] or list(targets.values())
        protections[f"{first}, refined"] = refined(
            RefinedProtector(guard, foes, [judges[name] for name in known], steps=refine)
        )
        against = [weights_sha256(m) for m in refine_against or manipulators]
        about["refine"] = {"steps": refine, "against": against, "recognizers": known}
    protections["Brightness +epsilon"] = brightness(epsilon=guard.epsilon)
    protections["±epsilon noise"] = sign_noise(epsilon=guard.epsilon, seed=seed)
    trained_on: set[str] = set()
    names = () if baselines is None else chosen(baselines)
    trained_faces = None
    if set(names).intersection(TRAINED):
        train = DataSpec.parse(baseline_faces) if baseline_faces else specs[0]._replace(split="train")
        trained_faces = train.read(size=size, limit=baseline_limit, regions=regions).to(device)
        trained_on = set(trained_faces.files)
    if names:
        made = Baselines(
            targets=targets,
            weights=weights,
            faces=trained_faces,
            epsilon=guard.epsilon,
            seed=seed,
            steps=baseline_steps,
            each_edit=cmua_edits == "each",
            folder=output,
            verbose=verbose,
        )
        rows = made.rows(names)
        if twice := protections.keys() & rows.keys():
            raise IDGuardError(f"a protector has the name of a baseline's row, {', '.join(twice)}; give it another")
        protections |= rows
        about["baselines"] = made.about(names)
    references: dict[str, Attack] = {}
    if reference_faces:
        options: dict[str, Any] = {"epsilon": guard.epsilon, "steps": reference_steps, "seed": seed}
        aimed = criterion_white_box([judges[name] for name in known], restarts=reference_restarts, **options)
        references = {WHITE_BOX: white_box(**options), CEILING: aimed}
        about["references"] = {
            "steps": reference_steps,
            "restarts": reference_restarts,
            "recognizers": known,
        }
    reports = {}
    for spec in specs:
        faces = spec.read(size=size, limit=limit, regions=regions).to(device)
        if shared := trained_on.intersection(faces.files):
            warnings.warn(
                f"baselines were trained on {len(shared)} of the {len(faces)} faces of {spec.name}, which flatters "
                "them; name other faces with --baseline-faces",
                stacklevel=2,
            )
        measured = evaluate(
            protections,
            seen,
            faces,
            judges,
            epsilon=guard.epsilon,
            batch_size=batch_size,
            edits=edits,
            references=references,
            reference_faces=reference_faces,
            metadata={
                "data": spec.public(),
                "weights": weights,
                "seed": seed,
                **about,
            },
            resume_file=output / f"{spec.name}.jsonl",
            verbose=verbose,
        )
        # Beside the metadata that pins the resume file: a calibration measures nothing anew.
        reports[spec.name] = replace(measured, metadata={**measured.metadata, **calibration})
        reports[spec.name].to_json(output / f"{spec.name}.json")
        write_text(output / f"{spec.name}.md", markdown(reports[spec.name]))
        save_pictures(output / f"{spec.name}.png", own, targets, faces)
    return reports


def _protectors(texts: Sequence[str], device: str) -> dict[str, Protector]:
    """By the names of their rows, frozen.

    Raises:
        IDGuardError: unusable weights, or another epsilon than that of the first.
    """
    specs = [ProtectorSpec.parse(text) for text in texts or [DEFAULT]]
    names = distinct([spec.name or (Path(spec.source).name if i else ID_GUARD) for i, spec in enumerate(specs)])
    guards = {
        name: Protector.from_pretrained(spec.source).to(device).requires_grad_(False)
        for name, spec in zip(names, specs, strict=True)
    }
    if len({guard.epsilon for guard in guards.values()}) > 1:
        found = ", ".join(f"{name} {guard.epsilon:g}" for name, guard in guards.items())
        raise IDGuardError(f"the protectors have different epsilons ({found}); one table has one bound")
    return guards


def _calibration(
    spec: DataSpec,
    judges: Mapping[str, Recognizer],
    weights: Mapping[str, str | None],
    size: int,
    device: str,
    output: Path,
) -> dict[str, Any]:
    """A report's metadata on where its recognisers' thresholds are, and from whom."""
    faces = spec.read(size=size, limit=None, regions=output / "regions.safetensors").to(device)
    found = thresholds(judges, faces, weights=weights, kept=output / "calibration.safetensors")
    source = {**spec.public(), "faces": len(faces), "impostor_pairs": impostor_pairs(faces.names)}
    return {"calibration": source, "thresholds": found}

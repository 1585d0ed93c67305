"""`art-idguard evaluate`: protectors beside their baselines on named data sets, as files."""

import warnings
from dataclasses import replace

from art_idguard.data.faces import Faces
from art_idguard.data.spec import DataSpec
from art_idguard.errors import IDGuardError
from art_idguard.evaluation.config import EvaluationConfig
from art_idguard.evaluation.document import PAGE, write_html
from art_idguard.evaluation.parts import Parts
from art_idguard.evaluation.protection import evaluate
from art_idguard.evaluation.report import Report
from art_idguard.evaluation.tables import document, markdown
from art_idguard.files.atomic import write_text
from art_idguard.types import float32


@float32()
def evaluate_protectors(config: EvaluationConfig, *, verbose: bool = True) -> dict[str, Report]:
    """Measure protectors, side by side, and write <output>/<NAME>.{json,md,png} for each data set, plots, and one page.

    The page, report.html, has tables, plots and pictures of all data sets in it. Beside the protectors stand a
    brightness shift and noise of random signs, each as strong as their bound allows. A rerun goes on where an
    interrupted one stopped (<output>/<NAME>.jsonl).

    Args:
        config: the settings.
        verbose: show progress bars.

    Raises:
        IDGuardError: unusable weights, data, operations, specifications or numbers, or a protection outside its ball.
    """
    specs = _data(config)
    parts = Parts(config, verbose=verbose)
    calibration = parts.calibration()
    own = parts.own()
    refined_, about_refined = parts.refined()
    learnt_from = parts.learnt_from(specs[0])
    baselines, about_baselines = parts.baselines(learnt_from)
    protections = own | refined_ | parts.bounds()
    if twice := protections.keys() & baselines.keys():
        raise IDGuardError(f"a protector has the name of a baseline's row, {', '.join(twice)}; give it another")
    references, about_references = parts.references()
    about = {"weights": parts.weights, "seed": config.seed} | about_refined | about_baselines | about_references
    reports, documents = {}, []
    for spec in specs:
        faces = parts.read(spec, config.limit)
        if learnt_from is not None:
            _warn_of_shared(learnt_from, faces, spec)
        measured = evaluate(
            protections | baselines,
            parts.forging,
            faces,
            parts.recognizers,
            epsilon=parts.guard.epsilon,
            batch_size=config.batch_size,
            edits=config.edits,
            references=references,
            reference_faces=config.reference_faces,
            originals=parts.originals,
            metadata={"data": spec.public(), **about},
            resume_file=parts.output / f"{spec.name}.jsonl",
            verbose=verbose,
        )
        # Beside the metadata that pins the resume file: a calibration measures nothing anew.
        reports[spec.name] = report = replace(measured, metadata={**measured.metadata, **calibration})
        stem = parts.output / spec.name
        report.to_json(stem.with_name(f"{stem.name}.json"))
        write_text(stem.with_name(f"{stem.name}.md"), markdown(report))
        documents.append(replace(document(report), pictures=parts.pictures(stem, report, own, faces)))
    write_html(parts.output / PAGE, documents)
    return reports


def _data(config: EvaluationConfig) -> list[DataSpec]:
    specs = [DataSpec.parse(text) for text in config.data]
    if config.refine_against and not any(config.refine):
        raise IDGuardError("--refine-against says whom refining knows, and nothing is refined; add --refine 10")
    return specs


def _warn_of_shared(learnt_from: Faces, faces: Faces, spec: DataSpec) -> None:
    if shared := set(learnt_from.files).intersection(faces.files):
        warnings.warn(
            f"baselines were trained on {len(shared)} of the {len(faces)} faces of {spec.name}, which flatters "
            "them; name other faces with --baseline-faces",
            stacklevel=3,
        )

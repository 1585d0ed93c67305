"""Table VII and Fig. 15: white-box attacks on manipulators, and on what adversarial training makes of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from art_idguard.attacks.robustness import Robustness, attack_manipulator
from art_idguard.data.spec import DataSpec
from art_idguard.evaluation.config import RobustnessConfig
from art_idguard.evaluation.document import PAGE, Document, Picture, Section, Table, facts, write_html
from art_idguard.hub.shipped import shipped
from art_idguard.reproduction.config import ReproductionConfig
from art_idguard.reproduction.experiments import MANIPULATORS, S_II
from art_idguard.reproduction.result import TITLES, reported, write_result
from art_idguard.reproduction.workshop import Workshop

EXPERIMENT = "table7"
TITLE = "Table VII: adversarial training"

HARDENED = ("stargan", "relgan")

COLUMNS = {
    "Gaussian noise": "Gaussian noise (sigma 0.05)",
    "FGSM": "FGSM (ART)",
    "I-FGSM": "I-FGSM (ART)",
    "PGD": "PGD (ART)",
    "C&W": "C&W (the paper's, unbounded)",
}
"""The paper's columns, and which of `attacks.white_boxes.WHITE_BOXES` each is here."""


@dataclass(frozen=True)
class HardeningResult:
    """By manipulator, what was measured, beside what the paper reports."""

    tables: Mapping[str, Robustness]
    about: Mapping[str, Any]

    def _metadata(self) -> dict[str, Any]:
        first, *_ = self.tables.values()
        weights = {f"{k}, {name}": of for k, t in self.tables.items() for name, of in t.metadata["weights"].items()}
        return {**first.metadata, "n": first.metadata["faces"], **self.about, "weights": weights}

    def json(self) -> dict[str, Any]:
        """Everything."""
        measured = {name: table.json() for name, table in self.tables.items()}
        about = {"metadata": self._metadata(), "measured": measured}
        return {"experiment": EXPERIMENT, **about, "reported": reported(EXPERIMENT)}

    def document(self) -> Document:
        """The paper's layout, a model a row; then every attack, and the quality of the edits."""
        head = [f"{attack} {TITLES[m].rstrip('↑↓')}" for attack in COLUMNS for m in ("l2_face", "similarity")]
        rows = [
            [
                f"{name}-AT" if model == "hardened" else name,
                *(
                    table.cell(model, attack, measure).text(3)
                    for attack in COLUMNS.values()
                    for measure in ("l2_face", "similarity")
                ),
            ]
            for name, table in self.tables.items()
            for model in table.models
        ]
        paper = [
            [model, *(f"{value:.3f}" for cells in of.values() for value in cells.values())]
            for model, of in reported(EXPERIMENT)["CelebAMask-HQ"].items()
        ]
        sections = [Section("Reported by the paper", "256 px, the authors' models.", Table(["Model", *head], paper))]
        for name, table in self.tables.items():
            whole = table.document()
            sections += [whole.headline._replace(title=f"All attacks on {name}"), *whole.sections]
        text = (
            "Lower L2_face and higher similarity: the forgery is moved less. Means ± half the bootstrap 95 % interval."
        )
        headline = Section("Measured here", text, Table(["Model", *head], rows))
        return Document(f"{TITLE} ({self.about['scale']} scale)", facts(self._metadata()), headline, sections)


def reproduce_hardening(config: ReproductionConfig, *, verbose: bool) -> dict[str, HardeningResult]:
    """Train what is missing, with the first seed, measure, and write <output>/<SCALE>/table7/<DATA>.{json,md}, a page.

    Raises:
        IDGuardError: unusable data or weights, or a first look finds nothing.
        KeyboardInterrupt: a training was stopped.
    """
    workshop, seed = Workshop(config, verbose=verbose), config.seeds[0]
    targets = workshop.manipulators(MANIPULATORS)
    guards = workshop.protectors({EXPERIMENT: S_II.settings}, [seed], tuple(targets.values()))
    originals = {name: targets[name] for name in HARDENED if name in targets}
    hardened = workshop.hardened(originals, guards[EXPERIMENT, seed])
    folder, data = workshop.results, workshop.data[0]
    outputs = {name: folder / f"{name}-seed-{seed}-faces-{config.limit}" for name in hardened}
    tables = {
        name: attack_manipulator(
            RobustnessConfig(
                original=targets[name],
                hardened=str(place),
                data=data,
                output=str(outputs[name]),
                limit=config.limit,
                size=workshop.scale.size,
                recognizer=str(shipped("recognizers/sface")),
            ),
            verbose=verbose,
        )
        for name, place in hardened.items()
    }
    seconds = {name: workshop.training_seconds(place) for name, place in hardened.items()}
    about = {"scale": config.scale, "quick": config.quick, "seed": seed, "training seconds": seconds}
    result, name = HardeningResult(tables, about), DataSpec.parse(data).name
    pictures = [
        Picture(output / f"{name}.png", f"Fig. 15, {model}: forgeries, and the same under PGD.")
        for model, output in outputs.items()
    ]
    write_html(folder / PAGE, [write_result(result, folder, name, pictures)])
    return {name: result}

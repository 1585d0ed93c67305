"""`art-idguard adversary`: protections beside what an adversary makes of them, as files."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from art_idguard import manipulators, recognizers
from art_idguard.adversary.config import AdversaryConfig
from art_idguard.adversary.families import FAMILIES
from art_idguard.adversary.report import UNTOUCHED, AdversaryReport
from art_idguard.adversary.setting import AdversarySetting, Attempts
from art_idguard.baselines.disrupting import disrupting
from art_idguard.baselines.idguard import id_guard, refined
from art_idguard.baselines.noise import sign_noise
from art_idguard.baselines.setting import Rows
from art_idguard.data.faces import Faces
from art_idguard.data.spec import DataSpec
from art_idguard.errors import IDGuardError
from art_idguard.evaluation.checks import check_size, named
from art_idguard.evaluation.document import PAGE, Picture, write_html
from art_idguard.evaluation.figures import INTERVALS
from art_idguard.evaluation.plots import save_plot
from art_idguard.evaluation.protection import evaluate
from art_idguard.files.atomic import write_text
from art_idguard.files.grid import save_grid
from art_idguard.hub.loading import weights_sha256
from art_idguard.hub.shipped import shipped
from art_idguard.manipulators.base import Manipulator
from art_idguard.perturbation import Protector
from art_idguard.perturbation.refined import RefinedProtector
from art_idguard.perturbation.weakened import WeakenedProtector
from art_idguard.types import Edit, float32


@float32()
def run_adversary(config: AdversaryConfig, *, verbose: bool = True) -> dict[str, AdversaryReport]:
    """Attack protections of one manipulator after the other, and write <output>/<MANIPULATOR>.{json,md,png}.

    Beside them lie plots of what is left, and report.html, a page with all of it. The rows are the protector's one
    pass, refined, PGD-10 on that manipulator, noise of random signs as strong as the bound, and the photo itself, whose
    figures are the adversary's cost. A rerun goes on where one was stopped.

    Args:
        config: the settings.
        verbose: show progress bars.

    Raises:
        IDGuardError: unusable weights, data or numbers, or an unknown family of attempts.
    """
    parts = _Parts(config, verbose=verbose)
    reports, documents = {}, []
    for name, target in parts.targets.items():
        setting = AdversarySetting(
            name=name,
            manipulator=target,
            protector=parts.protector,
            faces=parts.others,
            steps=config.steps,
            cleaner_steps=config.cleaner_steps,
            taef2=config.taef2,
            seed=config.seed,
            folder=parts.output / "learnt",
            verbose=verbose,
        )
        attempts = {a: forger for family in parts.families for a, forger in family.attempts(setting).items()}
        if not attempts:
            tried = ", ".join(config.attempts)
            raise IDGuardError(f"{name} has no weights to adapt; choose other attempts than {tried}")
        rows = parts.rows(setting)
        found = evaluate(
            rows,
            attempts,
            parts.faces,
            parts.judges,
            epsilon=parts.protector.epsilon,
            batch_size=4,
            edits="cycle",
            originals=dict.fromkeys(attempts, target),
            metadata=parts.about(name),
            resume_file=parts.output / f"{name}.jsonl",
            verbose=verbose,
        )
        reports[name] = report = AdversaryReport(name, found)
        write_text(parts.output / f"{name}.json", json.dumps(report.json(), indent=1, allow_nan=False) + "\n")
        write_text(parts.output / f"{name}.md", report.markdown())
        pictures = _pictures(parts.output / name, report, target, attempts, rows, parts)
        documents.append(replace(report.document(), pictures=pictures))
    write_html(parts.output / PAGE, documents)
    return reports


class _Parts:
    """The networks and faces of a run."""

    def __init__(self, config: AdversaryConfig, *, verbose: bool) -> None:
        self.config, self.output, self.verbose = config, Path(config.output), verbose
        if unknown := [name for name in config.attempts if name not in FAMILIES]:
            raise IDGuardError(f"unknown attempts: {', '.join(unknown)}; choose from: {', '.join(FAMILIES.names())}")
        self.families = [FAMILIES[name] for name in config.attempts or FAMILIES.names()]
        device = "cuda" if torch.cuda.is_available() else "cpu"
        source = config.protector or str(shipped("protectors/default"))
        self.protector = Protector.from_pretrained(source).to(device).eval().requires_grad_(False)
        specs = config.manipulators or tuple(manipulators.shipped_manipulators())
        judging = config.recognizers or (str(shipped("recognizers/sface")),)
        self.targets = named([manipulators.load(spec).to(device) for spec in specs])
        self.judges = named([recognizers.load(spec).to(device) for spec in judging])
        names = ("protector", *self.targets, *self.judges)
        self.weights = {n: weights_sha256(s) for n, s in zip(names, (source, *specs, *judging), strict=True)}
        self.size = config.size or self.protector.prior.shape[-1]
        check_size(self.targets.values(), self.size)
        self.data = DataSpec.parse(config.data)
        self.faces = self._read(self.data, config.limit)
        self.others = self._others()

    def _read(self, spec: DataSpec, limit: int) -> Faces:
        cache = self.output / "regions.safetensors"
        faces = spec.read(size=self.size, limit=limit, cache=cache, verbose=self.verbose)
        return faces.to(self.protector.prior.device)

    def _others(self) -> Faces | None:
        """What the adversary learns on; None where no attempt learns."""
        if not any(family.learns for family in self.families):
            return None
        spec = DataSpec.parse(self.config.learn_from) if self.config.learn_from else self.data._replace(split="train")
        others = self._read(spec, self.config.learn_limit)
        if shared := set(others.files).intersection(self.faces.files):
            raise IDGuardError(
                f"the adversary would learn on {len(shared)} of the {len(self.faces)} faces to protect; name others "
                "with --learn-from"
            )
        return others

    def about(self, target: str) -> dict[str, Any]:
        """What a report says of data and weights."""
        config, others = self.config, self.others
        return {
            "data": self.data.public(),
            "weights": {name: self.weights[name] for name in ("protector", target, *self.judges)},
            "learns": others and {"faces": len(others), "digest": others.digest(), "steps": config.steps},
            "cleaner_steps": config.cleaner_steps,
            "taef2": config.taef2 and weights_sha256(config.taef2),
            "refine": config.refine,
            "seed": config.seed,
        }

    @property
    def bounds(self) -> dict[str, float]:
        """Epsilon of the protector's rows, from small to large."""
        full = self.protector.epsilon
        return {_weakened(share * full): share * full for share in sorted(self.config.strengths)} | {"ID-Guard": full}

    def rows(self, setting: AdversarySetting) -> Rows:
        """The protections against one manipulator."""
        epsilon, seed = self.protector.epsilon, self.config.seed
        known = list(self.judges.values())[:-1] or list(self.judges.values())  # the last of several judges and no more
        rows = {"ID-Guard": id_guard(self.protector)}
        for strength in self.config.strengths:
            weakened = WeakenedProtector(self.protector, strength)
            rows[_weakened(weakened.epsilon)] = id_guard(weakened)
        if self.config.refine:
            strong = RefinedProtector(self.protector, [setting.manipulator], known, steps=self.config.refine)
            rows["ID-Guard, refined"] = refined(strong)
        return {
            **rows,
            "PGD-10": disrupting(setting.manipulator, epsilon=epsilon, seed=seed),
            "±epsilon noise": sign_noise(epsilon=epsilon, seed=seed),
            UNTOUCHED: lambda batch: batch.images,
        }


def _weakened(epsilon: float) -> str:
    return f"ID-Guard, epsilon {epsilon:g}"


_EFFORT = (
    "What is left, for each face under the worst of what is tried: nothing; what needs no learning; beside it what has "
    "learnt for a quarter, half and all of its steps"
)


def _pictures(
    stem: Path, report: AdversaryReport, target: Manipulator, attempts: Attempts, rows: Rows, parts: _Parts
) -> list[Picture]:
    ends = ("-left.png", "-effort.png", "-epsilon.png", ".png")
    plot, effort, curve, grid = (stem.with_name(f"{stem.name}{end}") for end in ends)
    _save_grid(grid, target, attempts, rows, parts.faces)
    pictures = [
        save_plot(effort, report.against_effort(), f"{_EFFORT}, {INTERVALS}."),
        save_plot(plot, report.bars(), f"What each attempt leaves, {INTERVALS}."),
    ]
    if parts.config.strengths:
        against = report.against_epsilon(parts.bounds)
        pictures.append(save_plot(curve, against, f"What is left of ID-Guard against its epsilon, {INTERVALS}."))
    return [*pictures, Picture(grid, "Each attempt on the first face, clean and under each protection.")]


@torch.no_grad()
def _save_grid(path: Path, target: Manipulator, attempts: Attempts, rows: Rows, faces: Faces) -> None:
    """A line for each attempt on the first face: the photo, its forgery, and what is forged of each row's."""
    batch = faces.batch(slice(1))
    protected = torch.cat([protect(batch).detach() for protect in rows.values()])
    (edit, *_) = target.edits(batch.attributes)
    clean = target(batch.images, edit).output
    many = Edit(edit.name, edit.condition.expand(len(protected), -1))
    lines = [[batch.images[0], clean[0], *attempt(protected, many).output] for attempt in attempts.values()]
    save_grid(path, lines, captions=list(attempts), columns=["photo", "forged", *(f"{row}, forged" for row in rows)])

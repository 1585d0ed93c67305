"""What an evaluation consists of: networks, and the rows they make."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from art_idguard.baselines.base import Attack
from art_idguard.baselines.criterion import criterion_white_box
from art_idguard.baselines.disrupting import white_box
from art_idguard.baselines.idguard import id_guard, p_pert, refined
from art_idguard.baselines.noise import brightness, sign_noise
from art_idguard.baselines.registry import chosen, make_rows
from art_idguard.baselines.setting import BaselineSetting, Rows
from art_idguard.data.faces import Faces
from art_idguard.data.spec import DataSpec
from art_idguard.distortions import After, parse
from art_idguard.errors import IDGuardError
from art_idguard.evaluation.calibration import impostor_pairs, thresholds
from art_idguard.evaluation.checks import check_size, distinct, named
from art_idguard.evaluation.config import EvaluationConfig
from art_idguard.evaluation.document import Picture
from art_idguard.evaluation.figures import INTERVALS, protection_bars, robustness_curves
from art_idguard.evaluation.pictures import save_pictures
from art_idguard.evaluation.plots import save_plot
from art_idguard.evaluation.report import CEILING, WHITE_BOX, Report
from art_idguard.evaluation.training_log import read_training, training_curves
from art_idguard.hub.loading import official_file, weights_sha256
from art_idguard.hub.shipped import shipped
from art_idguard.manipulators import Manipulator, shipped_manipulators
from art_idguard.manipulators import load as load_manipulator
from art_idguard.perturbation import Protector
from art_idguard.perturbation.precision import faster_precision
from art_idguard.perturbation.refined import RefinedProtector
from art_idguard.recognizers import load as load_recognizer
from art_idguard.recognizers.base import Recognizer
from art_idguard.restorers import Restored
from art_idguard.restorers import find as find_restorer

ID_GUARD = "ID-Guard"

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


class Parts:
    """The networks of an evaluation, and the rows they make; each with what a report says of it."""

    def __init__(self, config: EvaluationConfig, *, verbose: bool) -> None:
        self.config, self.verbose = config, verbose
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.output = Path(config.output)
        sources = [ProtectorSpec.parse(text).source for text in config.protector or [DEFAULT]]
        self.chosen = {} if config.baselines is None else chosen(config.baselines)
        self.guards = _protectors(config.protector, self.device)
        (self.first, self.guard), *_ = self.guards.items()
        self.trainings = {name: read_training(source) for name, source in zip(self.guards, sources, strict=True)}
        self.specs = config.manipulators or shipped_manipulators()
        self.targets = named(self._manipulators(self.specs))
        self.size = self.guard.prior.shape[-1] if config.size is None else config.size
        check_size(self.targets.values(), self.size)
        operations = [(text, parse(text)) for text in config.operations]
        after = {f"{n}, {text}": After(m, operation) for n, m in self.targets.items() for text, operation in operations}
        restorers = {name: find_restorer(name) for name in config.restorers}
        forging: Mapping[str, Manipulator] = after or self.targets
        restored = {f"{n}, {r}": (Restored(m, restorers[r]), m) for n, m in forging.items() for r in restorers}
        self.forging = {name: ours for name, (ours, _) in restored.items()} or forging
        self.originals = {name: original for name, (_, original) in restored.items()}
        recognizers = config.recognizers or (str(shipped("recognizers/sface")),)
        self.recognizers = named([load_recognizer(spec).to(self.device) for spec in recognizers])
        sources += [*self.specs, *recognizers]
        names = (*self.guards, *self.targets, *self.recognizers)
        self.weights = {name: weights_sha256(spec) for name, spec in zip(names, sources, strict=True)}
        self.precision = config.attack_precision  # as it came to be, for a report and for who resumes it elsewhere
        if self.precision == "auto":
            self.precision = faster_precision(torch.device(self.device))
        self.known = list(self.recognizers)[:-1] or list(self.recognizers)  # the last of several takes part in nothing

    def pictures(self, stem: Path, report: Report, own: Rows, faces: Faces) -> list[Picture]:
        """Plots of a report and of how its protectors were trained, and the forgeries, written beside it."""
        save_pictures(grid := stem.with_name(f"{stem.name}.png"), own, self.targets, faces)

        def at(name: str) -> Path:
            return stem.with_name(f"{stem.name}-{name}.png")

        behind = robustness_curves(report, self.config.operations).items()
        trained = [(name, steps) for name, steps in self.trainings.items() if steps]
        return [
            save_plot(at("bars"), protection_bars(report), f"Each protection, {INTERVALS}."),
            *(save_plot(at(kind), figure, f"Behind {kind}, {INTERVALS}.") for kind, figure in behind),
            *(
                save_plot(at(f"training-{i}"), training_curves(steps), f"Training of {name}, step by step.")
                for i, (name, steps) in enumerate(trained, start=1)
            ),
            Picture(grid, "Forgeries of the first faces, a row for each manipulator."),
        ]

    def _manipulators(self, specs: Sequence[str]) -> list[Manipulator]:
        return [load_manipulator(spec).to(self.device) for spec in specs]

    def _known(self) -> list[Recognizer]:
        return [self.recognizers[name] for name in self.known]

    def read(self, spec: DataSpec, limit: int | None) -> Faces:
        """Faces of a data set."""
        cache = self.output / "regions.safetensors"
        return spec.read(size=self.size, limit=limit, cache=cache, verbose=self.verbose).to(self.device)

    def calibration(self) -> dict[str, Any]:
        """Where the recognisers' thresholds are, and from whom; nothing where no faces are given for it."""
        if not self.config.calibrate:
            return {}
        spec = DataSpec.parse(self.config.calibrate)
        faces = self.read(spec, None)
        found = thresholds(self.recognizers, faces, weights=self.weights, kept=self.output / "calibration.safetensors")
        source = {**spec.public(), "faces": len(faces), "impostor_pairs": impostor_pairs(faces.names)}
        return {"calibration": source, "thresholds": found}

    def own(self) -> Rows:
        """Each protector, and its P-Pert."""
        rows: Rows = {}
        for name, guard in self.guards.items():
            rows |= {name: id_guard(guard), "P-Pert" if name == ID_GUARD else f"P-Pert ({name})": p_pert(guard)}
        return rows

    def refined(self) -> tuple[Rows, dict[str, Any]]:
        """The first protector with PGD behind it, as often as asked for."""
        config, asked = self.config, [steps for steps in self.config.refine if steps]
        if not asked:
            return {}, {}
        targets = self._manipulators(config.refine_against) or list(self.targets.values())
        precision = self.precision
        made = partial(RefinedProtector, self.guard, targets, self._known(), precision=precision)
        name, several = f"{self.first}, refined", len(asked) > 1
        rows = {f"{name} {n}" if several else name: refined(made(steps=n)) for n in asked}
        against = [weights_sha256(spec) for spec in config.refine_against or self.specs]
        about = {"steps": asked, "precision": precision, "against": against, "recognizers": self.known}
        return rows, {"refine": about}

    def bounds(self) -> Rows:
        """What a bound alone does."""
        epsilon, seed = self.guard.epsilon, self.config.seed
        return {
            "Brightness +epsilon": brightness(epsilon=epsilon),
            "±epsilon noise": sign_noise(epsilon=epsilon, seed=seed),
        }

    def learnt_from(self, first: DataSpec) -> Faces | None:
        """What baselines are trained on; None where none is."""
        config = self.config
        if not any(baseline.learns for baseline in self.chosen.values()):
            return None
        spec = DataSpec.parse(config.baseline_faces) if config.baseline_faces else first._replace(split="train")
        return self.read(spec, config.baseline_limit)

    def baselines(self, faces: Faces | None) -> tuple[Rows, dict[str, Any]]:
        """The baselines asked for, those that learn from these faces."""
        config = self.config
        if not self.chosen:
            return {}, {}
        specs = config.baseline_manipulators or self.specs
        targets = named(self._manipulators(config.baseline_manipulators)) or self.targets
        check_size(targets.values(), self.size)
        weights = {name: weights_sha256(spec) for name, spec in zip(targets, specs, strict=True)}
        setting = BaselineSetting(
            targets=targets,
            weights=weights,
            faces=faces,
            epsilon=self.guard.epsilon,
            seed=config.seed,
            steps=config.baseline_steps,
            each_edit=config.cmua_edits == "each",
            folder=Path(config.baseline_folder or self.output),
            verbose=self.verbose,
        )
        rows, budgets = make_rows(self.chosen, setting)
        known = {"baselines know": weights} if config.baseline_manipulators else {}
        return rows, {"baselines": budgets, **known}

    def references(self) -> tuple[dict[str, Attack], dict[str, Any]]:
        """The white boxes, on the picture and on the criterion."""
        config = self.config
        if not config.reference_faces:
            return {}, {}
        steps, restarts = config.reference_steps, config.reference_restarts
        how: dict[str, Any] = {"steps": steps, "precision": self.precision}
        options: dict[str, Any] = {"epsilon": self.guard.epsilon, "seed": config.seed, **how}
        aimed = criterion_white_box(self._known(), restarts=restarts, **options)
        about = {**how, "restarts": restarts, "recognizers": self.known}
        return {WHITE_BOX: white_box(**options), CEILING: aimed}, {"references": about}


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

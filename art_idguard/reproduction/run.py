"""`art-idguard reproduce`: trains or finds what a table or figure of the paper needs, measures it, writes it."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from art_idguard.data.faces import FaceBatch
from art_idguard.data.spec import DataSpec
from art_idguard.errors import IDGuardError
from art_idguard.evaluation.benchmark import evaluate_protectors
from art_idguard.evaluation.config import EvaluationConfig
from art_idguard.evaluation.document import PAGE, Picture, write_html
from art_idguard.evaluation.figures import INTERVALS, protection_bars, robustness_curves
from art_idguard.evaluation.plots import Panel, curves, save_plot
from art_idguard.evaluation.report import Report
from art_idguard.evaluation.training_log import curve, read_training
from art_idguard.hub.shipped import shipped
from art_idguard.reproduction import architectures, forensics, recognition
from art_idguard.reproduction.config import ReproductionConfig
from art_idguard.reproduction.experiments import EXPERIMENTS, MANIPULATORS, Baseline, Experiment, Trained
from art_idguard.reproduction.pictures import save_inpainted, save_perturbations
from art_idguard.reproduction.result import Reproduced, Result, pooled, write_result
from art_idguard.reproduction.workshop import Workshop


def _hardening(config: ReproductionConfig, *, verbose: bool) -> Mapping[str, Reproduced]:
    from art_idguard.reproduction.hardening import reproduce_hardening  # imports ART, for seconds

    return reproduce_hardening(config, verbose=verbose)


OF_THEIR_OWN: dict[str, Callable[..., Mapping[str, Reproduced]]] = {
    architectures.EXPERIMENT: architectures.count_parameters,
    "table7": _hardening,
    forensics.EXPERIMENT: forensics.reproduce_forensics,
}
"""Experiments that are no tables of `evaluate`, and what makes them."""

NOISE = "±epsilon noise"
"""The row of `evaluate` that shows what the bound alone does."""


def reproduce(config: ReproductionConfig, *, verbose: bool = True) -> Mapping[str, Reproduced]:
    """Train what is missing, measure, and write <output>/<SCALE>/<EXPERIMENT>/<DATA>.{json,md}, plots and report.html.

    Trainings go on where an earlier start was stopped, and are shared by experiments; so do measurements, but for those
    of fig11 and table8, which take minutes.

    Args:
        config: the settings.
        verbose: show progress bars, and what is to be trained.

    Returns:
        The results by the name of their data set.

    Raises:
        IDGuardError: an unknown experiment, or unusable data or weights.
        KeyboardInterrupt: a training was stopped.
    """
    if config.experiment in OF_THEIR_OWN:
        return OF_THEIR_OWN[config.experiment](config, verbose=verbose)
    if config.experiment not in EXPERIMENTS:
        known = ", ".join([*EXPERIMENTS, *OF_THEIR_OWN])
        raise IDGuardError(f"unknown experiment {config.experiment!r}; choose from: {known}")
    run = Reproduction(config, verbose=verbose)
    if run.experiment.figure == "recognition":
        return recognition.reproduce_recognition(run.setting(), run.names(), run.folder, config, verbose=verbose)
    results: dict[str, Result] = {}
    documents = []
    for name, report in evaluate_protectors(run.setting(), verbose=verbose).items():
        results[name] = result = run.result(report)
        documents.append(write_result(result, run.folder, name, run.pictures(run.folder / name, result)))
    write_html(run.folder / PAGE, documents)
    return results


class Reproduction:
    """The models of an experiment, by its rows and seeds."""

    def __init__(self, config: ReproductionConfig, *, verbose: bool) -> None:
        self.config, self.verbose = config, verbose
        self.experiment: Experiment = EXPERIMENTS[config.experiment]
        self.workshop = Workshop(config, verbose=verbose)
        self.data, self.folder = self.workshop.data, self.workshop.results
        self.targets = self.workshop.manipulators(MANIPULATORS)
        columns = self.experiment.columns or MANIPULATORS
        measured = self.targets if columns == MANIPULATORS else self.workshop.manipulators(columns)
        self.columns = tuple(measured.values())
        rows = {row: of for row, of in self.experiment.rows.items() if not self._is_left_out(of)}
        trainings = {row: of.settings for row, of in rows.items() if isinstance(of, Trained)}
        guards = self.workshop.protectors(trainings, config.seeds, tuple(self.targets.values()))
        there = {row for row in trainings if all((row, seed) in guards for seed in config.seeds)}
        if trainings and not there:
            raise IDGuardError(f"no row of {config.experiment} is trained with all of the seeds; name fewer of them")
        self.guards = {(row, seed): folder for (row, seed), folder in guards.items() if row in there}
        self.rows = {row: of for row, of in rows.items() if isinstance(of, Baseline) or row in there}

    def _is_left_out(self, of: Trained | Baseline) -> bool:
        """A first look has no baseline that learns, or that knows a manipulator which is not there."""
        if isinstance(of, Trained) or not self.config.quick:
            return False
        name, _, manipulator = of.name.partition("=")
        return name != "disrupting" or manipulator not in self.targets

    def setting(self) -> EvaluationConfig:
        """Everything that is measured, training by training, as `art-idguard evaluate` takes it.

        What is measured otherwise lies in another folder, so that neither is in the other's way.
        """
        config, scale = self.config, self.workshop.scale
        baselines = tuple(dict.fromkeys(of.name for of in self.rows.values() if isinstance(of, Baseline)))
        folders = {self._name(row, seed): folder for (row, seed), folder in self.guards.items()}
        setting = EvaluationConfig(
            protector=tuple(f"{name}={folder}" for name, folder in folders.items()),
            manipulators=self.columns,
            recognizers=(str(shipped("recognizers/sface")), *config.recognizers),
            data=self.data if self.experiment.every_data_set else self.data[:1],
            output="",
            limit=config.limit,
            edits=scale.edits,
            operations=self.experiment.operations,
            restorers=self.experiment.restorers,
            baselines=baselines or None,
            baseline_manipulators=tuple(self.targets.values()) if baselines else (),
            baseline_folder=str(self.workshop.folder),
            baseline_faces=f"train={config.faces},split=train",
            baseline_steps=scale.baseline_steps,
            size=scale.size,
            calibrate=config.strangers if self.experiment.figure == "recognition" else None,
        )
        key = hashlib.sha256(setting.to_toml().encode()).hexdigest()
        return replace(setting, output=str(self.folder / f"evaluation-{key[:8]}"))

    def names(self) -> dict[str, list[str]]:
        """By the experiment's rows, those of the evaluation: one for each seed, or a baseline's."""
        return {row: self._names(row, self.config.seeds) for row in self.rows}

    def _name(self, row: str, seed: int) -> str:
        """Of a training in the evaluation; two rows may share one."""
        of = self.rows[row]
        assert isinstance(of, Trained)
        return self.workshop.protector_name(of.settings, seed)

    def _names(self, row: str, seeds: Sequence[int]) -> list[str]:
        """The evaluation's rows of one of ours."""
        of = self.rows[row]
        if isinstance(of, Baseline):
            return [of.row]
        return [f"P-Pert ({self._name(row, s)})" if of.p_pert else self._name(row, s) for s in seeds]

    def result(self, report: Report) -> Result:
        """The experiment's rows of what was measured."""

        def part(seeds: Sequence[int]) -> Report:
            return pooled(report, {row: self._names(row, seeds) for row in self.rows} | {NOISE: [NOISE]})

        seconds = {f"{row}, seed {seed}": self.workshop.training_seconds(at) for (row, seed), at in self.guards.items()}
        about = {"scale": self.config.scale, "quick": self.config.quick, "training seconds": seconds}
        by_seed = {seed: part([seed]) for seed in self.config.seeds}
        return Result(self.config.experiment, self.experiment, part(self.config.seeds), by_seed, about)

    def pictures(self, stem: Path, result: Result) -> list[Picture]:
        """The figure of what was measured, and of the trainings where the paper has one."""

        def at(name: str) -> Path:
            return stem.with_name(f"{stem.name}-{name}.png")

        if self.experiment.operations:
            behind = robustness_curves(result.report, self.experiment.operations).items()
            return [save_plot(at(kind), figure, f"Behind {kind}, {INTERVALS}.") for kind, figure in behind]
        found = [
            save_plot(at("bars"), protection_bars(result.report), f"Each row, {INTERVALS}."),
            Picture(Path(self.setting().output, f"{stem.name}.png"), "Forgeries of the first faces."),
        ]
        first = {row: folder for (row, seed), folder in self.guards.items() if seed == self.config.seeds[0]}
        if self.experiment.figure == "perturbations":
            return [*found, save_perturbations(at("perturbations"), first, self._first_face())]
        if restorers := self.experiment.restorers:
            *_, last = first.values()
            return [*found, save_inpainted(at("inpainted"), last, self.columns, restorers, self._first_face())]
        if self.experiment.figure is None:
            return found
        logs = {row: read_training(str(folder)) for row, folder in first.items()}
        if self.experiment.figure == "weights":
            panels = [
                Panel(row, {name: curve(steps, "weights", name) for name in steps[0]["weights"]})
                for row, steps in logs.items()
            ]
        else:
            panels = [
                Panel(
                    "objective, mean over manipulators",
                    {row: curve(steps, "objective", *steps[0]["objective"]) for row, steps in logs.items()},
                )
            ]
        return [*found, save_plot(at(self.experiment.figure), curves(panels), "In training, step by step, first seed.")]

    def _first_face(self) -> FaceBatch:
        spec = DataSpec.parse(self.data[0])
        cache = Path(self.setting().output, "regions.safetensors")
        return spec.read(size=self.workshop.scale.size, limit=1, cache=cache).batch(slice(1))

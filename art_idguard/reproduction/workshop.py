"""What a reproduction needs of trained networks: found where they ship, or trained, at either scale."""

import json
import math
import re
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from art_idguard.errors import IDGuardError
from art_idguard.files.recipe import SETTINGS
from art_idguard.files.shipped import shipped
from art_idguard.reproduction.config import ReproductionConfig
from art_idguard.reproduction.experiments import MANIPULATORS
from art_idguard.training.config import TrainingConfig
from art_idguard.training.manipulator import ManipulatorConfig, train_manipulator
from art_idguard.training.manipulator.config import DISCRIMINATOR, HardeningConfig
from art_idguard.training.manipulator.hardening import harden
from art_idguard.training.protector import ProtectorConfig, train_protector
from art_idguard.training.watermark import WatermarkConfig, train_watermarker


@dataclass(frozen=True)
class Scale:
    """Faces and networks of an experiment: recipes and published models have names that end alike."""

    size: int
    ending: str
    """Of recipes, NAME-ENDING.toml, and of folders of models that ship."""
    rooms: tuple[str, ...]
    """Of hub/, where such models lie."""
    edits: Literal["all", "cycle"]
    """Whether every face is measured under every edit, or each under one."""
    baseline_steps: int
    """Of training PG and IAP."""
    keeps_clean: bool
    """Whether protectors share what manipulators make of clean faces: some gigabytes at 64 px."""


SCALES = {
    "small": Scale(64, "celeba64", ("small",), "cycle", 500, keeps_clean=True),
    "paper": Scale(128, "celeba128", ("manipulators", "graybox"), "all", 30_000, keeps_clean=False),
}

TRAINED = {
    "manipulators": "manipulator",
    "protectors": "protector",
    "watermarkers": "watermarker",
    "hardened-manipulators": "manipulator",
}
"""By the folder of the runs of a kind, that of what each run trains."""

Key = TypeVar("Key")
Config = TypeVar("Config", bound=TrainingConfig)


class Workshop:
    """Models of one scale by name; what does not ship is trained in a folder of its own, and goes on there."""

    def __init__(self, config: ReproductionConfig, *, verbose: bool) -> None:
        self.config, self.verbose = config, verbose
        self.scale = SCALES[config.scale]
        self.folder = Path(config.output, config.scale)
        self.results = self.folder / (config.experiment + ("-quick" if config.quick else ""))
        self.data = config.data or (f"celeba={config.faces},split=test",)

    def manipulators(self, names: tuple[str, ...]) -> dict[str, str]:
        """The folders of several, by name.

        Raises:
            IDGuardError: a first look finds none of them, or there is one of other settings.
        """
        configs = {
            name: ManipulatorConfig.from_recipe(f"{name}-{self.scale.ending}", faces=self.config.faces, output="")
            for name in names
        }
        found = self._those("manipulators", {name: name for name in names}, configs, train_manipulator)
        return {name: str(folder) for name, folder in found.items()}

    def protectors(
        self, trainings: Mapping[Key, Mapping[str, Any]], seeds: Sequence[int], targets: tuple[str, ...]
    ) -> dict[tuple[Key, int], Path]:
        """The folder of each protector and seed; a protector is what differs in its settings from the recipe.

        Raises:
            IDGuardError: a first look finds none of them, or there is one of other settings.
        """
        wanted = {(key, seed): settings for seed in seeds for key, settings in trainings.items()}
        names = {which: self.protector_name(settings, which[1]) for which, settings in wanted.items()}
        clean = str(self.folder / "clean") if self.scale.keeps_clean else None
        configs = {
            which: self._config(settings, which[1], manipulators=targets, clean_cache=clean)
            for which, settings in wanted.items()
        }
        return self._those("protectors", names, configs, train_protector)

    def protector_name(self, settings: Mapping[str, Any], seed: int) -> str:
        """Of its folder, from what differs from the recipe: equal trainings of two experiments are one."""
        return _name("protector", self._config(settings, seed), self._config({}, 0))

    def watermarkers(
        self, rows: Mapping[str, Mapping[str, Any]], seeds: Sequence[int], targets: Mapping[str, str]
    ) -> dict[tuple[str, int], Path]:
        """The folder of each row's watermarker and seed; `targets` are the manipulators' folders by name.

        Raises:
            IDGuardError: a first look finds none of them, or there is one of other settings.
        """

        def config(settings: Mapping[str, Any], seed: int) -> WatermarkConfig:
            given = {"faces": self.config.faces, "output": "", "manipulators": MANIPULATORS, "seed": seed, **settings}
            return WatermarkConfig.from_recipe(f"watermark-{self.scale.ending}", **given)

        named = {(row, seed): config(of, seed) for seed in seeds for row, of in rows.items()}
        names = {which: _name("watermark", found, config({}, 0)) for which, found in named.items()}
        there = {name: name for name in MANIPULATORS} | dict(targets)
        configs = {
            which: replace(found, manipulators=tuple(there[name] for name in found.manipulators))
            for which, found in named.items()
        }
        return self._those("watermarkers", names, configs, train_watermarker)

    def hardened(self, originals: Mapping[str, str], protector: Path) -> dict[str, Path]:
        """The folders of what Eq. (15), with the protector in the loop, makes of manipulators, by their names.

        Raises:
            IDGuardError: a first look finds none of them, or there is one of other settings.
        """
        seed, configs = self.config.seeds[0], {}
        for name, original in originals.items():
            given: dict[str, Any] = {"faces": self.config.faces, "output": "", "seed": seed}
            if (critic := Path(original).with_name(DISCRIMINATOR)).is_file():
                given["start_discriminator"] = str(critic)
            recipe = f"{name}-at-{self.scale.ending}"
            configs[name] = HardeningConfig.from_recipe(recipe, start=original, protector=str(protector), **given)
        names = {name: f"{name}-at" + (f"-seed-{seed}" if seed else "") for name in originals}
        return self._those("hardened-manipulators", names, configs, harden)

    def _those(
        self, kind: str, names: Mapping[Key, str], configs: Mapping[Key, Config], train: Callable[..., Path]
    ) -> dict[Key, Path]:
        """The folder of each, by its name: what ships or is trained already; a first look leaves the others out."""
        there: dict[Key, Path] = {}
        for i, (key, name) in enumerate(names.items(), start=1):
            output = self.folder / kind / name
            found = self._shipped(name) or _trained(output, configs[key], TRAINED[kind])
            if not found and not self.config.quick:
                if self.verbose:
                    print(f"art-idguard: {name}, {i} of {len(names)} {kind}, in {output}", file=sys.stderr)
                config = replace(configs[key], output=str(output))
                found = train(config, resume=True, verbose=self.verbose, on_stop=_interrupt)
            if found:
                there[key] = found
        self._tell_missing(kind, len(names) - len(there), of=len(names))
        return there

    def training_seconds(self, folder: Path) -> float | None:
        """How long a protector was trained; None of those that ship."""
        log = folder.parent / "log.jsonl"
        return json.loads(log.read_text().splitlines()[-1])["seconds"] if log.is_file() else None

    def _shipped(self, name: str) -> Path | None:
        places = (shipped(f"{room}/{name}-{self.scale.ending}") for room in self.scale.rooms)
        return next((place for place in places if place.is_dir()), None)

    def _tell_missing(self, what: str, missing: int, *, of: int) -> None:
        if missing == of:
            raise IDGuardError(
                f"--quick trains nothing, and none of the {of} {what} of this experiment ships or is trained in "
                f"{self.folder}; without --quick they are trained, for hours, and go on where they were stopped"
            )
        if missing:
            warnings.warn(f"{missing} of {of} {what} are not trained yet, and left out", stacklevel=3)

    def _config(self, settings: Mapping[str, Any], seed: int, **places: Any) -> ProtectorConfig:
        given = {"faces": self.config.faces, "output": "", "seed": seed, **places, **settings}
        return ProtectorConfig.from_recipe(f"protector-{self.scale.ending}", **given)


def _name(kind: str, config: TrainingConfig, plain: TrainingConfig) -> str:
    ours, usual = asdict(config), asdict(plain)
    differing = [key for key in ours if ours[key] != usual[key]]
    words = [kind]
    for key in sorted(differing, key=lambda key: key == "seed"):
        words += [key, *map(str, ours[key] if isinstance(ours[key], tuple) else [ours[key]])]
    return re.sub(r"[^\w.-]+", "-", "-".join(words))


FREE = {
    *("output", "minutes", "checkpoint_every", "sample_every", "log_every", "trackers", "regions", "decoded_in"),
    *("micro_batch", "spread", "precision", "clean_cache"),
    *("manipulators", "recognizers", "start", "start_discriminator", "protector"),
}
"""Settings of which a training is not another one: how it runs, and where the networks lie that it needs."""


def _trained(run: Path, config: TrainingConfig, model: str) -> Path | None:
    """What a training has made that has used up its budget: one that was stopped leaves a model, too.

    Raises:
        IDGuardError: it is another training than the one that is wanted.
    """
    log, settings = run / "log.jsonl", run / SETTINGS
    if not (log.is_file() and settings.is_file()):
        return None
    ours, wanted = (asdict(found) for found in (type(config).from_recipe(settings), config))
    if changed := [name for name, value in wanted.items() if name not in FREE and ours[name] != value]:
        raise IDGuardError(
            f"{run} was trained with other {', '.join(changed)}; choose another --output, or move it away"
        )
    whole = log.read_bytes().split(b"\n")[:-1]  # a killed run may have left half a line
    if not whole:
        return None
    last = json.loads(whole[-1])
    ended = last["step"] >= ours["steps"] or last["seconds"] >= 60 * (ours["minutes"] or math.inf)
    return run / model if ended and (run / model).is_dir() else None


def _interrupt(message: str) -> None:
    """A training that was stopped ends the command, whose next start goes on with it."""
    raise KeyboardInterrupt(message)

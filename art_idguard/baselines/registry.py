"""The baselines of an evaluation, by name: each with its budget, and what is trained kept on disk."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from art_idguard.baselines.anti_forgery import anti_forgery
from art_idguard.baselines.base import Protection, face_generator, forgeries, forgery_distance, universal
from art_idguard.baselines.cmua import cmua
from art_idguard.baselines.disrupting import disrupting
from art_idguard.baselines.generator import GeneratorObjective, train_generator
from art_idguard.baselines.iap import iap
from art_idguard.baselines.idguard import id_guard
from art_idguard.baselines.initiative import initiative
from art_idguard.baselines.noise import uniform_noise
from art_idguard.data.faces import FaceBatch, Faces
from art_idguard.errors import IDGuardError
from art_idguard.files.tensors import cached
from art_idguard.hub.repository import CONFIG
from art_idguard.manipulators.base import Manipulator
from art_idguard.perturbation import Protector
from art_idguard.types import Images

TRAINED = ("cmua", "pg", "iap")
"""Those that learn from faces."""

BASELINES = ("noise", "disrupting", *TRAINED, "anti-forgery")

CMUA_STEPS = 10
"""For each batch and manipulator, its edits in turn; in the official budget for each edit."""

GENERATOR: dict[str, Any] = {"channels": 32, "norm": "instance"}
TRAINING: dict[str, Any] = {"batch_size": 4, "lr": 1e-3}
"""Of PG and IAP; a step takes a CPU core 3 seconds for PG and, with four manipulators, 19 for IAP, at 128 px.

PG is published with 30,000 steps at lr 1e-4. After 35 on StarGAN, mean squared error of the whole picture on 4 other
faces: 0.0026 at 1e-3, 0.0017 at 2e-4, 0.0001 for noise.
"""

COLOUR_STEPS = 100
"""Anti-Forgery's published number, two minutes for a face on a CPU core; epsilon is kept in RGB as well."""


def chosen(names: Sequence[str]) -> tuple[str, ...]:
    """The names in the order of the report; all of `BASELINES` where none is given.

    Raises:
        IDGuardError: a name is unknown.
    """
    if unknown := set(names) - set(BASELINES):
        raise IDGuardError(f"unknown baselines: {', '.join(sorted(unknown))}; choose from: {', '.join(BASELINES)}")
    return tuple(name for name in BASELINES if name in (names or BASELINES))


@dataclass(frozen=True, kw_only=True)
class Baselines:
    """What baselines are made against and from; see `rows`.

    Attributes:
        targets: the manipulators by name.
        weights: of each of them, its weights' sha256.
        faces: what the trained ones learn from; None where no such one is asked for.
        epsilon: bound on the [-1, 1] scale.
        seed: of everything random.
        steps: of the training of PG's and IAP's generators.
        each_edit: CMUA's official budget, see `baselines.cmua`.
        folder: keeps cmua.safetensors and the generators, so that a rerun trains nothing.
        verbose: show progress bars.
    """

    targets: Mapping[str, Manipulator]
    weights: Mapping[str, str | None]
    faces: Faces | None
    epsilon: float
    seed: int
    steps: int
    each_edit: bool
    folder: Path
    verbose: bool

    def rows(self, names: Sequence[str]) -> dict[str, Protection]:
        """The protections by the names of their rows; those against one manipulator have a row for each."""
        makers: dict[str, Callable[[], dict[str, Protection]]] = {
            "noise": lambda: {"Uniform noise": uniform_noise(epsilon=self.epsilon, seed=self.seed)},
            "disrupting": lambda: self._each("Disrupting", self._disrupting),
            "cmua": lambda: {"CMUA": universal(self._cmua(), self.epsilon)},
            "pg": lambda: self._each("PG", self._pg),
            "iap": lambda: {"IAP": self._generator("iap", self.targets, lambda: iap(list(self.targets.values())))},
            "anti-forgery": lambda: self._each("Anti-Forgery", self._anti_forgery),
        }
        return {row: protect for name in names for row, protect in makers[name]().items()}

    def about(self, names: Sequence[str]) -> dict[str, Any]:
        """The budgets, for a report's metadata."""
        learnt = {} if self.faces is None else {"faces": len(self.faces), "digest": self.faces.digest()}
        generator = {"steps": self.steps, **TRAINING, **GENERATOR, **learnt}
        budgets: dict[str, dict[str, Any]] = {
            "cmua": {"steps": CMUA_STEPS, "edits": "each" if self.each_edit else "in turn", **learnt},
            "pg": generator,
            "iap": generator,
            "anti-forgery": {"steps": COLOUR_STEPS},
        }
        return {name: budgets.get(name, {}) for name in names}

    def _each(self, title: str, protect: Callable[[str], Protection]) -> dict[str, Protection]:
        return {f"{title} ({name})": protect(name) for name in self.targets}

    def _disrupting(self, name: str) -> Protection:
        return disrupting(self.targets[name], epsilon=self.epsilon, seed=self.seed)

    def _pg(self, name: str) -> Protection:
        return self._generator(f"pg-{name}", [name], lambda: initiative(self.targets[name], seed=self.seed))

    def _anti_forgery(self, name: str) -> Protection:
        target = self.targets[name]

        def protect(batch: FaceBatch) -> Images:
            x = batch.images
            return anti_forgery(
                forgery_distance(forgeries(target, target.edits(batch.attributes)), x),
                x,
                epsilon=self.epsilon,
                steps=COLOUR_STEPS,
                generator=face_generator(x, self.seed),
            )

        return protect

    def _cmua(self) -> torch.Tensor:
        faces = self._learnt()
        return cached(
            self.folder / "cmua.safetensors",
            f"cmua.{self._key(self.targets, each_edit=self.each_edit)}",
            lambda: cmua(
                list(self.targets.values()),
                faces,
                epsilon=self.epsilon,
                steps=CMUA_STEPS,
                each_edit=self.each_edit,
                seed=self.seed,
                verbose=self.verbose,
            ),
        )

    def _generator(self, name: str, targets: Iterable[str], aim: Callable[[], GeneratorObjective]) -> Protection:
        """The trained generator in its folder, whose config.json is written last; otherwise a new one."""
        faces = self._learnt()
        key = self._key(targets, name=name, steps=self.steps, **TRAINING, **GENERATOR)
        folder = self.folder / "baselines" / f"{name}-{key[:16]}"
        if not (folder / CONFIG).is_file():
            with torch.random.fork_rng():
                torch.manual_seed(self.seed)
                new = Protector(generator_config=GENERATOR, epsilon=self.epsilon, size=faces.size)
            batch = faces.batch(slice(None))
            train_generator(
                new.to(faces.images.device),
                batch.images,
                batch.attributes,
                aim(),
                steps=self.steps,
                seed=self.seed,
                verbose=self.verbose,
                title=f"training {name}",
                **TRAINING,
            ).save_pretrained(folder)
        return id_guard(Protector.from_pretrained(folder).to(faces.images.device).requires_grad_(False))

    def _learnt(self) -> Faces:
        if self.faces is None:
            raise ValueError("trained baselines need faces")
        return self.faces

    def _key(self, targets: Iterable[str], **settings: Any) -> str:
        """A name for what is trained: on these faces, against these weights, with these settings."""
        learnt = [self._learnt().digest(), self._learnt().size, self.epsilon, self.seed]
        content = json.dumps([learnt, [self.weights[name] for name in targets], settings])
        return hashlib.sha256(content.encode()).hexdigest()

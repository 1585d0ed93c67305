"""Setting of `evaluate --baselines`, and the contract of a baseline in it."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from art_idguard.baselines.base import Protection
from art_idguard.data.faces import Faces
from art_idguard.manipulators.base import Manipulator

Rows = dict[str, Protection]
"""Protections by the names of their rows."""


@dataclass(frozen=True, kw_only=True)
class BaselineSetting:
    """What baselines are made against and from.

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

    def each(self, title: str, protect: Callable[[str], Protection]) -> Rows:
        """A row for each manipulator, by its name."""
        return {f"{title} ({name})": protect(name) for name in self.targets}

    def learnt_from(self) -> Faces:
        """The faces of a baseline that learns."""
        if self.faces is None:
            raise ValueError("trained baselines need faces")
        return self.faces

    def key(self, targets: Iterable[str], **settings: Any) -> str:
        """A name for what is trained: on these faces, against these weights, with these settings."""
        faces = self.learnt_from()
        common = [faces.labelled_digest(), faces.size, self.epsilon, self.seed]
        content = json.dumps([common, [self.weights[name] for name in targets], settings])
        return hashlib.sha256(content.encode()).hexdigest()


class Baseline(NamedTuple):
    """A method of `evaluate --baselines`."""

    rows: Callable[[BaselineSetting], Rows]
    """Its row, or one for each manipulator."""
    budget: Callable[[BaselineSetting], dict[str, Any]] = lambda setting: {}
    """What a report says of it."""
    learns: bool = False
    """Whether it is trained on faces."""

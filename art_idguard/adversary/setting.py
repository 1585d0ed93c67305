"""What an adversary knows, and the contract of a family of attempts."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from art_idguard.data.faces import Faces
from art_idguard.manipulators.base import Manipulator
from art_idguard.perturbation import Protector


@dataclass(frozen=True, kw_only=True)
class AdversarySetting:
    """The adversary has the manipulator and the released protector, and faces of other people.

    Attributes:
        name: of the manipulator in the report.
        manipulator: the one to forge with, frozen.
        protector: as it is released, frozen: anyone can make pairs of clean and protected faces with it.
        faces: to train on; None where no attempt learns.
        steps: of training the manipulator anew.
        cleaner_steps: of training the cleaner.
        taef2: specification of the tiny autoencoder, if it is at hand.
        seed: of everything random.
        folder: keeps what is trained, so that a rerun trains nothing, and adapted manipulators, as NAME-ATTEMPT.
        verbose: show progress bars.
    """

    name: str
    manipulator: Manipulator
    protector: Protector
    faces: Faces | None
    steps: int
    cleaner_steps: int
    taef2: str | None
    seed: int
    folder: Path
    verbose: bool

    def learnt_from(self) -> Faces:
        """The faces of an attempt that learns."""
        if self.faces is None:
            raise ValueError("an attempt that learns needs faces")
        return self.faces


Attempts = dict[str, Manipulator]
"""By name, what stands in the manipulator's place: it is to answer a protected face as that answers the clean one."""


class Family(NamedTuple):
    """A family of attempts, such as all lossy operations."""

    attempts: Callable[[AdversarySetting], Attempts]
    learns: bool = False
    """Whether it is trained on faces."""


def after(steps: int) -> list[int]:
    """When an attempt that learns is measured: after a quarter, a half, and all of its steps.

    >>> after(40), after(2)
    ([10, 20, 40], [1, 2])
    """
    return sorted({max(1, steps // 4), max(1, steps // 2), steps})

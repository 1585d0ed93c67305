"""Disrupting deepfakes (Ruiz et al. 2020): PGD on a manipulator's output, known or not."""

from collections.abc import Sequence
from typing import Any

from art_idguard.baselines.base import Attack, Forge, Protection, face_generator, forgeries, forgery_distance
from art_idguard.baselines.setting import Baseline, BaselineSetting, Rows
from art_idguard.data.faces import FaceBatch
from art_idguard.manipulators.base import Manipulator
from art_idguard.perturbation.pgd import pgd
from art_idguard.perturbation.precision import Precision
from art_idguard.types import Edit, Images


def disrupting(
    manipulator: Manipulator,
    *,
    epsilon: float,
    steps: int = 10,
    step_size: float = 0.01,
    seed: int = 0,
) -> Protection:
    """PGD from the clean output of one manipulator (Ruiz et al. 2020, "Disrupting Deepfakes").

    Deviates: the official evaluation attacks each edit by itself; this is the same paper's
    iterative class transferable attack (the edits in turn), because one photo meets all of them.

    Examples:
        >>> import torch
        >>> from art_idguard.manipulators import load
        >>> protect = disrupting(load("stargan"), epsilon=0.05, steps=2)
        >>> batch = FaceBatch(torch.zeros(1, 3, 32, 32), torch.zeros(1, 5), torch.zeros(1, 5, 2), None, None)
        >>> bool(0 < protect(batch).abs().max() < 0.0501)
        True
    """

    def protect(batch: FaceBatch) -> Images:
        forges = forgeries(manipulator, manipulator.edits(batch.attributes))
        return _pgd(forges, batch.images, epsilon, steps, step_size, seed)

    return protect


def white_box(
    *, epsilon: float, steps: int = 40, step_size: float = 0.01, seed: int = 0, precision: Precision = "no"
) -> Attack:
    """PGD that knows manipulator, face and edit, on the mean squared error of the whole picture.

    It takes the background where that is moved most easily; `criterion.criterion_white_box` aims at the face.

    Examples:
        >>> import torch
        >>> from art_idguard.manipulators import load
        >>> stargan, attack = load("stargan"), white_box(epsilon=0.05, steps=2)
        >>> batch = FaceBatch(torch.zeros(1, 3, 32, 32), torch.zeros(1, 5), torch.zeros(1, 5, 2), None, None)
        >>> blond = stargan.edits(batch.attributes)[1]
        >>> bool(0 < attack(stargan, blond, batch).abs().max() < 0.0501)
        True
    """

    def attack(manipulator: Manipulator, edit: Edit, batch: FaceBatch) -> Images:
        return _pgd(forgeries(manipulator, (edit,), precision), batch.images, epsilon, steps, step_size, seed)

    return attack


def _pgd(forges: Sequence[Forge], x: Images, epsilon: float, steps: int, step_size: float, seed: int) -> Images:
    distance, generator = forgery_distance(forges, x), face_generator(x, seed)
    return pgd(distance, x, epsilon=epsilon, steps=steps, step_size=step_size, generator=generator)


def _rows(setting: BaselineSetting) -> Rows:
    options: dict[str, Any] = {"epsilon": setting.epsilon, "seed": setting.seed}
    return setting.each("Disrupting", lambda name: disrupting(setting.targets[name], **options))


BASELINE = Baseline(_rows)

"""The games that train the five manipulators, each with its published losses."""

from typing import Any

from art_idguard.training.manipulator.objectives.base import Batch, GANObjective, Terms
from art_idguard.training.manipulator.objectives.hisd import HiSDObjective
from art_idguard.training.manipulator.objectives.relgan import RelGANObjective
from art_idguard.training.manipulator.objectives.stargan import (
    AttentionGANObjective,
    FixedPointGANObjective,
    StarGANObjective,
)

OBJECTIVES: dict[str, type[GANObjective[Any, Any]]] = {
    objective.name: objective
    for objective in (StarGANObjective, AttentionGANObjective, FixedPointGANObjective, RelGANObjective, HiSDObjective)
}

__all__ = ["OBJECTIVES", "Batch", "GANObjective", "Terms"]

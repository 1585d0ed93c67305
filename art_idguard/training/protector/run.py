"""Run of a protector's training: networks, faces, optimiser, and a step's edits."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from art_idguard.data.faces import Faces
from art_idguard.losses import LOSSES, LossConfig
from art_idguard.manipulators.base import Manipulator
from art_idguard.perturbation import Protector
from art_idguard.recognizers.base import Recognizer
from art_idguard.training.base import TrainingRun
from art_idguard.training.checkpoint import restore_moments
from art_idguard.training.protector.clean_cache import CleanCache
from art_idguard.training.protector.config import ProtectorConfig
from art_idguard.weighting import TaskWeighting


class Preloaded(NamedTuple):
    """What a caller has in memory already, in place of what the settings name."""

    faces: Faces
    manipulators: list[Manipulator]
    protector: Protector


@dataclass(kw_only=True)
class ProtectorRun(TrainingRun):
    """What the training of a protector consists of."""

    config: ProtectorConfig
    faces: Faces
    manipulators: list[Manipulator]
    recognizers: list[Recognizer]
    protector: Protector
    average: Protector | None
    """Of the protector's weights over the steps (`ema`): what is saved in the end."""
    optimizer: torch.optim.Adam
    weighting: TaskWeighting
    kpi_scale: Float[Tensor, " K"]
    """What K_k of Eq. (13) is a share of, see `LossConfig.kpi`."""
    clean: list[CleanCache] | None

    @property
    def networks(self) -> dict[str, nn.Module]:
        """What is trained."""
        return {"protector": self.protector}

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {
            **super().state(),
            "protector": self.protector.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "weighting": self.weighting.state_dict(),
            "kpi_scale": self.kpi_scale,
            **({} if self.average is None else {"average": self.average.state_dict()}),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        super().load_state(state)
        self.protector.load_state_dict(state["protector"])
        restore_moments(self.optimizer, state["optimizer"])
        self.weighting.load_state_dict(state["weighting"])
        self.kpi_scale.copy_(state["kpi_scale"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])

    @property
    def trained(self) -> Protector:
        """The protector as it would be saved now."""
        return self.protector if self.average is None else self.average


def loss_config(config: ProtectorConfig) -> LossConfig:
    """Form and weights of Eq. (9) of a run."""
    names = ("distance", "mask_weight", "identity_weight", "feature_weight", "masks", "identity", "kpi")
    given = {name: getattr(config, name) for name in names}
    return replace(LOSSES[config.loss], **{name: value for name, value in given.items() if value is not None})

"""IAP: the objective of its disruption part."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from art_idguard.baselines.generator import GeneratorObjective, budget, trained
from art_idguard.baselines.setting import Baseline, BaselineSetting, Rows
from art_idguard.manipulators.base import Manipulator
from art_idguard.types import Attributes, Images


def iap(manipulators: Sequence[Manipulator]) -> GeneratorObjective:
    """The disruption part of IAP (Zhu et al., TIFS 2023): features of protected and clean faces shall not correlate.

    Inferred, since no code is public and the ID-Guard paper calls it "feature correlation measurement loss": the
    generator maximises 1 - Pearson correlation of E_k's features and of the forged faces, averaged over the
    manipulators with equal weights; the message that IAP hides is left out, as in the ID-Guard paper's comparison.
    """

    def objective(protected: Images, faces: Images, labels: Attributes, step: int) -> Float[Tensor, ""]:
        parts = []
        for manipulator in manipulators:
            edits = manipulator.edits(labels)
            edit = edits[step % len(edits)]
            with torch.no_grad():
                clean = manipulator(faces, edit)
            disrupted = manipulator(protected, edit)
            parts += [2 - correlation(disrupted.features, clean.features) - correlation(disrupted.output, clean.output)]
        return torch.cat(parts).mean()

    return objective


def correlation(a: Float[Tensor, "B *s"], b: Float[Tensor, "B *s"]) -> Float[Tensor, " B"]:
    """Pearson's, of each pair of rows."""
    a, b = (t.flatten(1) - t.flatten(1).mean(dim=1, keepdim=True) for t in (a, b))
    return nn.functional.cosine_similarity(a, b, dim=1)


def _rows(setting: BaselineSetting) -> Rows:
    return {"IAP": trained(setting, "iap", setting.targets, lambda: iap(list(setting.targets.values())))}


BASELINE = Baseline(_rows, budget, learns=True)

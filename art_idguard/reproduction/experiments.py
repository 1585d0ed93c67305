"""What the paper's tables and figures consist of: rows to train or to compare with, columns, measures."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

MANIPULATORS = ("stargan", "attentiongan", "fpgan", "relgan", "hisd")
"""The columns of the paper's tables, section IV-A2."""


class Trained(NamedTuple):
    """A row that has to be trained: a protector by what differs from the scale's recipe, or its P-Pert."""

    settings: Mapping[str, Any]
    p_pert: bool = False


class Baseline(NamedTuple):
    """A row of `art-idguard evaluate --baselines`; it knows the scale's five manipulators, whichever are measured."""

    name: str
    row: str


S_I, S_II = Trained({"weighting": "mgda"}), Trained({"weighting": "kpi"})

BASELINES: dict[str, Trained | Baseline] = {
    "Disrupting": Baseline("disrupting=stargan", "Disrupting (stargan)"),
    "PG": Baseline("pg=stargan", "PG (stargan)"),
    "CMUA": Baseline("cmua", "CMUA"),
    "IAP": Baseline("iap", "IAP"),
}
"""Of section IV-A3; Disrupting and PG know StarGAN and are transferred to the others, as in the paper."""

OURS: dict[str, Trained | Baseline] = {"Ours (S-I)": S_I, "Ours (S-II)": S_II}


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A table or figure of section IV."""

    title: str
    rows: Mapping[str, Trained | Baseline]
    """By the paper's names, in its order."""
    measures: tuple[str, ...] = ("l2_face", "similarity", "dsr")
    columns: tuple[str, ...] | None = MANIPULATORS
    """Manipulators that are measured; None: all that are trained against, but only their mean is shown."""
    average: bool = False
    """Whether the mean over manipulators has a column beside theirs."""
    operations: tuple[str, ...] = ()
    """What photos go through before they are manipulated."""
    restorers: tuple[str, ...] = ()
    """What forgeries of protected photos are inpainted by."""
    figure: Literal["training", "weights", "perturbations", "recognition"] | None = None
    """What is drawn of the trainings, besides bars or curves of what was measured; or what is measured instead."""
    note: str = ""
    """What a reader must know of how the paper was read."""
    every_data_set: bool = False
    """Whether all of the paper's data sets have a table; otherwise the first."""


EXPERIMENTS: dict[str, Experiment] = {
    "table1": Experiment(
        title="Table I: disrupting different target models",
        rows=BASELINES | OURS | {"Ours (P-Pert)": S_II._replace(p_pert=True)},
        every_data_set=True,
    ),
    "table2": Experiment(
        title="Table II: ablation of the identity destruction module",
        rows={
            "#1 w/o all": Trained({"masks": "whole", "identity_weight": 0.0, "feature_weight": 0.0}),
            "#2 w/o FCL": Trained({"feature_weight": 0.0}),
            "#3 w/o ICL": Trained({"identity_weight": 0.0}),
            "#4 w/o MCL": Trained({"masks": "whole"}),
            "#5 w/ all": Trained({}),
            "binary mask alone": Trained({"masks": "binary"}),
            "heat map alone": Trained({"masks": "heat"}),
            "logarithms": Trained({"loss": "log"}),
        },
        columns=None,
        note="Without the mask constraint the distance is taken over the whole picture, so that #1 still has one. The "
        "last three rows are not the paper's; the last is aimed at the criterion by log L2_face - 2 cos.",
    ),
    "table3": Experiment(
        title="Table III: defence success rates under different optimisation strategies",
        rows={
            "Equivalent weight": Trained({"weighting": "uniform"}),
            "Prior weight": Trained({"weighting": "prior"}),
            "HMM": Trained({"weighting": "hmm"}),
            "DTP": Trained({"weighting": "dtp"}),
            "MGDA-based (S-I)": S_I,
            "KPI-based (S-II)": S_II,
        },
        average=True,
    ),
    "table5": Experiment(
        title="Table V: facial inpainting of disrupted forgeries",
        rows=BASELINES | OURS,
        measures=("l2_face",),
        restorers=("telea", "navier-stokes", "learned"),
        note="The paper's inpainters are LBP and GS-SSA; of these OpenCV's two know no faces, and the learned one has "
        "no discriminator. The last row, noise, shows how far inpainting alone takes a forgery from the clean one.",
    ),
    "table6": Experiment(
        title="Table VI: gray box, models of the same kinds with other weights",
        rows=BASELINES | OURS,
        columns=("stargan-seed2", "relgan-instance"),
        note="Disrupting knows the white-box StarGAN in both columns; in the paper, the white-box model of each.",
    ),
    "fig9": Experiment(
        title="Fig. 9: start of the prior perturbation",
        rows={
            "gradient prior": Trained({"prior": "gradient"}),
            "random noise": Trained({"prior": "noise"}),
            "no prior": Trained({"prior": "zeros"}),
        },
        average=True,
        figure="training",
        note="Fig. 9 (b) has results at different scales, which the text does not define; here is the full bound.",
    ),
    "fig10": Experiment(
        title="Fig. 10: architectures of the perturbation generator",
        rows={name: Trained({"generator": name}) for name in ("unet", "resnet", "transformer")},
        average=True,
    ),
    "fig11": Experiment(
        title="Fig. 11: misdirection of recognition systems",
        rows=BASELINES | OURS,
        figure="recognition",
        note="The paper asks Google, StarByFace and Baidu, here it is local recognisers; no service is called.",
    ),
    "fig13": Experiment(
        title="Fig. 13: lossy operations, StarGAN",
        rows=BASELINES | OURS | {"Ours (S-II) w/ R.": Trained({"augment": ["none", "jpeg"]})},
        columns=("stargan",),
        operations=("none", "jpeg=95", "jpeg=85", "jpeg=75", "blur=0.5", "blur=1", "blur=2"),
    ),
    "fig16": Experiment(
        title="Fig. 16: course of the weights",
        rows={"S-I": S_I, "S-II": S_II},
        average=True,
        figure="weights",
    ),
    "fig17": Experiment(
        title="Fig. 17: perturbations by loss",
        rows={
            "mask loss alone": Trained({"identity_weight": 0.0, "feature_weight": 0.0}),
            "identity loss alone": Trained({"mask_weight": 0.0, "feature_weight": 0.0}),
            "all losses": Trained({}),
        },
        columns=None,
        figure="perturbations",
    ),
}
"""By the names of the command."""

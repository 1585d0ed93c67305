"""The baselines of `evaluate --baselines` by name."""

from collections.abc import Sequence
from typing import Any

from art_idguard.baselines.anti_forgery import BASELINE as ANTI_FORGERY
from art_idguard.baselines.cmua import BASELINE as CMUA
from art_idguard.baselines.disrupting import BASELINE as DISRUPTING
from art_idguard.baselines.iap import BASELINE as IAP
from art_idguard.baselines.initiative import BASELINE as PG
from art_idguard.baselines.noise import BASELINE as NOISE
from art_idguard.baselines.setting import Baseline, BaselineSetting, Rows
from art_idguard.errors import IDGuardError
from art_idguard.plugins import Registry

BASELINES: Registry[Baseline] = Registry(
    "baselines",
    {
        "noise": NOISE,
        "disrupting": DISRUPTING,
        "cmua": CMUA,
        "pg": PG,
        "iap": IAP,
        "anti-forgery": ANTI_FORGERY,
    },
)
"""In the order of the report."""


def chosen(names: Sequence[str]) -> dict[str, Baseline]:
    """The baselines of these names in the order of the report; all where none is given.

    Raises:
        IDGuardError: a name is unknown.
    """
    if unknown := [name for name in names if name not in BASELINES]:
        raise IDGuardError(f"unknown baselines: {', '.join(unknown)}; choose from: {', '.join(BASELINES.names())}")
    return {name: BASELINES[name] for name in BASELINES.names() if name in names or not names}


def make_rows(baselines: dict[str, Baseline], setting: BaselineSetting) -> tuple[Rows, dict[str, Any]]:
    """The protections by the names of their rows, and the budgets, for a report's metadata."""
    rows = {row: protect for baseline in baselines.values() for row, protect in baseline.rows(setting).items()}
    return rows, {name: baseline.budget(setting) for name, baseline in baselines.items()}

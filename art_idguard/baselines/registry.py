"""The baselines of `evaluate --baselines` by name."""

from collections.abc import Sequence
from dataclasses import replace
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


def chosen(texts: Sequence[str]) -> dict[str, Baseline]:
    """The baselines NAME, or NAME=MANIPULATOR that knows it alone, in the order of the report; all where none is given.

    Raises:
        IDGuardError: a name is unknown.
    """
    order = BASELINES.names()
    asked = [(name, manipulator, text) for text in texts or order for name, _, manipulator in [text.partition("=")]]
    if unknown := [name for name, *_ in asked if name not in order]:
        raise IDGuardError(f"unknown baselines: {', '.join(unknown)}; choose from: {', '.join(order)}")
    asked.sort(key=lambda of: order.index(of[0]))
    return {text: _knowing(manipulator, BASELINES[name]) for name, manipulator, text in asked}


def _knowing(manipulator: str, baseline: Baseline) -> Baseline:
    """The baseline that knows this manipulator alone; without a name, as it is."""
    if not manipulator:
        return baseline

    def rows(setting: BaselineSetting) -> Rows:
        if manipulator not in setting.targets:
            there = ", ".join(setting.targets)
            raise IDGuardError(f"a baseline is to know {manipulator!r}, which is none of its manipulators: {there}")
        return baseline.rows(replace(setting, targets={manipulator: setting.targets[manipulator]}))

    return baseline._replace(rows=rows)


def make_rows(baselines: dict[str, Baseline], setting: BaselineSetting) -> tuple[Rows, dict[str, Any]]:
    """The protections by the names of their rows, and the budgets, for a report's metadata."""
    rows = {row: protect for baseline in baselines.values() for row, protect in baseline.rows(setting).items()}
    return rows, {name: baseline.budget(setting) for name, baseline in baselines.items()}

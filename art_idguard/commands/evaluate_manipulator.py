"""`art-idguard evaluate-manipulator`: how good manipulators are."""

from pathlib import Path
from typing import Any

from art_idguard.commands._settings import add_settings
from art_idguard.evaluation.config import QualityConfig


def add(commands: Any) -> None:
    """Add the command to the parser's commands."""
    quality = commands.add_parser("evaluate-manipulator", help="how good manipulators are: edit success, identity, KID")
    add_settings(quality, QualityConfig, "models")
    quality.set_defaults(run=_run)


def _run(*, recipe: Path | None, quiet: bool, **given: Any) -> int:
    config = QualityConfig.from_recipe(recipe, **given)
    from art_idguard.evaluation.quality_benchmark import evaluate_manipulators

    for name, quality in evaluate_manipulators(config, verbose=not quiet).items():
        print(quality.document(name).markdown())
    return 0

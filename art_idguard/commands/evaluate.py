"""`art-idguard evaluate`: protectors beside their baselines."""

from pathlib import Path
from typing import Any

from art_idguard.commands._settings import add_settings
from art_idguard.evaluation.config import EvaluationConfig


def add(commands: Any) -> None:
    """Add the command to the parser's commands."""
    evaluate = commands.add_parser("evaluate", help="measure protectors, beside their baselines")
    add_settings(evaluate, EvaluationConfig)
    evaluate.set_defaults(run=_run)


def _run(*, recipe: Path | None, quiet: bool, **given: Any) -> int:
    config = EvaluationConfig.from_recipe(recipe, **given)
    if config.protocol == "icml2026":
        from art_idguard.evaluation.icml2026 import evaluate_icml2026

        for board in evaluate_icml2026(config, verbose=not quiet).values():
            print(board.document().markdown())
        return 0
    from art_idguard.evaluation.benchmark import evaluate_protectors
    from art_idguard.evaluation.tables import markdown

    for report in evaluate_protectors(config, verbose=not quiet).values():
        print(markdown(report))
    return 0

"""`art-idguard attack-manipulator`: Table VII."""

from pathlib import Path
from typing import Any

from art_idguard.commands._settings import add_settings
from art_idguard.evaluation.config import RobustnessConfig


def add(commands: Any) -> None:
    """Add the command to the parser's commands."""
    attack = commands.add_parser("attack-manipulator", help="white-box attacks on a manipulator (Table VII)")
    add_settings(attack, RobustnessConfig, "original")
    attack.set_defaults(run=_run)


def _run(*, recipe: Path | None, quiet: bool, **given: Any) -> int:
    config = RobustnessConfig.from_recipe(recipe, **given)
    from art_idguard.attacks.robustness import attack_manipulator

    print(attack_manipulator(config, verbose=not quiet).markdown())
    return 0

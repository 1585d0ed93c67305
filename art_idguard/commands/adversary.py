"""`art-idguard adversary`: what somebody who has the protector makes of protected faces."""

from pathlib import Path
from typing import Any

from art_idguard.adversary.config import AdversaryConfig
from art_idguard.commands._settings import add_settings


def add(commands: Any) -> None:
    """Add the command to the parser's commands."""
    adversary = commands.add_parser("adversary", help="break a protection: transforms, purifiers, LoRA, fine-tuning")
    add_settings(adversary, AdversaryConfig, "protector")
    adversary.set_defaults(run=_run)


def _run(*, recipe: Path | None, quiet: bool, **given: Any) -> int:
    config = AdversaryConfig.from_recipe(recipe, **given)
    from art_idguard.adversary.run import run_adversary

    for report in run_adversary(config, verbose=not quiet).values():
        print(report.markdown())
    return 0

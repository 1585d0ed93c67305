"""`art-idguard export`: a protector as one file that runs without torch."""

from pathlib import Path
from typing import Any

from art_idguard.commands._settings import add_settings
from art_idguard.models.config import ExportConfig

DESCRIPTION = """Write a protector as one file, from faces within [-1, 1] to protected ones, that other programs run: as
ONNX, with which art-idguard protect --model protector.onnx does without torch, or as a .pt2 for torch.export.load.
Before the file is there it is checked to protect as the protector does, within a quarter of one of 255 levels."""


def add(commands: Any) -> None:
    """Add the command to the parser's commands."""
    export = commands.add_parser("export", help="a protector as ONNX", description=DESCRIPTION)
    add_settings(export, ExportConfig, "model", quiet=False)
    export.set_defaults(run=_run)


def _run(*, recipe: Path | None, **given: Any) -> int:
    config = ExportConfig.from_recipe(recipe, **given)
    from art_idguard.models.export import export_protector

    print(export_protector(**vars(config)))
    return 0

"""`art-idguard info`: what a model is, or what this installation has."""

from pathlib import Path
from typing import Any

from art_idguard.commands._settings import add_settings
from art_idguard.errors import IDGuardError
from art_idguard.models.config import InfoConfig


def add(commands: Any) -> None:
    """Add the command to the parser's commands."""
    info = commands.add_parser("info", help="what a model is, or what this installation has")
    add_settings(info, InfoConfig, "model", quiet=False)
    info.set_defaults(run=_run)


def _run(*, recipe: Path | None, **given: Any) -> int:
    config = InfoConfig.from_recipe(recipe, **given)
    from art_idguard.files.names import printable

    for name, value in _facts(config).items():
        print(printable(f"{name}: {value}"))
    return 0


def _facts(config: InfoConfig) -> dict[str, Any]:
    match Path(config.model or "").suffix.lower():
        case ".onnx":
            from art_idguard.hub.exported import ExportedProtector  # needs no torch

            return ExportedProtector(str(config.model)).describe()
        case ".pt2":
            raise IDGuardError(
                f"{config.model} is for torch.export.load, and says nothing to info; name the protector that it was "
                "exported from, or its .onnx file"
            )
    from art_idguard.models.info import describe

    return describe(**vars(config))

"""`art-idguard watermark train | embed | extract | evaluate`: proactive forensics (section IV-E2)."""

import sys
from pathlib import Path
from typing import Any

from art_idguard.commands._settings import add_settings
from art_idguard.commands.train import add_training
from art_idguard.evaluation.config import ForensicsConfig
from art_idguard.photos.config import EmbedConfig, ExtractConfig
from art_idguard.training.watermark.config import WatermarkConfig

FOUND = "Exit code: 0 where it worked for every picture, 1 where it did not for one, 2 where there is none."


def add(commands: Any) -> None:
    """Add the command to the parser's commands."""
    watermark = commands.add_parser("watermark", help="a message in a face that is read from its forgeries")
    parts = watermark.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add_training(parts, "train", WatermarkConfig, (), "train a watermarker (Table VIII)", _train)
    for name, config, run, text in (
        ("embed", EmbedConfig, _embed, "put a payload into the faces of photos"),
        ("extract", ExtractConfig, _extract, "read a payload from photos or forgeries"),
    ):
        parser = parts.add_parser(name, help=text, epilog=FOUND)
        add_settings(parser, config, "inputs")
        parser.set_defaults(run=run)
    evaluate = parts.add_parser("evaluate", help="measure what is read from forgeries, and what is seen")
    add_settings(evaluate, ForensicsConfig, "watermarkers")
    evaluate.set_defaults(run=_evaluate)


def _train(*, recipe: Path | None, resume: bool, quiet: bool, **given: Any) -> int:
    config = WatermarkConfig.from_recipe(recipe, **given)
    from art_idguard.commands.train import trained
    from art_idguard.training.watermark.train import train_watermarker

    return trained(train_watermarker, config, resume=resume, quiet=quiet)


def _embed(*, recipe: Path | None, quiet: bool, **given: Any) -> int:
    config = EmbedConfig.from_recipe(recipe, **given)
    from art_idguard.photos.watermarking import embed_files

    return _tried(embed_files, config, quiet=quiet)


def _extract(*, recipe: Path | None, quiet: bool, **given: Any) -> int:
    config = ExtractConfig.from_recipe(recipe, **given)
    from art_idguard.photos.watermarking import extract_files

    return _tried(extract_files, config, quiet=quiet)


def _tried(work: Any, config: EmbedConfig | ExtractConfig, *, quiet: bool) -> int:
    from art_idguard.files.names import printable
    from art_idguard.photos.finding import NoPhotosError

    try:
        return 1 if work(config, verbose=not quiet) else 0
    except NoPhotosError as error:
        print(f"art-idguard: error: {printable(str(error))}", file=sys.stderr)
        return 2


def _evaluate(*, recipe: Path | None, quiet: bool, **given: Any) -> int:
    config = ForensicsConfig.from_recipe(recipe, **given)
    from art_idguard.evaluation.forensics import evaluate_watermarkers

    print(evaluate_watermarkers(config, verbose=not quiet).document().markdown())
    return 0

"""Everything of a batch that needs torch: the protector, and who judges what it does."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from art_idguard import attribute_classifier, manipulators, recognizers
from art_idguard.files.tensors import digest
from art_idguard.hub.model import HubModel
from art_idguard.hub.shipped import shipped
from art_idguard.manipulators import Manipulator
from art_idguard.perturbation import Protector
from art_idguard.perturbation.refined import IN_PHOTO, PHOTO, SMOOTHING, UNNOTICED_IN_PHOTO, refined_in_photo
from art_idguard.perturbation.weakened import WeakenedProtector
from art_idguard.photos.config import ProtectConfig
from art_idguard.photos.job import PhotoJob
from art_idguard.photos.judging import Gallery, Judges
from art_idguard.photos.manifest import settings_digest
from art_idguard.types import float32


@contextmanager
def torch_job(config: ProtectConfig, *, verbose: bool) -> Iterator[tuple[PhotoJob, dict[str, Any]]]:
    """The job of a run, to be done inside, and what a record says of its protector."""
    with float32():
        start = Protector.from_pretrained(config.model, revision=config.revision).requires_grad_(False)
        all_asked = config.verify and config.check is None
        by_default = config.refine and not config.refine_against
        tools = (
            list(map(manipulators.load, manipulators.shipped_manipulators()))
            if by_default or config.show or all_asked
            else []
        )
        judges = _judges(config, tools if all_asked else None, start.side, verbose=verbose)
        known = list(map(manipulators.load, config.refine_against)) or tools
        protector, made_with = _protector(start, known, judges, config, verbose=verbose)
        job = PhotoJob(
            config=config,
            protector=protector,
            judge=judges,
            show=Gallery(manipulators=tools, side=start.side) if config.show else None,
            begin=partial(torch.set_num_threads, max(1, torch.get_num_threads() // config.workers)),
        )
        yield job, made_with


def _protector(
    protector: Protector, known: Sequence[Manipulator], judges: Judges | None, config: ProtectConfig, *, verbose: bool
) -> tuple[Protector, dict[str, Any]]:
    """The protector of a run, and what a record says of it."""
    made_with: dict[str, Any] = {"protector": _digest(protector)}
    if config.refine:
        made_with["refine"] = [config.refine, IN_PHOTO, SMOOTHING, PHOTO, UNNOTICED_IN_PHOTO, *map(_digest, known)]
        options: dict[str, Any] = {}
        if config.until and judges:
            options["enough"] = judges.hold
            made_with["until"] = [config.until, *map(_digest, judges.manipulators)]
        if config.minutes is not None:
            options["seconds"] = made_with["seconds"] = 60 * config.minutes
        protector = refined_in_photo(protector, known, steps=config.refine, verbose=verbose, **options)
    if config.strength != 1:
        made_with["strength"] = config.strength
        protector = WeakenedProtector(protector, config.strength)
    return protector, made_with


def _digest(model: HubModel) -> str:
    """Of weights and options."""
    options: Any = model._hub_mixin_config
    return settings_digest({"weights": digest(model.state_dict().values()), "options": options or {}})


def _judges(config: ProtectConfig, tools: Sequence[Manipulator] | None, side: int, *, verbose: bool) -> Judges | None:
    """Those tools, or the manipulator that the settings name; None where nobody is to judge."""
    if config.check == "none":
        return None
    return Judges(
        config=config,
        manipulators=tools or [manipulators.load(config.check or shipped("manipulators/stargan-celeba128"))],
        recognizer=recognizers.default(),
        side=side,
        classifier=attribute_classifier.default() if config.verify or config.until else None,
        verbose=verbose,
    )

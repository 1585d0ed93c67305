"""Everything of a batch that needs torch: the protector, and who judges what it does."""

from collections.abc import Iterator
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
from art_idguard.perturbation.refined import PHOTO, UNNOTICED_IN_PHOTO, refined_in_photo
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
        targets, side = _judges(config), start.side
        judges = Judges(
            config=config,
            manipulators=targets,
            recognizer=recognizers.default(),
            side=side,
            classifier=attribute_classifier.default() if config.verify else None,
            verbose=verbose,
        )
        protector, made_with = _protector(start, judges, config, verbose=verbose)
        job = PhotoJob(
            config=config,
            protector=protector,
            judge=judges if targets else None,
            show=Gallery(manipulators=_shipped(), side=side) if config.show else None,
            begin=partial(torch.set_num_threads, max(1, torch.get_num_threads() // config.workers)),
        )
        yield job, made_with


def _protector(
    protector: Protector, judges: Judges, config: ProtectConfig, *, verbose: bool
) -> tuple[Protector, dict[str, Any]]:
    """The protector of a run, and what a record says of it."""
    made_with: dict[str, Any] = {"protector": _digest(protector)}
    if config.refine:
        targets = _shipped()
        made_with["refine"] = [config.refine, PHOTO, UNNOTICED_IN_PHOTO, *map(_digest, targets)]
        options: dict[str, Any] = {}
        if config.until:
            options["enough"] = judges.hold
            made_with["until"] = [config.until, *map(_digest, judges.manipulators)]
        if config.minutes is not None:
            options["seconds"] = made_with["seconds"] = 60 * config.minutes
        protector = refined_in_photo(protector, targets, steps=config.refine, verbose=verbose, **options)
    if config.strength != 1:
        made_with["strength"] = config.strength
        protector = WeakenedProtector(protector, config.strength)
    return protector, made_with


def _digest(model: HubModel) -> str:
    """Of weights and options."""
    options: Any = model._hub_mixin_config
    return settings_digest({"weights": digest(model.state_dict().values()), "options": options or {}})


def _shipped() -> list[Manipulator]:
    return [manipulators.load(spec) for spec in manipulators.shipped_manipulators()]


def _judges(config: ProtectConfig) -> list[Manipulator]:
    if config.check == "none":
        return []
    if config.check is None and config.verify:
        return _shipped()
    return [manipulators.load(config.check or shipped("manipulators/stargan-celeba128"))]

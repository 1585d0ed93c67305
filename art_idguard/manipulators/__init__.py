"""The adversary: five face manipulation models, frozen or trainable (section IV-A)."""

from pathlib import Path
from typing import Any

from art_idguard.hub.loading import load_member
from art_idguard.hub.shipped import shipped
from art_idguard.manipulators.attentiongan import AttentionGAN
from art_idguard.manipulators.base import Manipulator
from art_idguard.manipulators.fpgan import FixedPointGAN
from art_idguard.manipulators.hisd import HiSD, HiSDDiscriminator
from art_idguard.manipulators.relgan import RelGAN, RelGANDiscriminator
from art_idguard.manipulators.stargan import StarGAN
from art_idguard.manipulators.stargan_family import Discriminator
from art_idguard.plugins import Registry

MANIPULATORS: Registry[type[Manipulator]] = Registry(
    "manipulators",
    {manipulator.name: manipulator for manipulator in (StarGAN, AttentionGAN, FixedPointGAN, RelGAN, HiSD)},
)


def load(spec: str | Path, **config: Any) -> Manipulator:
    """A frozen manipulator: a folder, a Hub id, or name=file; see `hub.loading.load_member`.

    `config` has the model's options where they differ from its config.json or its defaults, such as sign=-1
    for weights that the PyTorch repository of RelGAN trained.
    """
    return load_member(MANIPULATORS, spec, **config)


def shipped_manipulators() -> list[str]:
    """The folders of the manipulators that ship with the package."""
    return sorted(str(config.parent) for config in shipped("manipulators").glob("*/config.json"))


__all__ = [
    "MANIPULATORS",
    "AttentionGAN",
    "Discriminator",
    "FixedPointGAN",
    "HiSD",
    "HiSDDiscriminator",
    "Manipulator",
    "RelGAN",
    "RelGANDiscriminator",
    "StarGAN",
    "load",
    "shipped_manipulators",
]

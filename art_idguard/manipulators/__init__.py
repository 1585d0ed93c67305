"""The adversary: the paper's five face manipulation models, frozen or trainable (section IV-A), and published ones."""

from pathlib import Path
from typing import Any

from art_idguard.errors import WeightsError
from art_idguard.hub.loading import load_member
from art_idguard.hub.shipped import shipped
from art_idguard.manipulators.attentiongan import AttentionGAN
from art_idguard.manipulators.base import Manipulator
from art_idguard.manipulators.celeba_vae import CelebAVAE
from art_idguard.manipulators.dpr import DPR
from art_idguard.manipulators.fpgan import FixedPointGAN
from art_idguard.manipulators.hisd import HiSD, HiSDDiscriminator
from art_idguard.manipulators.photo import Photo
from art_idguard.manipulators.relgan import RelGAN, RelGANDiscriminator
from art_idguard.manipulators.stargan import StarGAN
from art_idguard.manipulators.stargan_family import Discriminator
from art_idguard.manipulators.taef2 import TAEF2
from art_idguard.manipulators.tinybeauty import TinyBeauty
from art_idguard.plugins import Registry

MANIPULATORS: Registry[type[Manipulator]] = Registry(
    "manipulators",
    {
        manipulator.name: manipulator
        for manipulator in (StarGAN, AttentionGAN, FixedPointGAN, RelGAN, HiSD, DPR, TAEF2, CelebAVAE, TinyBeauty)
    },
)


def load(spec: str | Path, **config: Any) -> Manipulator:
    """A frozen manipulator: a folder, a Hub id, or name=file, see `hub.loading.load_member`; or "photo".

    `config` has the model's options where they differ from its config.json or its defaults, such as sign=-1
    for weights that the PyTorch repository of RelGAN trained.

    Examples:
        >>> load("stargan").name
        'stargan'

    Raises:
        WeightsError: what `load_member` raises, or the name alone of a manipulator whose weights are its authors'.
    """
    if spec == Photo.name:
        return Photo().eval()
    if (member := published(spec)) is not None:
        raise WeightsError(f"{spec} does not ship: get {member.published}, and name it as {spec}=FILE")
    return load_member(MANIPULATORS, spec, **config)


def published(name: str | Path) -> type[Manipulator] | None:
    """The manipulator of that name if its weights are its authors', and no folder of the name is here."""
    member = MANIPULATORS.get(str(name))
    return member if member is not None and member.published is not None and not Path(name).is_dir() else None


def shipped_manipulators() -> list[str]:
    """The folders of the manipulators that ship with the package."""
    return sorted(str(config.parent) for config in shipped("manipulators").glob("*/config.json"))


__all__ = [
    "DPR",
    "MANIPULATORS",
    "TAEF2",
    "AttentionGAN",
    "CelebAVAE",
    "Discriminator",
    "FixedPointGAN",
    "HiSD",
    "HiSDDiscriminator",
    "Manipulator",
    "Photo",
    "RelGAN",
    "RelGANDiscriminator",
    "StarGAN",
    "TinyBeauty",
    "load",
    "published",
    "shipped_manipulators",
]

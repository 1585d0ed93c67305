"""The adversary: the paper's five face manipulation models, frozen or trainable (section IV-A), and published ones."""

from pathlib import Path
from typing import Any

from art_idguard.hub.loading import load_member
from art_idguard.hub.shipped import shipped
from art_idguard.manipulators.attentiongan import AttentionGAN
from art_idguard.manipulators.base import Manipulator
from art_idguard.manipulators.celeba_vae import CelebAVAE
from art_idguard.manipulators.dpr import DPR
from art_idguard.manipulators.fpgan import FixedPointGAN
from art_idguard.manipulators.hisd import HiSD, HiSDDiscriminator
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
    """A frozen manipulator: a folder, a Hub id, or name=file; see `hub.loading.load_member`.

    `config` has the model's options where they differ from its config.json or its defaults, such as sign=-1
    for weights that the PyTorch repository of RelGAN trained.
    """
    return load_member(MANIPULATORS, spec, **config)


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
    "RelGAN",
    "RelGANDiscriminator",
    "StarGAN",
    "TinyBeauty",
    "load",
    "shipped_manipulators",
]

"""The families of attempts by name; another one is a file here and a line below."""

from art_idguard.adversary.adapting import fine_tuning, lora
from art_idguard.adversary.cleaner import cleaners
from art_idguard.adversary.setting import Family
from art_idguard.adversary.transforms import purifiers, transforms
from art_idguard.plugins import Registry

FAMILIES: Registry[Family] = Registry(
    "attempts",
    {
        "transforms": transforms,
        "purifiers": purifiers,
        "cleaner": cleaners,
        "lora": lora,
        "fine-tuning": fine_tuning,
    },
)
"""By name, in the order of the report."""

LEARN = ("cleaner", "lora", "fine-tuning")
"""Those that need faces to train on."""

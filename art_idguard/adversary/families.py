"""The families of attempts by name; another one is a file here and a line below."""

from art_idguard.adversary.adapting import fine_tuning, lora
from art_idguard.adversary.cleaner import cleaners
from art_idguard.adversary.setting import Family
from art_idguard.adversary.transforms import purifiers, transforms
from art_idguard.plugins import Registry

FAMILIES: Registry[Family] = Registry(
    "attempts",
    {
        "transforms": Family(transforms),
        "purifiers": Family(purifiers),
        "cleaner": Family(cleaners, learns=True),
        "lora": Family(lora, learns=True),
        "fine-tuning": Family(fine_tuning, learns=True),
    },
)
"""By name, in the order of the report."""

"""A protector's training at toy size: its settings, and the command line that gives them."""

import sys

from art_idguard.training.protector.config import ProtectorConfig

STEPS = 6


def config(workplace, output, **changes):
    settings = {
        "faces": str(workplace / "faces"),
        "manipulators": (str(workplace / "stargan"), str(workplace / "relgan")),
        "output": str(output),
        "recognizers": (str(workplace / "sface"),),
        "size": 32,
        "channels": 8,
        "norm": "instance",
        "prior": "noise",
        "batch_size": 4,
        "steps": STEPS,
        "checkpoint_every": 1,
        "regions": str(workplace / "regions.safetensors"),
    }
    return ProtectorConfig(**(settings | changes))


def arguments(config):
    """The command line that gives these settings."""
    words = [sys.executable, "-m", "art_idguard.cli", "train", "--quiet"]
    for name, value in vars(config).items():
        if value != getattr(ProtectorConfig, name, None) or name in ("faces", "manipulators", "output"):
            values = value if isinstance(value, tuple) else (value,)
            words += [f"--{name.replace('_', '-')}", *map(str, values)]
    return words

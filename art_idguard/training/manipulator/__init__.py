"""Training of the manipulators by their own losses, and hardening (Eq. 15)."""

from art_idguard._lazy import lazy

__getattr__, __dir__ = lazy(
    __name__,
    {
        "ManipulatorConfig": "art_idguard.training.manipulator.config",
        "train_manipulator": "art_idguard.training.manipulator.train",
    },
)

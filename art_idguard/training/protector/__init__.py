"""Training of a protector (Algorithm 1)."""

from art_idguard._lazy import lazy

__getattr__, __dir__ = lazy(
    __name__,
    {
        "ProtectorConfig": "art_idguard.training.protector.config",
        "train_protector": "art_idguard.training.protector.train",
    },
)

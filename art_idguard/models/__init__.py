"""Any model without knowing its kind: loaded, described, pushed."""

from art_idguard._lazy import lazy

__getattr__, __dir__ = lazy(__name__, {"load": "art_idguard.models.loading"})

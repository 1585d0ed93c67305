"""The page."""

from art_idguard._lazy import lazy

__getattr__, __dir__ = lazy(__name__, {"serve": "art_idguard.serve.app"})

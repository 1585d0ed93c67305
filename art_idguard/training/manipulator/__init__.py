"""Training of the manipulators by their own losses, and hardening (Eq. 15)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

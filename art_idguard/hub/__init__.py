"""Models in the Hub's layout: saved, loaded, shipped, published, and their cards."""

import lazy_loader

from art_idguard.hub.shipped import shipped as shipped  # at once: later the name would be the module's

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

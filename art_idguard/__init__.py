"""ID-Guard: protect face photos against GAN face manipulation.

>>> import art_idguard
>>> "Protector" in dir(art_idguard)
True
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

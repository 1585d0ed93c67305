"""Proactive forensics (section IV-E2, Table VIII): a message in a face that can be read from its forgeries."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

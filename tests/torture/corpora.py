"""The corpora by name."""

from types import ModuleType

CORPORA: dict[str, ModuleType] = {corpus.NAME: corpus for corpus in ()}

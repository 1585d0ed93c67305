"""The corpora by name."""

from types import ModuleType

from tests.torture import pictures, tables, weights

CORPORA: dict[str, ModuleType] = {corpus.NAME: corpus for corpus in (pictures, tables, weights)}

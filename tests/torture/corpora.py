"""The corpora by name."""

from types import ModuleType

from tests.torture import kills_protecting, kills_training, pictures, tables, weights

CORPORA: dict[str, ModuleType] = {
    corpus.NAME: corpus for corpus in (pictures, tables, weights, kills_protecting, kills_training)
}

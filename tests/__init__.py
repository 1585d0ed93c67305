"""Tests; `check` is the type checker that jaxtyping applies to every function of the package."""

from pathlib import Path
from typing import Any, Self

from beartype import BeartypeConf, FrozenDict, beartype

ROOT = Path(__file__).parents[1]
"""The repository."""
KEYS = ROOT / "tests" / "keys"
"""Names and shapes of the weights in official files, as JSON."""

# jaxtyping decorates functions, not classes, and beartype knows what Self is only inside a decorated class.
check = beartype(conf=BeartypeConf(hint_overrides=FrozenDict({Self: Any})))

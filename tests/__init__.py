"""Tests; `check` is the type checker that jaxtyping applies to every function of the package."""

from typing import Any, Self

from beartype import BeartypeConf, FrozenDict, beartype

# jaxtyping decorates functions, not classes, and beartype knows what Self is only inside a decorated class.
check = beartype(conf=BeartypeConf(hint_overrides=FrozenDict({Self: Any})))

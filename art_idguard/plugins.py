"""Plug-ins: members of a family from other packages, by entry points, or from a module that registers its own.

A package offers them in its pyproject.toml, under the groups `art_idguard.manipulators`, `.recognizers`, `.weightings`,
`.baselines`, `.restorers` and `.attempts` (of an adversary)::

    [project.entry-points."art_idguard.weightings"]
    mine = "my_package.weighting:MyWeighting"
"""

import os
import sys
from collections.abc import Iterable, Mapping
from importlib import import_module
from importlib.metadata import EntryPoints, entry_points
from typing import TypeVar

from art_idguard.errors import IDGuardError

Member = TypeVar("Member")


class Registry(dict[str, Member]):
    """The members of a family by name, and those that installed packages offer, which are loaded when asked for.

    A member of this package is not replaced by another of its name. Iteration shows what is loaded; see `names`.

    Examples:
        >>> from art_idguard import MANIPULATORS
        >>> MANIPULATORS.names()[:5]
        ['stargan', 'attentiongan', 'fpgan', 'relgan', 'hisd']
        >>> MANIPULATORS["stargan"].__name__
        'StarGAN'

    Args:
        family: manipulators, recognizers, weightings, baselines, restorers or attempts.
        members: this package's own.
    """

    def __init__(self, family: str, members: Mapping[str, Member]) -> None:
        super().__init__(members)
        self.family = family

    def __missing__(self, name: str) -> Member:
        """Load what is offered under this name.

        Raises:
            KeyError: nothing is.
            IDGuardError: it cannot be loaded.
        """
        for point in self._offered().select(name=name):
            try:
                self[name] = point.load()
            except Exception as error:  # whatever a stranger's module does at import
                raise IDGuardError(f"the plug-in {point.value} ({name}) cannot be loaded: {error!r}") from error
            return self[name]
        raise KeyError(name)

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or name in self._offered().names

    def names(self) -> list[str]:
        """All names, of what is loaded and of what is offered."""
        return [*self, *sorted(self._offered().names - self.keys())]

    def _offered(self) -> EntryPoints:
        return entry_points(group=f"art_idguard.{self.family}")


def import_modules(names: Iterable[str]) -> None:
    """Import modules that register members by themselves, from the current folder as well (`--import` of the command).

    Raises:
        IDGuardError: there is no such module, or it cannot be imported.
    """
    for name in names:
        if os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())
        try:
            import_module(name)
        except Exception as error:  # whatever the module does at import
            raise IDGuardError(f"cannot import {name!r} (--import): {error!r}") from error

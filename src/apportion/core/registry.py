"""Registries: a folder of modules, plus what other packages offer as entry points, by name.

Dropping a file into the folder registers it under the file's name. Names are listed without importing
anything; a module is imported when its thing is first asked for. Files that start with `_` are not entries.
A registry looks for files and packages once, when it is first used: reading what every installed package
offers takes some 10 ms.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from apportion.core.errors import NotFound, UsageError, unknown

T = TypeVar("T")


def module_names(package: str) -> tuple[str, ...]:
    """The names of the modules in the folder of `package`, sorted, without importing them."""
    folder = importlib.import_module(package).__path__
    return tuple(sorted(info.name for info in pkgutil.iter_modules(folder) if not info.name.startswith("_")))


def discover(package: str, attribute: str, kind: type[T]) -> dict[str, T]:
    """`attribute` of every module in the folder of `package`, by module name. Imports them all."""
    registry = Registry("module", package, attribute, kind)
    return {name: registry.get(name) for name in registry}


class Registry(Generic[T]):
    """Things of one kind, by name.

    Args:
        noun: what one of them is called in messages ("model family").
        package: the package whose folder holds them, one per module.
        attribute: the name that each module gives its thing.
        kind: the class that each thing must be an instance of.
        group: the entry-point group through which other packages add theirs; they cannot replace ours.
        prefix: what the names of such entry points begin with, where several registries share a group.
    """

    def __init__(
        self,
        noun: str,
        package: str,
        attribute: str,
        kind: type[T],
        *,
        group: str | None = None,
        prefix: str = "",
    ) -> None:
        self.noun = noun
        self._package = package
        self._attribute = attribute
        self._kind = kind
        self._group = group
        self._prefix = prefix
        self._added: dict[str, T] = {}

    def names(self) -> tuple[str, ...]:
        """All names, sorted.

        Raises:
            UsageError: another package offers a name that is taken.
        """
        return tuple(sorted({*self._modules, *self._offered, *self._added}))

    def get(self, name: str) -> T:
        """The thing called `name`; a dash may stand for an underscore.

        Raises:
            NotFound: there is none; the hint names the closest.
            UsageError: another package offers it, and it cannot be loaded.
        """
        name = name.replace("-", "_")
        if name in self._added:
            return self._added[name]
        if name in self._modules:
            module = importlib.import_module(f"{self._package}.{name}")
            thing = getattr(module, self._attribute)
            assert isinstance(thing, self._kind), (
                f"{module.__name__}.{self._attribute} is no {self._kind.__name__}"
            )
            return thing
        if name in self._offered:
            return self._load(self._offered[name])
        raise unknown(self.noun, name, self.names(), NotFound)

    @contextmanager
    def adding(self, name: str, thing: T) -> Iterator[None]:
        """`thing` is registered as `name` inside the block, before everything else of that name."""
        before = dict(self._added)
        self._added[name] = thing
        try:
            yield
        finally:
            self._added = before

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __contains__(self, name: object) -> bool:
        return name in self.names()

    def __len__(self) -> int:
        return len(self.names())

    @cached_property
    def _modules(self) -> frozenset[str]:
        """The names of our own."""
        return frozenset(module_names(self._package))

    @cached_property
    def _offered(self) -> dict[str, EntryPoint]:
        """Entry points of other packages, by name."""
        if self._group is None:
            return {}
        offered: dict[str, EntryPoint] = {}
        for entry in entry_points(group=self._group):
            if not entry.name.startswith(self._prefix):
                continue
            name = entry.name.removeprefix(self._prefix)
            if name in offered or name in self._modules:
                raise UsageError(
                    f"two things are called {name!r}",
                    f"{_package_of(entry)} offers a {self.noun} of a name that is taken",
                    "uninstall that package, or have it choose another name",
                )
            offered[name] = entry
        return offered

    def _load(self, entry: EntryPoint) -> T:
        try:
            thing: Any = entry.load()
        except Exception as error:  # whatever a foreign package does while it is imported
            why = f"{type(error).__name__}: {error}"
            raise self._broken(entry, why) from error
        if not isinstance(thing, self._kind):
            raise self._broken(entry, f"{entry.value} is no {self._kind.__name__}")
        return thing

    def _broken(self, entry: EntryPoint, why: str) -> UsageError:
        what = f"the {self.noun} {entry.name!r} of {_package_of(entry)} cannot be loaded"
        return UsageError(what, why, "update or uninstall that package")


def _package_of(entry: EntryPoint) -> str:
    return f"the package {entry.dist.name}" if entry.dist is not None else "another package"

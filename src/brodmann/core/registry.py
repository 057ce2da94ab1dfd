"""Names to factories, filled by decorators here and by entry points in other packages."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from brodmann.core.errors import RecipeError, nearest

T = TypeVar("T")


class Registry(Generic[T]):
    """A table of named things of one kind.

    Parameters
    ----------
    kind : str
        What the things are, in the singular ("dataset", "net").
    builtin : dict of str to str, optional
        Name -> "module:attribute", imported on first use so that a missing or slow
        dependency is met only by who asks for it.

    A package adds its own by an entry point in the group ``brodmann.<kind>``.

    Example
    -------
    >>> nets = Registry("net")
    >>> @nets.register("tiny")
    ... def tiny(): return "a net"
    >>> nets["tiny"]()
    'a net'
    """

    def __init__(self, kind: str, builtin: dict[str, str] | None = None) -> None:
        self.kind = kind
        self._lazy = dict(builtin or {})
        self._loaded: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """A decorator that files its object under `name`; a name is given once only."""
        if name in self._loaded or name in self._lazy:
            raise RecipeError(f"a {self.kind} named {name!r} exists already", fix="choose another")

        def keep(thing: T) -> T:
            self._loaded[name] = thing
            return thing

        return keep

    def names(self) -> list[str]:
        """Every known name, plug-ins included, sorted."""
        return sorted({*self._loaded, *self._lazy, *self._plugins()})

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __contains__(self, name: object) -> bool:
        return name in self.names()

    def __getitem__(self, name: str) -> T:
        if name in self._loaded:
            return self._loaded[name]
        if name in self._lazy:
            module, attribute = self._lazy[name].split(":")
            self._loaded[name] = getattr(importlib.import_module(module), attribute)
            return self._loaded[name]
        plugins = self._plugins()
        if name in plugins:
            self._loaded[name] = plugins[name].load()
            return self._loaded[name]
        raise RecipeError(f"unknown {self.kind}", found=repr(name), fix=nearest(name, self.names()))

    def _plugins(self) -> dict:
        return {point.name: point for point in entry_points(group=f"brodmann.{self.kind}")}

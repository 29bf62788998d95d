"""Registries: named things of one kind, built in, brought by installed packages, or added by a running program.

A package adds its own by entry points in its pyproject.toml, for example:

    [project.entry-points."echogen.metrics"]
    contrast = "my_package.contrast:CONTRAST"

Packages are looked up when a name that is not built in is asked for, and imported when their entry is used. One that cannot
be imported is named in a warning and left out; everything else goes on working.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, ItemsView, Iterator, Mapping, MutableMapping, ValuesView
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar, cast

from echogen.errors import InputError

T = TypeVar("T")

#: Source of what echogen itself brings.
BUILT_IN = "built in"
#: Source of what a running program adds with `Registry.register`.
THIS_PROGRAM = "this program"
#: Least similarity, 0..1, of a known name to an unknown one for a suggestion; 0.5 forgives a wrong letter in three.
_NEAR = 0.5

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Listing:
    """One line of `echogen list`.

    name: as it is given to a command or function.
    meaning: one line for people; for an entry that cannot be used here, the reason.
    source: `BUILT_IN`, `THIS_PROGRAM`, or the name and version of an installed package.
    """

    name: str
    meaning: str
    source: str


@dataclass(frozen=True)
class _Entry(Generic[T]):
    """An entry before it is imported. value: itself, "module:attribute", or the entry point of an installed package."""

    source: str
    value: T | str | EntryPoint


class Registry(MutableMapping[str, T]):
    """Named things of one kind, in the order in which they were added: built-in ones first.

    A registry is a mapping from names to things; `find` is `[]` with a sentence for people. Names are known without importing
    anything; `items` and `values` import everything and leave out, with a warning, packages that cannot be imported.
    """

    def __init__(
        self, kind: str, group: str, holds: str, built_in: Mapping[str, T | str], *, meaning: Callable[[T], str] | None = None
    ) -> None:
        """Make a registry.

        kind: what one entry is called in sentences, such as "data set".
        group: the group of entry points by which packages add to it.
        holds: "module:class" of which every entry is an instance or a subclass.
        built_in: the entries of echogen by name, each itself or as "module:attribute", which is imported when it is used.
        meaning: one line about an entry; the first line of its docstring unless stated.
        """
        self.kind, self.group = kind, group
        self._holds = holds
        self._meaning = meaning or _first_line
        self._entries: dict[str, _Entry[T]] = {name: _Entry(BUILT_IN, value) for name, value in built_in.items()}
        self._imported: dict[str, T] = {}
        self._warned: set[str] = set()
        self._packages_known = False

    def register(self, name: str, value: T) -> None:
        """Add an entry for this process; the same name may be registered again, and then means the newer entry.

        Raises `InputError` where the name is taken by a built-in entry or an installed package, or the value is of another kind.
        """
        if name in self and self._entries[name].source != THIS_PROGRAM:
            raise InputError(f"The {self.kind} {name!r} is there already ({self.source(name)}); choose another name.")
        self._imported[name] = self._checked(name, value, THIS_PROGRAM)
        self._entries[name] = _Entry(THIS_PROGRAM, value)

    def names(self) -> list[str]:
        """All names, of built-in entries first; nothing is imported."""
        return list(self)

    def find(self, name: str) -> T:
        """The entry of a name.

        Raises `InputError` for an unknown name, with the nearest known one, and for a package that cannot be imported.
        """
        if name in self:
            return self[name]
        near = difflib.get_close_matches(name.lower(), self.names(), n=1, cutoff=_NEAR)
        known = ", ".join(self.names()) or "none"
        guess = f"did you mean {near[0]}? Known are {known}" if near else f"known are {known}"
        raise InputError(f"There is no {self.kind} {name!r}; {guess}.")

    def source(self, name: str) -> str:
        """`BUILT_IN`, `THIS_PROGRAM`, or the name and version of the package that brings an entry; KeyError for no entry."""
        if name not in self:
            raise KeyError(name)
        return self._entries[name].source

    def usable(self) -> Iterator[tuple[str, T]]:
        """Names and entries in order; packages are looked up after the last built-in entry, and warned of where they fail."""
        for name in [name for name, entry in self._entries.items() if entry.source == BUILT_IN]:
            yield name, self[name]
        for name in [name for name in self if self._entries[name].source != BUILT_IN]:
            try:
                yield name, self[name]
            except InputError as error:
                self._warn(str(error))

    def listing(self) -> list[Listing]:
        """Every entry with its meaning and source; one that cannot be used here is listed with the reason."""
        found = []
        for name in self:
            try:
                meaning = self._meaning(self[name])
            except (InputError, ImportError) as error:
                meaning = str(error)
            found.append(Listing(name, meaning, self.source(name)))
        return found

    def items(self) -> ItemsView[str, T]:
        """Names and entries; packages that cannot be imported are left out with a warning."""
        return dict(self.usable()).items()

    def values(self) -> ValuesView[T]:
        """All entries; packages that cannot be imported are left out with a warning."""
        return dict(self.usable()).values()

    def __getitem__(self, name: str) -> T:
        """The entry of a name; KeyError for none, `InputError` for a package that cannot be imported."""
        if name not in self:
            raise KeyError(name)
        if name not in self._imported:
            self._imported[name] = self._import(name, self._entries[name])
        return self._imported[name]

    def __setitem__(self, name: str, value: T) -> None:
        self.register(name, value)

    def __delitem__(self, name: str) -> None:
        """Take out an entry that a program has added; KeyError for any other."""
        if name not in self._entries or self._entries[name].source != THIS_PROGRAM:
            raise KeyError(name)
        del self._entries[name], self._imported[name]

    def __iter__(self) -> Iterator[str]:
        self._look_up_packages()
        return iter(list(self._entries))

    def __len__(self) -> int:
        self._look_up_packages()
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        if name in self._entries:
            return True
        self._look_up_packages()
        return name in self._entries

    def _import(self, name: str, entry: _Entry[T]) -> T:
        if isinstance(entry.value, str):
            module, attribute = entry.value.split(":")
            return cast(T, getattr(import_module(module), attribute))
        if not isinstance(entry.value, EntryPoint):
            return entry.value
        try:
            value = entry.value.load()
        except Exception as error:  # a package of others may fail in any way
            what = " ".join(f"{type(error).__name__}: {error}".split())
            raise InputError(
                f"The {self.kind} {name!r} of the package {entry.source} cannot be imported ({what}); update or uninstall it."
            ) from error
        return self._checked(name, value, f"the package {entry.source}")

    def _checked(self, name: str, value: object, source: str) -> T:
        module, kind = self._holds.split(":")
        wanted = getattr(import_module(module), kind)
        if isinstance(value, wanted) or (isinstance(value, type) and issubclass(value, wanted)):
            return cast(T, value)
        raise InputError(f"The {self.kind} {name!r} of {source} is no {kind} of {module}; see the documentation of {kind}.")

    def _look_up_packages(self) -> None:
        """Add the entry points of installed packages, once; the first entry of a name keeps it."""
        if self._packages_known:
            return
        for point in sorted(entry_points(group=self.group), key=lambda point: (point.name, point.value)):
            source = f"{point.dist.name} {point.dist.version}" if point.dist else "an installed package"
            taken = self._entries.setdefault(point.name, _Entry(source, point))
            if not (isinstance(taken.value, EntryPoint) and taken.value == point):
                self._warn(
                    f"The {self.kind} {point.name!r} of the package {source} is left out: that name is taken ({taken.source})."
                )
        self._packages_known = True

    def _warn(self, sentence: str) -> None:
        if sentence not in self._warned:
            self._warned.add(sentence)
            _log.warning(sentence)


def _first_line(value: object) -> str:
    return (value.__doc__ or "").strip().partition("\n")[0]

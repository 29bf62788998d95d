"""Shared parts of the loaders of data sets that are a table and the files in it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from echogen.datasets.tables import Source
from echogen.errors import InputError
from echogen.records import Ecg, Study


@dataclass(frozen=True)
class TableEntry:
    """An entry of a table; its name is its own."""

    name: str


E = TypeVar("E", bound=TableEntry)
R = TypeVar("R", Study, Ecg)


class TableRecords(ABC, Generic[E, R]):
    """The records that a table lists, by index; what the table says of each is in `entries`."""

    entries: list[E]

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[R]:
        return (self[index] for index in range(len(self)))

    @property
    def names(self) -> list[str]:
        """The names of the entries, in order."""
        return [entry.name for entry in self.entries]

    def labels(self, index: int) -> dict[str, Any]:
        """Labels of an index in the table, as plain values; the view under the data set's own name for it."""
        return {key: value for key, value in asdict(self.entries[index]).items() if key != "name"}

    @abstractmethod
    def __getitem__(self, index: int) -> R:
        """The record of an index. Raises `InputError` where its file is damaged."""


class TableVideos(TableRecords[E, Study]):
    """The videos that a table lists as studies by index, in its order; a video is read when it is asked for.

    listed: each entry with the path where its video must lie. part: what was asked for, in words. skip_missing: leave out
    videos that are not there (their names are in `missing`) instead of refusing. Raises `InputError` where a video is not
    there, or none is left.
    """

    def __init__(
        self, folder: Path, listed: Sequence[tuple[E, Path]], *, table: str, part: str, source: Source, skip_missing: bool
    ) -> None:
        self.folder = folder
        there = [(entry, path) for entry, path in listed if path.is_file()]
        if len(there) < len(listed) and not skip_missing:
            lost = [path for _, path in listed if not path.is_file()]
            raise InputError(
                f"{len(lost)} of the {len(listed)} videos that {table} lists are not in {lost[0].parent} "
                f"({lost[0].name} is the first); get them again ({source.where}) or leave missing videos out."
            )
        if not there:
            raise InputError(f"{folder} holds no video of {part}; {source.where}.")
        self.entries = [entry for entry, _ in there]
        self.paths = [path for _, path in there]
        kept = {path for _, path in there}
        self.missing = [entry.name for entry, path in listed if path not in kept]

    def source(self, index: int) -> Path:
        """The video file of an index."""
        return self.paths[index]

"""Shared parts of the loaders of data sets that consist of a table and the files that it lists."""

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
    """An entry of a table.

    name: Unique name of the entry.
    """

    name: str


E = TypeVar("E", bound=TableEntry)
R = TypeVar("R", Study, Ecg)


class TableRecords(ABC, Generic[E, R]):
    """Records that a table lists, by index; `entries` holds the cells of the table about each."""

    entries: list[E]

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[R]:
        return (self[index] for index in range(len(self)))

    @property
    def names(self) -> list[str]:
        """Names of the entries, in order."""
        return [entry.name for entry in self.entries]

    def labels(self, index: int) -> dict[str, Any]:
        """Cells of the table about the record with this index, as plain values; a view has the data set's own name."""
        return {key: value for key, value in asdict(self.entries[index]).items() if key != "name"}

    @abstractmethod
    def __getitem__(self, index: int) -> R:
        """Read the record with this index. Raises `InputError` where its file is damaged."""


class TableVideos(TableRecords[E, Study]):
    """Videos that a table lists, as studies by index, in the order of the table; a video is read when it is asked for.

    folder: Folder of the data set, for messages.
    listed: Each entry with the path where its video must lie.
    table: Name of the table, for messages.
    part: Part of the data set that was asked for, in words, for messages.
    source: Name of the data set and the place to ask for it, for messages.
    skip_missing: True leaves out videos that are missing (their names are in `missing`); False raises `InputError`.

    Raises `InputError` where no video is left.
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
        """Path of the video with this index."""
        return self.paths[index]

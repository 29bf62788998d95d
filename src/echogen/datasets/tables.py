"""The tables (CSV) that come with data sets, row by row; what is wrong is said with its line and where to get the file again."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from echogen.errors import InputError

#: Cells that say nothing.
_SILENT = ("", "nan", "na", "n/a", "none", "null")


@dataclass(frozen=True)
class Source:
    """A data set in messages: its name, and where to ask for it (the end of a sentence)."""

    name: str
    where: str


@dataclass(frozen=True)
class Row:
    """A row of a table: its cells by column, and which line of which file it is."""

    cells: dict[str, str]
    path: Path
    line: int
    source: Source

    def text(self, column: str) -> str:
        """A cell without surrounding blanks; empty where the row is too short."""
        return (self.cells.get(column) or "").strip()

    def number(self, column: str) -> float:
        """A cell as a finite number. Raises `InputError` for anything else."""
        try:
            value = float(self.text(column))
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise self.error(f"has no number for {column}")
        return value

    def number_if_any(self, column: str) -> float | None:
        """A cell as a number, None where it is empty or says nan. Raises `InputError` for anything else."""
        return None if self.text(column).lower() in _SILENT else self.number(column)

    def error(self, what: str) -> InputError:
        """The sentence for a row of which `what` is wrong."""
        return InputError(f"Line {self.line} of {self.path} {what}; get the file again ({self.source.where}).")


def read_rows(path: Path, columns: Sequence[str], source: Source) -> Iterator[Row]:
    """The rows of a table with at least these columns. Raises `InputError` for one that is missing or malformed."""
    if not path.is_file():
        raise InputError(f"There is no {path.name} in {path.parent}; name the folder of {source.name} ({source.where}).")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            lacking = [column for column in columns if column not in (reader.fieldnames or ())]
            if lacking:
                raise InputError(f"{path} lacks the column {', '.join(lacking)}; get the file again ({source.where}).")
            for cells in reader:
                yield Row(cells, path, reader.line_num, source)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as a table; get the file again ({source.where}).") from error

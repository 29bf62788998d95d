"""Reader for the tables (CSV) of data sets, row by row; a message names the wrong line and the place to get the file again."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from echogen.errors import InputError

#: Texts, in lower case, of cells without a value.
_SILENT = ("", "nan", "na", "n/a", "none", "null")


@dataclass(frozen=True)
class Source:
    """A data set in messages.

    name: Name of the data set.
    where: End of a sentence with the address to ask for the data.
    """

    name: str
    where: str


@dataclass(frozen=True)
class Row:
    """A row of a table.

    cells: Text of each cell by column.
    path: File of the table.
    line: Number of the row's line in the file, from 1.
    source: Data set of the table.
    """

    cells: dict[str, str]
    path: Path
    line: int
    source: Source

    def text(self, column: str) -> str:
        """Text of a cell without surrounding blanks; empty where the row is too short."""
        return (self.cells.get(column) or "").strip()

    def number(self, column: str) -> float:
        """Finite number in a cell. Raises `InputError` for anything else."""
        try:
            value = float(self.text(column))
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise self.error(f"has no number for {column}")
        return value

    def number_if_any(self, column: str) -> float | None:
        """Finite number in a cell, None where the cell is empty or nan. Raises `InputError` for anything else."""
        return None if self.text(column).lower() in _SILENT else self.number(column)

    def error(self, what: str) -> InputError:
        """Make the error for this row; `what` is the part of the sentence that names the mistake."""
        return InputError(f"Line {self.line} of {self.path} {what}; get the file again ({self.source.where}).")


def read_rows(path: Path, columns: Sequence[str], source: Source) -> Iterator[Row]:
    """Read the rows of a table with at least these columns. Raises `InputError` for a table that is missing or malformed."""
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

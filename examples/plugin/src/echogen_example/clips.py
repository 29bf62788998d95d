"""A data set: a table example_clips.csv with the columns video, ecg and ef_percent, and the files that it lists."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from echogen import InputError, Study, read_cine, read_ecg
from echogen.datasets.registry import DatasetEntry, Sign

TABLE = "example_clips.csv"
COLUMNS = ("video", "ecg", "ef_percent")


class ExampleClips:
    """The clips of a folder as studies, in the order of the table; a file is read when its study is asked for.

    least_ef_percent: leave out clips with a smaller EF. Raises `InputError` for a damaged table.
    """

    def __init__(self, folder: str | Path, *, least_ef_percent: float = 0.0) -> None:
        self.folder = Path(folder)
        try:
            with (self.folder / TABLE).open(newline="", encoding="utf-8") as file:
                rows = [{column: row[column] for column in COLUMNS} for row in csv.DictReader(file)]
            self.rows = [row for row in rows if float(row["ef_percent"]) >= least_ef_percent]
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"{self.folder / TABLE} must be a table with the columns {', '.join(COLUMNS)}.") from error

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Study]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> Study:
        """Read the study of an index. Raises `InputError` where a file is missing or damaged."""
        row = self.rows[index]
        ecg, cine = read_ecg(self.folder / row["ecg"]), read_cine(self.folder / row["video"])
        return Study(ecg, cine, ef_percent=float(row["ef_percent"]))

    @property
    def names(self) -> list[str]:
        """Names of the videos without suffix, in order."""
        return [Path(row["video"]).stem for row in self.rows]


EXAMPLE_CLIPS = DatasetEntry(
    what="an example: videos, ECGs and ejection fractions that a table lists",
    where="examples/plugin of echogen",
    loader="echogen_example.clips:ExampleClips",
    signs=(Sign(TABLE, COLUMNS),),
)

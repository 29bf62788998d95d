"""`echogen generate --table`: shards with a video for each row of a table, its masks and measurements, as a data set to share."""

from __future__ import annotations

import csv
import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import typer

from echogen.commands.common import (
    FASTEST_FPS,
    FromPhase,
    Sex,
    Size,
    Texture,
    View,
    check_folder,
    check_input,
    json_text,
    progress_bar,
)
from echogen.commands.video_case import Case, load_generator, make_video
from echogen.errors import InputError

if TYPE_CHECKING:
    from echogen.datasets.shard_writing import Origin
    from echogen.datasets.shards import Sample
    from echogen.generators.video_generator import VideoGenerator
    from echogen.records import ByteArray, Cine

#: Column of the video's name.
_NAME = "name"
#: Columns that a table may have.
COLUMNS = (_NAME, *(field.name for field in fields(Case)))
#: Texts of a cell of yes or no.
_YES_NO = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
#: Number of videos in one shard.
PER_SHARD = 100


@dataclass(frozen=True)
class Row:
    """A row of the table.

    number: Number of the row, from 1.
    name: Name of its video.
    case: Options of its video.
    """

    number: int
    name: str
    case: Case


def generate_table(
    table: Path, output: Path, defaults: Case, *, model: str, adapter: str | None, private: bool, device: str
) -> None:
    """Make the video of every row and write shards into `output`; a stopped run goes on with its next video.

    table: CSV file of the rows.
    output: Folder of the shards.
    defaults: Options for empty cells and absent columns; rows without a seed count on from the first row's.
    model: Shipped generator, or a folder.
    adapter: Adapter of the generator; None without one.
    private: True draws anew a video that resembles a training clip.
    device: auto, cpu or cuda.
    Raises `InputError` for a table that cannot be used, before any video is made.
    """
    rows = read_table(table, defaults)
    if not output.is_dir():
        check_folder(output.parent)
    from echogen.commands.prepare import described
    from echogen.datasets.shard_writing import begin, finish, plan_for, write_shard

    generator = load_generator(model, device, adapter, private=private)
    for row in rows:
        check_row(row, generator, table)
    system = generator.core
    asked = [_plain(asdict(row.case)) for row in rows]
    of = {
        "table_sha256": hashlib.sha256(json.dumps(asked).encode()).hexdigest(),
        "model": system.name,
        "weights_hash": system.weights_hash,
        "adapter": system.adapter and system.adapter.digest,
        "private": private,
    }
    plan = plan_for(of, [row.name for row in rows], PER_SHARD)
    with progress_bar("generating") as progress:
        videos = TableVideos(rows, generator, lambda done: progress(done, len(rows)))
        for shard in begin(output, plan):
            write_shard(output, plan, videos, shard)
        typer.echo(described(finish(output, plan), output))


@dataclass(frozen=True)
class TableVideos:
    """Videos of a table as samples for shards, each made when its sample is asked for.

    rows: Rows of the table.
    generator: Generator with its wrappers.
    progress: Called with the number of finished videos.
    """

    rows: Sequence[Row]
    generator: VideoGenerator
    progress: Callable[[int], None]

    @property
    def names(self) -> list[str]:
        """Name of each row's video."""
        return [row.name for row in self.rows]

    def origin(self, index: int) -> Origin:
        """Origin of a row's video: its ECG file and that file's hash."""
        from echogen.datasets.shard_writing import Origin

        ecg = self.rows[index].case.ecg
        source = f"row {self.rows[index].number}" + (f", {ecg.name}" if ecg else "")
        return Origin(source, hashlib.sha256(ecg.read_bytes()).hexdigest() if ecg and ecg.is_file() else None)

    def sample(self, index: int, key: str) -> Sample:
        """Make the video of a row with its masks; its labels are the JSON of `generate`, in which the EF is the measured one."""
        from echogen.datasets.shards import Sample

        self.progress(index)
        video = make_video(self.generator, self.rows[index].case)
        labels = json.loads(json_text(video.document))
        labels |= {"view": video.cine.view, "sex": self.rows[index].case.sex, "synthetic": True}
        return Sample(key, video.cine, video.ecg, masks_of(video.cine), labels)


def masks_of(cine: Cine) -> ByteArray | None:
    """Segment the chambers in every frame; None for frames that are not 128 x 128 pixels or a multiple of it."""
    import numpy as np

    from echogen.cine.sector import CANONICAL_SIZE
    from echogen.measurement import load_segmenter
    from echogen.measurement.segmentation import segment

    count, height, width = cine.frames.shape
    times, rest = divmod(height, CANONICAL_SIZE)
    if rest or height != width:
        return None
    small = cine.frames.reshape(count, CANONICAL_SIZE, times, CANONICAL_SIZE, times).mean((2, 4)).round().astype(np.uint8)
    return segment(small, load_segmenter()).repeat(times, axis=1).repeat(times, axis=2)


def read_table(path: Path, defaults: Case) -> list[Row]:
    """Read the rows of a table. Raises `InputError` naming the row and the column of what cannot be used."""
    if not path.is_file():
        raise InputError(f"There is no table {path}; check its name.")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns, lines = list(reader.fieldnames or ()), list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as a table; save it as CSV (UTF-8).") from error
    if unknown := [column for column in columns if column not in COLUMNS]:
        raise InputError(f"{path} has a column {unknown[0]!r} that is not known; the columns are {', '.join(COLUMNS)}.")
    if repeated := [column for column in columns if columns.count(column) > 1]:
        raise InputError(f"{path} has the column {repeated[0]} twice; take one away.")
    if not lines:
        raise InputError(f"{path} has no row; give a line of column names and one line for each video.")
    rows = []
    for number, cells in enumerate(lines, start=1):
        if None in cells:
            raise InputError(f"Row {number} of {path} has more cells than there are columns; quote what holds a comma.")
        given = {column: cell.strip() for column, cell in cells.items() if cell is not None and cell.strip()}
        name = given.pop(_NAME, f"row-{number:06d}")
        values = {column: _value(column, cell, f"Row {number} of {path}", path.parent) for column, cell in given.items()}
        rows.append(Row(number, name, replace(defaults, **{"seed": defaults.seed + number - 1, **values})))
    return rows


def check_row(row: Row, generator: VideoGenerator, table: Path) -> None:
    """Raise `InputError`, naming the row, for files that are not there or conditions that the generator does not take."""
    try:
        check_input(row.case.ecg)
        check_input(row.case.image)
        generator.check(row.case.conditions())
        if row.case.size == "native":
            raise InputError("Videos of a table have the size of their masks; leave the size native out.")
        row.case.sampling()
    except InputError as error:
        raise InputError(f"Row {row.number} of {table}: {error}") from error


def _value(column: str, cell: str, where: str, folder: Path) -> Any:
    """Value of a cell. Raises `InputError` for a text that does not fit the column."""
    if column in ("ecg", "image"):
        return folder / cell
    if column in ("text", "ecg_unit"):
        return cell
    words: dict[str, dict[str, Any]] = {
        "view": {view: view for view in get_args(View)},
        "sex": {sex: sex for sex in get_args(Sex)},
        "texture": {texture: texture for texture in get_args(Texture)},
        "from_phase": {phase: phase for phase in get_args(FromPhase)},
        "size": {size: size for size in get_args(Size)},
        "allow_flat": _YES_NO,
    }
    if column in words:
        if cell not in words[column]:
            raise InputError(f"{where} has {cell!r} for {column}, which must be one of {', '.join(words[column])}.")
        return words[column][cell]
    low, high, kind = _RANGES[column]
    try:
        value = kind(cell)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        what = "a whole number" if kind is int else "a number"
        raise InputError(f"{where} has {cell!r} for {column}, which must be {what} from {low:g} to {high:g}.")
    return value


#: Lowest value, highest value and type of a column of numbers.
_RANGES: dict[str, tuple[float, float, type[int] | type[float]]] = {
    "ef": (0.1, 99.9, float),
    "ecg_start": (0.0, 30 * 86400.0, float),
    "seconds": (0.01, 86400.0, float),
    "fps": (1.0, FASTEST_FPS, float),
    "ecg_rate": (1.0, 1e6, float),
    "guidance": (0.0, 20.0, float),
    "steps": (1, 1000, int),
    "seed": (0, 2**63 - 1, int),
}


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Options of a case for the plan, with file names in place of paths, so that the folder may be moved."""
    return {name: value.name if isinstance(value, Path) else value for name, value in values.items()}

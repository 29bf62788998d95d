"""`echogen measure FOLDER --csv FILE`: every video below a folder, one row each, going on where a stopped run ended."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from echogen.commands.common import check_folder, progress_bar
from echogen.errors import InputError

if TYPE_CHECKING:
    from echogen.measurement.video import VideoReading

#: Columns before those of the numbers.
FIRST = ("file", "error", "ef_percent", "ef_regressor_percent", "heart_rate_bpm", "beats", "pictures", "view", "quality")
#: Suffixes of files that count as videos even where their content is damaged.
VIDEO_SUFFIXES = (".dcm", ".mp4", ".avi", ".mkv", ".gif")


def measure_folder(folder: Path, table: Path, fps: float | None, network: str, generated: bool | None = None) -> None:
    """Measure all videos below a folder into a table, a row as soon as a video is measured.

    folder: Looked through with its subfolders, for every file that looks like pictures by its content.
    table: CSV file; files that have a row in it are left out, so that a stopped run goes on. A file that cannot be measured gets
    a row with the sentence that says why.
    fps: Frames per second of all videos, instead of what their files say. network: Shipped network that outlines.
    generated: True where all pictures are, though their files do not say so.
    Raises `InputError` for a folder without videos, and for a table with other columns.
    """
    from echogen.measurement.numbers import UNITS

    check_folder(table.parent if str(table.parent) else Path())
    columns = [*FIRST, *UNITS, *(f"{name}_within" for name in UNITS), "notes"]
    done = _done(table, columns)
    files = _videos(folder)
    if not files:
        raise InputError(f"There is no echo video in {folder}; name a folder that holds some.")
    left = [path for path in files if str(path.relative_to(folder)) not in done]
    failed = 0
    with table.open("a", newline="", encoding="utf-8") as file, progress_bar("measuring") as progress:
        writer = csv.DictWriter(file, columns, restval="")
        if not done and table.stat().st_size == 0:
            writer.writeheader()
        for count, path in enumerate(left, start=1):
            row = _row(path, fps, network, generated)
            failed += "error" in row
            writer.writerow(row | {"file": str(path.relative_to(folder))})
            file.flush()
            progress(count, len(left))
    typer.echo(f"{len(left)} measured, {failed} of them with an error; {len(files) - len(left)} were in {table} already.")


def _videos(folder: Path) -> list[Path]:
    """Files below a folder that hold pictures, by their content, in the order of their names; hidden ones are left out."""
    from echogen.cine.reading import holds_pictures

    found = []
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        # A damaged video gets its row, too, with the sentence that says so.
        if path.is_file() and not hidden and (path.suffix.lower() in VIDEO_SUFFIXES or holds_pictures(path)):
            found.append(path)
    return found


def _done(table: Path, columns: list[str]) -> set[str]:
    """Files that have a row already. Raises `InputError` for a table with other columns."""
    if not table.is_file() or table.stat().st_size == 0:
        return set()
    try:
        with table.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if list(reader.fieldnames or ()) != columns:
                raise InputError(f"{table} has other columns than this command writes; name another file.")
            return {row["file"] for row in reader}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{table} cannot be read as a table; name another file.") from error


def _row(path: Path, fps: float | None, network: str, generated: bool | None) -> dict[str, object]:
    """Cells of a video, or the sentence why it has none."""
    from echogen.measurement.video import measure

    try:
        return _cells(measure(path, fps=fps, network=network, generated=generated))
    except InputError as error:
        return {"error": str(error)}


def _cells(reading: VideoReading) -> dict[str, object]:
    cells: dict[str, object] = {
        "ef_percent": _rounded(reading.ef_percent),
        "ef_regressor_percent": _rounded(reading.ef_regressor_percent),
        "heart_rate_bpm": _rounded(reading.heart_rate_bpm),
        "beats": len(reading.beats),
        "view": "" if reading.seen is None else reading.seen.view,
        "quality": "" if reading.seen is None else reading.seen.quality,
        "pictures": reading.measuring_error.get("pictures", ""),
        "notes": " ".join(reading.notes),
    }
    for name, number in reading.numbers.items():
        cells |= {name: _rounded(number.value), f"{name}_within": _rounded(number.within)}
    return cells


def _rounded(value: float | None) -> float | str:
    return "" if value is None else round(value, 2)

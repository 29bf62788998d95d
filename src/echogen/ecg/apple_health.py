"""Apple Health exports: the zip, its folder or its `export.xml`, with one Apple Watch CSV per ECG in `electrocardiograms`.

`export.xml` itself holds no ECG and may be huge, so nothing but its first bytes is read.
"""

from __future__ import annotations

import logging
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import cast

from echogen.ecg.apple import apple_layout
from echogen.ecg.source import Source
from echogen.ecg.text import text_encoding
from echogen.ecg.text_source import open_text
from echogen.errors import InputError

FOLDER = "electrocardiograms"
_MAXIMUM_RECORDINGS = 10_000
_MAXIMUM_BYTES = 20_000_000
_HEAD_BYTES = 4096
_RECORDED = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d")
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Recording:
    """One CSV: its name, where it is (a file or a member of the zip), and when it was recorded, as text that sorts."""

    name: str
    place: Path
    recorded: str


def _folder(path: Path) -> Path | None:
    """The folder of ECGs that a folder of an export holds or is."""
    if path.name == FOLDER and next(path.glob("*.csv"), None):
        return path
    found = [path / FOLDER, *sorted(path.glob(f"*/{FOLDER}"))[:1]]
    return next((folder for folder in found if folder.is_dir()), None)


def _members(archive: zipfile.ZipFile) -> list[str]:
    names = (name for name in archive.namelist() if name.lower().endswith(".csv"))
    return [name for name in names if PurePosixPath(name).parent.name == FOLDER]


def is_apple_health(path: Path, start: bytes) -> bool:
    """Tell whether a path is an Apple Health export: its folder, its zip, or the XML file in it."""
    if path.is_dir():
        return _folder(path) is not None
    if start[:4] == b"PK\x03\x04":
        try:
            with zipfile.ZipFile(path) as archive:
                return bool(_members(archive))
        except (OSError, ValueError, zipfile.BadZipFile):
            return False
    return re.search(rb"<!DOCTYPE\s+HealthData\b|<HealthData\b", start) is not None


def _recording(name: str, place: Path) -> _Recording:
    """A recording with its date: what its header says, else the date in its name."""
    with place.open("rb") as file:
        head = file.read(_HEAD_BYTES).decode("utf-8", errors="replace")
    found = _RECORDED.search(head) or re.search(r"\d{4}-\d\d-\d\d", name)
    return _Recording(name, place, found[0].replace("T", " ") if found else "")


def _choose(recordings: list[_Recording], record: str | None, where: str) -> _Recording:
    """The recording asked for by its file name, with or without suffix, or else the newest."""
    if not recordings:
        raise InputError(f"{where} holds no ECG: there is no CSV in a folder {FOLDER!r}.")
    if len(recordings) > _MAXIMUM_RECORDINGS:
        raise InputError(f"{where} holds more than {_MAXIMUM_RECORDINGS} ECGs; give one of its CSV files.")
    if record is None:
        newest = max(recordings, key=lambda one: (one.recorded, one.name))
        if len(recordings) > 1:
            _logger.info("%s: %s is read, the newest of its %d ECGs.", where, newest.name, len(recordings))
        return newest
    chosen = next((one for one in recordings if record in (one.name, Path(one.name).stem)), None)
    if chosen is None:
        some = ", ".join(sorted(one.name for one in recordings)[-3:])
        raise InputError(f"{where} holds no ECG {record!r}; the last of its {len(recordings)} are {some}.")
    return chosen


def _source(chosen: _Recording, mv_of_unit: float | None, rate_hz: float | None) -> Source:
    """The chosen CSV, read whole: half a minute of one lead."""
    with chosen.place.open("rb") as file:
        content = file.read(_MAXIMUM_BYTES + 1)
    encoding = text_encoding(content[:_HEAD_BYTES])
    layout = apple_layout(content[:200_000].decode(encoding, errors="replace").splitlines()[:400], encoding) if encoding else None
    if layout is None or len(content) > _MAXIMUM_BYTES:
        raise InputError(f"{chosen.name} in the Apple Health export is damaged or no ECG; choose another with record.")
    found = open_text(chosen.place, layout, mv_of_unit, rate_hz)
    signal = found.read(0, found.samples)
    return Source(
        "Apple Health",
        found.lead_names,
        found.rate_hz,
        found.samples,
        lambda first, last: signal[:, first:last],
        chosen.name,
        found.rate_source,
        found.unit_source,
        found.notes,
    )


def open_apple_health(path: Path, mv_of_unit: float | None, rate_hz: float | None, record: str | None) -> Source:
    """Open one ECG of an export: `record` names its CSV, with or without suffix; without it, the newest is read.

    Raises `InputError` for an export without ECGs, an unknown one, and one that is damaged.
    """
    where = f"The Apple Health export {path.name}"
    if not path.is_dir() and zipfile.is_zipfile(path):
        return _from_zip(path, where, lambda found: _source(_choose(found, record, where), mv_of_unit, rate_hz))
    folder = _folder(path if path.is_dir() else path.parent)
    files = sorted(folder.glob("*.csv"))[: _MAXIMUM_RECORDINGS + 1] if folder else []
    return _source(_choose([_recording(file.name, file) for file in files], record, where), mv_of_unit, rate_hz)


def _from_zip(path: Path, where: str, use: Callable[[list[_Recording]], Source]) -> Source:
    try:
        with zipfile.ZipFile(path) as archive:
            members = _members(archive)[: _MAXIMUM_RECORDINGS + 1]
            # A member of a zip opens, reads and is named as a file does.
            places = [cast(Path, zipfile.Path(archive, name)) for name in members]
            return use([_recording(place.name, place) for place in places])
    except InputError:
        raise
    except Exception as error:  # damaged archives raise many kinds
        raise InputError(f"{where} cannot be read; the archive is cut short, encrypted or damaged.") from error

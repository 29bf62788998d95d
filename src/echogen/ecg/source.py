"""An opened ECG file of any format, of which any part can be read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from echogen.arrays import Floats


@dataclass(frozen=True)
class Source:
    """An opened ECG file.

    format: its name for people. lead_names: canonical. rate_hz, samples: of every lead.
    read(first, last): (leads, last - first) float64 in mV of that part only, nan where the file has no value.
    record: which one of its recordings, where the file holds several.
    rate_source: "file" where it is stated there, "time stamps", "format" where all such files have it, or "given" by the user.
    unit_source: "file", "format", "given", or "assumed" where nothing states it and mV is taken, or what the notes say.
    notes: sentences on what was guessed or left out.
    """

    format: str
    lead_names: tuple[str, ...]
    rate_hz: float
    samples: int
    read: Callable[[int, int], Floats]
    record: str | None = None
    rate_source: str = "file"
    unit_source: str = "file"
    notes: tuple[str, ...] = ()


def split_record(path: Path) -> tuple[Path, str | None]:
    """The file and the recording that `FILE#RECORD` means; a file whose own name has a `#` is taken as it is."""
    name, mark, record = str(path).rpartition("#")
    return (Path(name), record) if mark and record and not path.exists() and Path(name).exists() else (path, None)

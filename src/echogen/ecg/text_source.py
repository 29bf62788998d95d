"""Opens ECGs in text of a known layout: a file, or lines that were made of a sheet."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path

import numpy as np

from echogen.arrays import Floats
from echogen.ecg.source import Source
from echogen.ecg.stamps import on_clock
from echogen.ecg.text import TextLayout, data_lines, read_values
from echogen.ecg.text_clock import table_clock


def open_text(path: Path, layout: TextLayout, mv_of_unit: float | None, rate_hz: float | None) -> Source:
    """Open a text file of a known layout; without a stated unit its own counts, else mV."""
    return open_lines(lambda: data_lines(path, layout), layout, f"The text file {path.name}", path.name, mv_of_unit, rate_hz)


def open_lines(
    lines: Callable[[], Iterable[str]],
    layout: TextLayout,
    where: str,
    name: str,
    mv_of_unit: float | None,
    rate_hz: float | None,
) -> Source:
    """Open lines of a known layout, on the clock of their time stamps where they have any.

    lines: begins anew at the first sample with each call. where, name: the file, for sentences. Raises `InputError` without a
    rate, for several, and where rate and stamps contradict each other.
    """
    rows, last = 0, ""
    for line in lines():
        rows, last = rows + 1, line
    clock, rate, source, notes = table_clock(lines, layout, rows, last, rate_hz, where)
    scale = np.array([mv_of_unit or own or 1.0 for own in layout.mv])[:, None]
    zeros = np.array(layout.zeros or (0.0,) * len(scale))[:, None]

    def read(first: int, last: int) -> Floats:
        part = list(islice(lines(), first, last))
        return (read_values(part, layout, name, first) - zeros) * scale

    return Source(
        layout.format,
        layout.lead_names,
        rate,
        clock.samples if clock else rows,
        on_clock(clock, len(scale), read) if clock else read,
        rate_source=source,
        unit_source="assumed" if any(own is None for own in layout.mv) else "file",
        notes=(*layout.notes, *notes),
    )

"""LabChart's export as a MATLAB file: one vector with the samples of all channels and blocks, and tables of where each lies.

ADInstruments, "LabChart: Export as MATLAB": `data`; `datastart`, `dataend`, `samplerate`, `unittextmap` (channels x blocks);
`titles`, `unittext` (rows of text); `blocktimes` (days, one a block); `scaleunits`, `scaleoffset` where samples are 16 bits.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from echogen.arrays import Floats
from echogen.ecg.leads import pick_voltages
from echogen.ecg.source import Source
from echogen.ecg.stamps import check_gaps
from echogen.ecg.traces import check_size
from echogen.errors import InputError

_SECONDS_PER_DAY = 86_400.0
_NEEDED = ("data", "datastart", "dataend", "samplerate")


def is_labchart(arrays: dict[str, Any], texts: dict[str, list[str]]) -> bool:
    """Tell whether variables are those of LabChart's export."""
    return all(name in arrays for name in _NEEDED) and "titles" in texts


def _table(arrays: dict[str, Any], name: str, shape: tuple[int, int], where: str) -> Floats:
    """A table of (channels, blocks), also where one value stands for all of them."""
    try:
        return np.broadcast_to(np.asarray(arrays[name], dtype=np.float64), shape)
    except ValueError as error:
        raise InputError(f"{where} is damaged: its table {name} does not fit its channels; export it anew.") from error


def _starts(arrays: dict[str, Any], blocks: int, lengths: list[int], rate_hz: float, where: str) -> list[int]:
    """First sample of each block on the clock of the first: by `blocktimes`, else one after the other."""
    times = np.ravel(np.asarray(arrays.get("blocktimes", np.nan), dtype=np.float64))
    if len(times) != blocks or not np.isfinite(times).all():
        return [0, *np.cumsum(lengths[:-1]).tolist()] if blocks > 1 else [0]
    starts, end = [], 0
    for at, length in zip((times - times[0]) * _SECONDS_PER_DAY * rate_hz, lengths, strict=True):
        if at < end - 0.01 * rate_hz:
            raise InputError(f"{where} has blocks that overlap in time; save them as files of their own.")
        starts.append(max(round(float(at)), end))
        end = starts[-1] + length
        check_gaps(end, sum(lengths), rate_hz, where)
    return starts


def open_labchart(
    arrays: dict[str, Any], texts: dict[str, list[str]], where: str, mv_of_unit: float | None, rate_hz: float | None
) -> Source:
    """ECG channels of a LabChart export, its blocks on one clock with gaps between them.

    Raises `InputError` where no channel is an ECG, and for tables that do not fit each other.
    """
    titles = texts["titles"]
    starts = np.atleast_2d(np.asarray(arrays["datastart"], dtype=np.float64))
    shape = (len(titles), starts.shape[1])
    first, last, rates = (_table(arrays, name, shape, where) for name in ("datastart", "dataend", "samplerate"))
    values = np.ravel(np.asarray(arrays["data"]))
    there = first >= 1
    if not ((first[there] <= last[there]) & (last[there] <= len(values))).all() or not np.isfinite(rates).all():
        raise InputError(f"{where} is cut short or damaged: its channels do not lie within its data; export it anew.")
    places = _table(arrays, "unittextmap", shape, where)[:, 0] if "unittextmap" in arrays else np.arange(1.0, len(titles) + 1)
    words = texts.get("unittext", [])
    units = [words[int(place) - 1] if 1 <= place <= len(words) else "" for place in places]
    chosen, names, scale, notes = pick_voltages(titles, [unit or "mV" for unit in units], mv_of_unit, where)
    pairs = [(row, name, factor) for row, name, factor in zip(chosen, names, scale, strict=True) if there[row].any()]
    if not pairs:
        raise InputError(f"{where} has no samples in its ECG channels.")
    # The rate that most leads have, the higher one in a tie.
    own_rates = {row: sorted(set(rates[row, there[row]].tolist())) for row, _, _ in pairs}
    if any(len(found) > 1 for found in own_rates.values()):
        raise InputError(f"{where} has blocks of different sampling rates; save them as files of their own.")
    rate = max(Counter(found[0] for found in own_rates.values()).items(), key=lambda item: (item[1], item[0]))[0]
    others = [name for row, name, _ in pairs if own_rates[row][0] != rate]
    pairs = [pair for pair in pairs if own_rates[pair[0]][0] == rate]
    if rate <= 0:
        raise InputError(f"{where} does not state its sampling rate; give it as rate_hz (--ecg-rate).")
    if others:
        notes = (*notes, f"Left out, since they have another sampling rate: {', '.join(others)}.")
    unstated = any(not units[row] for row, _, _ in pairs) and mv_of_unit is None
    if unstated:
        notes = (*notes, "The unit is not stated and is taken for mV.")
    sizes = np.where(there, last - first + 1, 0).astype(np.int64)
    rows = [row for row, _, _ in pairs]
    lengths = sizes[rows].max(axis=0).tolist()
    begins = _starts(arrays, shape[1], lengths, rate, where)
    samples = begins[-1] + lengths[-1]
    check_size(len(pairs), samples, where)
    signal = np.full((len(pairs), samples), np.nan)
    factors = _table(arrays, "scaleunits", shape, where) if "scaleunits" in arrays else np.ones(shape)
    zeros = _table(arrays, "scaleoffset", shape, where) if "scaleoffset" in arrays else np.zeros(shape)
    for out, (row, _, factor) in zip(signal, pairs, strict=True):
        for block, begin in enumerate(begins):
            size = int(sizes[row, block])
            stored = values[int(first[row, block]) - 1 :][:size].astype(np.float64) if size else np.empty(0)
            out[begin : begin + size] = (stored + zeros[row, block]) * factors[row, block] * factor
    return Source(
        "LabChart MATLAB",
        tuple(name for _, name, _ in pairs),
        float(rate_hz or rate),
        samples,
        lambda low, high: signal[:, low:high],
        unit_source="assumed" if unstated else "file",
        notes=notes,
    )

"""Recordings whose leads are decoded one by one: put on one clock, named, and completed to twelve leads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from echogen.arrays import Floats
from echogen.ecg.leads import STANDARD_LEADS, lead_names, pick_leads
from echogen.ecg.source import Source
from echogen.errors import InputError

MAXIMUM_TRACES = 10_000
MAXIMUM_SAMPLES = 20_000_000


@dataclass(frozen=True)
class Trace:
    """A piece of one lead: its label in the file, the sample it starts at on the recording's clock, values (samples,) in mV."""

    label: str
    first: int
    values: Floats


def check_size(leads: int, samples: int, where: str) -> None:
    """Raise `InputError` if so many leads of so many samples are beyond what is held in memory."""
    if leads > MAXIMUM_TRACES or leads * samples > MAXIMUM_SAMPLES:
        raise InputError(f"{where} is too long to be read whole, or damaged; export a shorter part, or save it as EDF or WFDB.")


def undo_differences(values: NDArray[np.int64], order: int) -> NDArray[np.int64]:
    """Samples from their first or second differences; the first `order` (0, 1 or 2) entries are samples themselves."""
    if order == 1:
        return np.cumsum(values)
    if order == 2 and len(values) > 2:
        slopes = np.cumsum(np.concatenate([values[1:2] - values[:1], values[2:]]))
        return np.concatenate([values[:1], values[0] + np.cumsum(slopes)])
    return values


def add_limb_leads(names: Sequence[str], table: Floats) -> tuple[tuple[str, ...], Floats]:
    """Complete a chest-lead ECG that stores I and II to twelve leads, in the standard order; others stay as they are.

    table: (leads, samples). III = II - I (Einthoven), aVR = -(I + II) / 2, aVL = I - II / 2, aVF = II - I / 2 (Goldberger).
    """
    own = {name: row for name, row in zip(names, table, strict=True)}
    if not {"I", "II", "V1", "V2", "V3", "V4", "V5", "V6"} <= own.keys() or set(STANDARD_LEADS) <= own.keys():
        return tuple(names), table
    one, two = own["I"], own["II"]
    derived = {"III": two - one, "aVR": -(one + two) / 2, "aVL": one - two / 2, "aVF": two - one / 2}
    order = (*STANDARD_LEADS, *(name for name in names if name not in STANDARD_LEADS))
    return order, np.stack([own[name] if name in own else derived[name] for name in order])


def source_of_traces(format_name: str, where: str, traces: Sequence[Trace], rate_hz: float) -> Source:
    """A `Source` of the ECG leads among the traces, from the first sample of any to the last; nan where a lead has none.

    Traces of one lead are joined; missing limb leads are derived where I, II and the chest leads are there.
    `where` names the file in the sentence of an `InputError`: no ECG lead, or too long.
    """
    known = [name is not None for name in lead_names([trace.label for trace in traces])]
    kept = [trace for trace, ecg in zip(traces, known, strict=True) if ecg] if any(known) else list(traces)
    kept = [trace for trace in kept if len(trace.values)]
    labels = list(dict.fromkeys(trace.label for trace in kept))
    chosen, names = pick_leads(labels, where)
    rows = {labels[index]: row for row, index in enumerate(chosen)}
    kept = [trace for trace in kept if trace.label in rows]
    start = min(trace.first for trace in kept)
    samples = max(trace.first + len(trace.values) for trace in kept) - start
    check_size(len(rows) + 4, samples, where)
    table = np.full((len(rows), samples), np.nan)
    for trace in kept:
        table[rows[trace.label], trace.first - start : trace.first - start + len(trace.values)] = trace.values
    names, table = add_limb_leads(names, table)
    return Source(format_name, names, rate_hz, samples, lambda first, last: table[:, first:last])

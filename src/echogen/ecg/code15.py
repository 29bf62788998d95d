"""CODE-15% (Ribeiro et al., Zenodo 4916206) in HDF5: thousands of 12-lead exams in a file, each chosen by its exam id.

`tracings` is (exams, 4096, 12) at 400 Hz in mV, exams of 7 and 10 s between zeros; `exam_id` is (exams,). Where `exam_id` is
missing, as in the test set of the same authors, an exam is chosen by its row, from 0.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from echogen.arrays import Floats
from echogen.ecg.hdf5 import numbers, opened
from echogen.ecg.leads import STANDARD_LEADS
from echogen.ecg.source import Source
from echogen.errors import InputError

RATE_HZ = 400.0
_SCALE_NOTE = "The scale of CODE-15% is unsettled: taken for mV, as its authors say, its ECGs may be about twice too large."
_MAXIMUM_SAMPLES = 1_000_000
_MAXIMUM_EXAMS = 5_000_000


def trim_zeros(signal: Floats) -> Floats:
    """A (leads, samples) signal without the samples at either end where every lead is exactly zero."""
    there = np.flatnonzero(signal.any(axis=0))
    return signal[:, there[0] : there[-1] + 1] if there.size else signal[:, :0]


def _chosen(ids: list[int], record: str | None, where: str) -> int:
    """The exam id that `record` means, among all that a file holds."""
    if not ids:
        raise InputError(f"{where} holds no exam.")
    if record is None and len(ids) == 1:
        return ids[0]
    some = ", ".join(map(str, ids[:3])) + (" ..." if len(ids) > 3 else "")
    if record is None:
        raise InputError(f"{where} holds {len(ids)} exams ({some}); choose one with record or as FILE#ID.")
    wanted = int(record) if record.isascii() and record.isdigit() and len(record) < 20 else None
    if wanted not in ids:
        raise InputError(f"{where} holds no exam {record!r}; its {len(ids)} exams are {some}.")
    return wanted


def open_code15(path: Path, mv_of_unit: float | None, rate_hz: float | None, record: str | None) -> Source:
    """Open one exam of a file of CODE-15%'s layout; `record` is its exam id, which a file of one exam does not need.

    Raises `InputError` for another layout, an unknown exam, an exam of zeros only, and what `hdf5.numbers` refuses.
    """
    where = f"The HDF5 file {path.name}"
    with opened(path, where) as file:
        tracings, exam_ids = numbers(file, "tracings", where), numbers(file, "exam_id", where)
        if tracings is None or tracings.ndim != 3 or tracings.shape[2] != 12 or not tracings.shape[0]:
            raise InputError(f"{where} holds no array 'tracings' of (exams, samples, 12 leads) as CODE-15% does.")
        count, samples, _ = tracings.shape
        if samples > _MAXIMUM_SAMPLES or count > _MAXIMUM_EXAMS or (exam_ids is not None and exam_ids.shape != (count,)):
            raise InputError(f"{where} is damaged: its exams and their ids do not fit together.")
        # An id of 0 marks the empty row at the end of each part.
        listed = range(count) if exam_ids is None else [int(one) for one in exam_ids[:]]
        known = {one: row for row, one in enumerate(listed) if one or exam_ids is None}
        exam = _chosen(list(known), record, where)
        signal = trim_zeros(np.asarray(tracings[known[exam]], dtype=np.float64).T)
    if signal.shape[1] < 2:
        raise InputError(f"Exam {exam} of {path.name} holds only zeros; choose another.")
    scaled = signal * (mv_of_unit or 1.0)
    return Source(
        "CODE-15",
        STANDARD_LEADS,
        float(rate_hz or RATE_HZ),
        signal.shape[1],
        lambda first, last: scaled[:, first:last],
        str(exam),
        rate_source="format",
        unit_source="assumed",
        notes=(_SCALE_NOTE,),
    )

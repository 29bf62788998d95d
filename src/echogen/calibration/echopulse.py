"""Videos by which ECHOPulse is calibrated: their EF for each EF given, and the times of their ES."""

from __future__ import annotations

from functools import lru_cache

from echogen.arrays import Floats
from echogen.calibration.fit import FIRST_SEED, GIVEN_PERCENT
from echogen.datasets.held_out import held_out
from echogen.ecg import find_landmarks
from echogen.generators.base import Generator
from echogen.measurement.plain_values import expected_es_s, measured_ef_percent, measured_es_s

#: Length in s of a video whose EF is measured: a whole beat at 40 bpm.
EF_SECONDS = 2.0
#: Seconds of heart behind such a video, which begins at the first end-diastole.
EF_HEART_S = 4.0
#: Length in s of a video whose end-systoles are timed.
ES_SECONDS = 6.0
#: Hearts whose end-systoles are timed have seeds from here on.
FIRST_ES_SEED = FIRST_SEED + 100


@lru_cache(maxsize=1)
def _generator(folder: str) -> Generator:
    return Generator.from_pretrained(folder)


def measured_efs(folder: str, index: int) -> list[float]:
    """EF in % of the videos of heart number `index`, one for each EF given; nan where it cannot be measured.

    Every other heart is shown by its first end-diastolic frame.
    """
    generator, case = _generator(folder), held_out(FIRST_SEED + index, EF_HEART_S)
    image, start_s = case.first_ed_frame()
    shown = image if index % 2 else None
    return [
        measured_ef_percent(
            generator(
                case.ecg,
                start_s=start_s,
                ef_percent=ef_percent,
                seconds=EF_SECONDS,
                view=case.cine.view,
                seed=case.seed,
                reference=shown,
            )
        )
        for ef_percent in GIVEN_PERCENT
    ]


def es_times(folder: str, index: int) -> tuple[Floats, Floats]:
    """ES in s measured in a video of heart number `index` without an EF, and the ES that its ECG lets expect."""
    case = held_out(FIRST_ES_SEED + index, ES_SECONDS)
    cine = _generator(folder)(case.ecg, seconds=ES_SECONDS, seed=case.seed)
    return measured_es_s(cine), expected_es_s(find_landmarks(case.ecg), cine)

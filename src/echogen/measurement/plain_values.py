"""EF and ES times of a video as plain numbers, by the shipped segmenter."""

from __future__ import annotations

import numpy as np

from echogen.arrays import Floats
from echogen.errors import InputError
from echogen.measurement.matching import QrsLandmarks, expected_clock, within_video
from echogen.measurement.reading import measure
from echogen.measurement.shipped import load_segmenter
from echogen.records import Cine


def measured_ef_percent(cine: Cine) -> float:
    """EF of a video in %; nan where no left ventricle or no whole beat can be measured."""
    try:
        found = measure(cine, load_segmenter()).ef_percent
    except InputError:
        return float("nan")
    return float("nan") if found is None else found


def measured_es_s(cine: Cine) -> Floats:
    """Times (beats,) in s of the end-systoles that are measured in a video; empty where no left ventricle can be measured."""
    try:
        beats = measure(cine, load_segmenter()).beats
    except InputError:
        return np.zeros(0)
    return np.array([beat.es_s for beat in beats], dtype=np.float64)


def expected_es_s(landmarks: QrsLandmarks, cine: Cine) -> Floats:
    """Times (beats,) in s of the end-systoles that an ECG lets expect within a video, by the clock of a healthy heart."""
    clock = expected_clock(landmarks)
    return clock.avc_s[within_video(clock, float(cine.times_s[0]), float(cine.times_s[-1]))]

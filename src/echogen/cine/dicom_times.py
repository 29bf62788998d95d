"""Frame times of a DICOM cine: of the field that its increment pointer names, unless that makes no sense."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from echogen.cine.timing import is_plausible, steady_times, usual_interval
from echogen.records import SecondsArray

_MS_PER_S = 1000.0
#: Fields of a DICOM cine that state its times (PS3.3 C.7.6.5 and C.7.6.6), the most exact first.
_VECTOR, _STEP = "FrameTimeVector", "FrameTime"
_RATES = ("CineRate", "RecommendedDisplayFrameRate")
_DURATION = "ActualFrameDuration"
#: Rates that differ by more than this share are said to disagree.
_DISAGREE = 0.05
#: Rates that are multiples of this many Hz (25, 30, 50, 60) are taken for exact.
_ROUND_HZ = 5.0


def frame_times(dataset: Any, count: int, fps: float | None) -> tuple[SecondsArray | None, tuple[str, ...]]:
    """Times (count,) in s from 0 s on, and notes; None where the dataset states none.

    fps: in Hz, instead of what the dataset states. FrameIncrementPointer says which field counts; without it the order is
    FrameTimeVector, FrameTime, CineRate, RecommendedDisplayFrameRate, ActualFrameDuration. A field whose rate no echocardiogram
    has gives way to a later one, with a note; if there is none, its times come back for the caller to refuse.
    """
    if count == 1:
        return np.zeros(1), ()
    if fps is not None:
        return np.arange(count) / fps, ()
    stated = _stated(dataset, count)
    if not stated:
        return None, ()
    pointed = [field for field in _pointed(dataset) if field in stated]
    order = [*pointed, *(field for field in stated if field not in pointed)]
    chosen = next((field for field in order if is_plausible(stated[field])), order[0])
    notes: tuple[str, ...] = ()
    if chosen != order[0]:
        wrong = f"{order[0]} states {_rate(stated[order[0]]):.4g} frames/s, which no echocardiogram has"
        notes = (f"{wrong}; {_said(chosen, stated)}.",)
    elif not pointed and (other := _disagreeing(chosen, stated)):
        notes = (f"{other} states {_rate(stated[other]):.4g} frames/s, {_said(chosen, stated)}; --fps sets another rate.",)
    return stated[chosen], notes


def _said(chosen: str, stated: dict[str, SecondsArray]) -> str:
    """A clause that names the field whose times were taken, and its rate."""
    return f"{chosen} was taken, which states {_rate(stated[chosen]):.4g}"


def _rate(times_s: SecondsArray) -> float:
    """Frames per second: the inverse of the median interval."""
    return 1.0 / usual_interval(times_s)


def _disagreeing(chosen: str, stated: dict[str, SecondsArray]) -> str | None:
    """The first exact field whose rate is another than that of the chosen one; display rates may differ."""
    others = (field for field in (_VECTOR, _STEP) if field in stated and field != chosen)
    return next((field for field in others if abs(_rate(stated[field]) / _rate(stated[chosen]) - 1.0) > _DISAGREE), None)


def _pointed(dataset: Any) -> list[str]:
    """Keywords of the fields that FrameIncrementPointer names."""
    from pydicom.datadict import keyword_for_tag

    pointer = dataset.get("FrameIncrementPointer")
    if pointer is None:
        return []
    tags = pointer if isinstance(pointer, list | tuple) or hasattr(pointer, "append") else [pointer]
    return [keyword_for_tag(int(tag)) for tag in tags]


def _stated(dataset: Any, count: int) -> dict[str, SecondsArray]:
    """The times (count,) in s by each field that states them."""
    rates = {field: rate for field in _RATES if (rate := _number(dataset, field))}
    found: dict[str, SecondsArray] = {}
    vector = _vector(dataset, count)
    if vector is not None:
        found[_VECTOR] = vector
    numbers = np.arange(count, dtype=np.float64)
    if step := _number(dataset, _STEP):
        found[_STEP] = numbers * _unrounded(step, list(rates.values())) / _MS_PER_S
    found |= {field: numbers / rate for field, rate in rates.items()}
    if not found and (duration := _number(dataset, _DURATION)):
        found[_DURATION] = numbers * duration / _MS_PER_S
    return found


def _unrounded(step_ms: float, rates_hz: list[float]) -> float:
    """A frame time in ms; of a whole number, the exact time of a stated rate that rounds to it (17 ms at 60 Hz are 16.667).

    Only round rates count, since CineRate is a whole number, too: 33 may stand for 33.3 as well.
    """
    if step_ms != round(step_ms):
        return step_ms
    round_rates = (rate for rate in rates_hz if rate % _ROUND_HZ == 0)
    return next((_MS_PER_S / rate for rate in round_rates if round(_MS_PER_S / rate) == step_ms), step_ms)


def _vector(dataset: Any, count: int) -> SecondsArray | None:
    """The times of FrameTimeVector, which holds an increment for every frame or for all but the first."""
    vector = dataset.get(_VECTOR) if _VECTOR in dataset else None
    if vector is None or not hasattr(vector, "__len__") or len(vector) not in (count, count - 1):
        return None
    steps = np.asarray(vector, dtype=np.float64)[len(vector) - (count - 1) :]
    if not (np.isfinite(steps).all() and (steps > 0).all()):
        return None
    times = np.concatenate([[0.0], np.cumsum(steps)]) / _MS_PER_S
    whole = bool((steps == np.round(steps)).all())
    return steady_times(times, 1.0 / _MS_PER_S) if whole else times


def _number(dataset: Any, keyword: str) -> float:
    """A positive finite number under a keyword, else 0."""
    # pydicom finds out that a keyword is absent faster than it gets one with a default.
    value = float(dataset.get(keyword, 0) or 0) if keyword in dataset else 0.0
    return value if math.isfinite(value) and value > 0 else 0.0

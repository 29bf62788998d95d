"""Measurement of an echo video: its beats, ejection fraction and heart rate, and its agreement with an ECG."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from echogen.arrays import ByteArray, Floats
from echogen.cine.sector import CANONICAL_SIZE, to_sector
from echogen.ecg import find_landmarks
from echogen.errors import InputError
from echogen.measurement.beats import find_beats, smooth_volume
from echogen.measurement.geometry import lv_geometry
from echogen.measurement.matching import QrsLandmarks, TimingReport, expected_clock, timing_report, within_video
from echogen.measurement.segmentation import segment
from echogen.networks.segmenter import Segmenter
from echogen.physiology import area_length_volume_ml
from echogen.records import Beat, Cine, Ecg

SHORTEST_S = 0.7
#: The left ventricle must cover this share of the picture in at least half of the frames.
SMALLEST_VENTRICLE = 0.005


@dataclass(frozen=True)
class Reading:
    """A measured echo video.

    ef_percent: median over the beats of the single-plane area-length EF, None without a whole beat. heart_rate_bpm: 60 / median
    interval between end-systoles, None with fewer than two beats. beats: ED and ES in s on the cine's clock, volumes None where
    the pixel size is unknown. beat_ef_percent: one per beat, known even then. times_s, volume_ml: the smoothed volume curve, its
    volumes None where the pixel size is unknown. timing: against the ECG, None without one. curve: the smoothed volume curve in
    any case, (T,), in ml or, where the pixel size is unknown, in thousands of cubic pixels.
    """

    ef_percent: float | None
    heart_rate_bpm: float | None
    beats: tuple[Beat, ...]
    beat_ef_percent: tuple[float, ...]
    times_s: Floats
    volume_ml: Floats | None
    timing: TimingReport | None = None
    curve: Floats = field(default_factory=lambda: np.zeros(0), repr=False)

    @property
    def matched_fraction(self) -> float | None:
        """Share of the ECG's beats that the video shows at their time; None without an ECG or where it expects no beat."""
        return None if self.timing is None else _known(self.timing.matched_fraction)

    @property
    def es_error_ms(self) -> dict[str, float | None] | None:
        """Video minus expected end-systole in ms over the matched beats: median of |error|, mean, sd; None without an ECG."""
        if self.timing is None:
            return None
        return {
            "median": _known(self.timing.median_abs_ms),
            "mean": _known(self.timing.mean_ms),
            "sd": _known(self.timing.sd_ms),
        }

    @property
    def drift_ms_per_s(self) -> float | None:
        """Slope of the end-systolic error against time; None without an ECG or with fewer than three matched beats."""
        return None if self.timing is None else _known(self.timing.drift_ms_per_s)

    def to_json(self) -> dict[str, Any]:
        """JSON-ready: EF, heart rate, beats and, with an ECG, matched fraction and end-systolic error; missing facts are None."""
        beats: list[dict[str, float | None]] = []
        for beat, ef_percent in zip(self.beats, self.beat_ef_percent, strict=True):
            entry = {"ed_s": beat.ed_s, "es_s": beat.es_s, "edv_ml": beat.edv_ml, "esv_ml": beat.esv_ml, "ef_percent": ef_percent}
            beats.append(entry | ({} if self.timing is None else {"r_s": beat.r_s}))
        document: dict[str, Any] = {"ef_percent": self.ef_percent, "heart_rate_bpm": self.heart_rate_bpm, "beats": beats}
        if self.timing is not None:
            document |= {"matched_fraction": self.matched_fraction, "es_error_ms": self.es_error_ms}
        return document


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def measure(
    cine: Cine, segmenter: Segmenter, ecg: Ecg | None = None, landmarks: QrsLandmarks | None = None, *, sex: str | None = None
) -> Reading:
    """Measure an echo video: segment the left ventricle, follow its volume, find the beats; with an ECG, compare their times.

    cine: apical view of at least 0.7 s; frames that are not 128 x 128 are cropped to their sector first. ecg: on the clock of
    the cine; its landmarks are found, unless they are given. sex: "m", "f" or None, for the expected times.
    Raises `InputError` for a cine that is too short, shows no sector, or shows no left ventricle.
    """
    _refuse_short(cine)
    cine = canonical_cine(cine)
    if landmarks is None and ecg is not None:
        landmarks = find_landmarks(ecg)
    return read_masks(segment(cine.frames, segmenter), cine.times_s, cine.mm_per_pixel, landmarks, sex=sex)


def read_masks(
    masks: ByteArray,
    times_s: Floats,
    mm_per_pixel: float | None = None,
    landmarks: QrsLandmarks | None = None,
    *,
    sex: str | None = None,
) -> Reading:
    """The reading of a video whose chambers are known already.

    masks: (T, H, W) uint8 with the ids of `STRUCTURES`, apex above base. times_s: (T,) in s. mm_per_pixel: None if unknown.
    Raises `InputError` if less than half of the frames show a left ventricle.
    """
    volume = _volume(masks, times_s, mm_per_pixel)
    beats = find_beats(times_s, volume, r_s=None if landmarks is None else landmarks.r_s)
    es_s = np.array([beat.es_s for beat in beats])
    fractions = tuple(float(beat.ef_percent) for beat in beats if beat.ef_percent is not None)
    if mm_per_pixel is None:
        beats = tuple(Beat(beat.ed_s, beat.es_s, r_s=beat.r_s) for beat in beats)
    timing = None
    if landmarks is not None:
        clock = expected_clock(landmarks, sex)
        timing = timing_report(es_s, clock.avc_s[within_video(clock, float(times_s[0]), float(times_s[-1]))])
    return Reading(
        ef_percent=float(np.median(fractions)) if fractions else None,
        heart_rate_bpm=float(60.0 / np.median(np.diff(es_s))) if len(es_s) > 1 else None,
        beats=beats,
        beat_ef_percent=fractions,
        times_s=times_s,
        volume_ml=None if mm_per_pixel is None else smooth_volume(times_s, volume),
        timing=timing,
        curve=smooth_volume(times_s, volume),
    )


def read_extremes(masks: ByteArray, times_s: Floats, mm_per_pixel: float | None = None) -> Reading:
    """The reading of frames that hold no whole beat: the largest volume is taken for ED and the smallest for ES.

    masks: (T, H, W) uint8 with the ids of `STRUCTURES`, apex above base, at least two. times_s: (T,) in s. mm_per_pixel: None if
    unknown. In the one beat of the result ES may lie before ED. Raises `InputError` as `read_masks`, and for a single frame.
    """
    if len(masks) < 2:
        raise InputError("This is a single picture, but an ejection fraction needs at least ED and ES; give a video.")
    volume = _volume(masks, times_s, mm_per_pixel)
    curve = smooth_volume(times_s, volume)
    ed, es = int(np.argmax(curve)), int(np.argmin(curve))
    sized = Beat(float(times_s[ed]), float(times_s[es]), float(curve[ed]), float(curve[es]))
    fraction = sized.ef_percent or 0.0
    beat = sized if mm_per_pixel is not None else Beat(sized.ed_s, sized.es_s)
    return Reading(fraction, None, (beat,), (fraction,), times_s, None if mm_per_pixel is None else curve, curve=curve)


def _volume(masks: ByteArray, times_s: Floats, mm_per_pixel: float | None) -> Floats:
    """(T,) area-length volumes; frames without ventricle are bridged. Raises `InputError` if these are more than half."""
    area_mm2, length_mm = lv_geometry(masks, mm_per_pixel or 1.0)
    seen = area_mm2 >= SMALLEST_VENTRICLE * masks[0].size * (mm_per_pixel or 1.0) ** 2
    if seen.mean() < 0.5:
        raise InputError("No left ventricle can be made out in this video; give an apical four- or two-chamber view.")
    return np.asarray(np.interp(times_s, times_s[seen], area_length_volume_ml(area_mm2, length_mm)[seen]))


def canonical_cine(cine: Cine) -> Cine:
    """The cine in the canonical geometry, 128 x 128, which frames of that size have already.

    Raises `InputError` for a cine that shows no sector.
    """
    if cine.frames.shape[1:] == (CANONICAL_SIZE, CANONICAL_SIZE):
        return cine
    frames, growth = to_sector(cine.frames, CANONICAL_SIZE)
    return replace(cine, frames=frames, mm_per_pixel=None if cine.mm_per_pixel is None else cine.mm_per_pixel * growth)


def _refuse_short(cine: Cine) -> None:
    if cine.duration_s < SHORTEST_S:
        raise InputError(f"This video lasts {cine.duration_s:.2f} s, but at least {SHORTEST_S} s are needed; give a longer one.")

"""Measurement of an echo video in memory or in a file, with the shipped networks: behind `echogen.measure` and its verb."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from echogen.cine import read_cine, to_sector
from echogen.cine.sector import CANONICAL_SIZE
from echogen.cine.writing import ecg_path
from echogen.datasets.drawn_ecg import read_drawn_ecg
from echogen.ecg import ecg_info, read_around_gaps
from echogen.errors import InputError
from echogen.measurement.apical import apical_doubt
from echogen.measurement.reading import Reading, canonical_cine
from echogen.measurement.reading import measure as measure_cine
from echogen.measurement.regression import load_regressor, regressed_ef_percent, regressor_error
from echogen.measurement.shipped import load_segmenter, truth_error
from echogen.measurement.view_check import doppler_in_file, other_view
from echogen.networks.config import load_network
from echogen.networks.ef_regressor import EfRegressor
from echogen.records import Cine, Ecg

#: In place of an ECG: the one that is drawn into the pictures of the video.
DRAWN = "drawn"
#: ECG before the video in s, for the beats from which the first expected times follow.
_BEFORE_S = 8.0
#: ECG after the video in s, so that a beat at its end is seen whole.
_AFTER_S = 1.0


@dataclass(frozen=True)
class VideoReading(Reading):
    """A measured echo video, with a second opinion and the error of measuring.

    ef_regressor_percent: EF in % by a regression network that outlines nothing; None for a video under 1 s.
    measuring_error: error of measuring clips of known truth; keys as of `truth_error`, and ef_regressor_mae_percent.
    notes: sentences on what looks doubtful, such as a picture that does not look like an apical view.
    """

    ef_regressor_percent: float | None = None
    measuring_error: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """JSON-ready: keys as of `Reading.to_json`, ef_regressor_percent, measuring_error and notes."""
        return super().to_json() | {
            "ef_regressor_percent": self.ef_regressor_percent,
            "measuring_error": self.measuring_error,
            "notes": list(self.notes),
        }


def measure(
    video: Cine | str | Path,
    ecg: Ecg | str | Path | None = None,
    *,
    fps: float | None = None,
    ecg_rate_hz: float | None = None,
    ecg_unit: str | None = None,
    regressor: str | Path | None = None,
) -> VideoReading:
    """Measure ejection fraction, beats and times of an echo video; with an ECG, how well the two agree in time.

    video: an apical four- or two-chamber view of at least 0.7 s, as a `Cine` or a file.
    ecg: on the clock of the video, as an `Ecg` or a file; "drawn" is the one in the video's pictures; None is none.
    fps: frames per second, instead of what the video's file says.
    ecg_rate_hz, ecg_unit: sampling rate and unit (mV, uV or V) of the ECG, where its file does not say.
    regressor: folder of another EF regressor, as `echogen import-weights ef-regressor` makes it.
    Returns the reading; EF, heart rate and volumes that cannot be known are None.
    Raises `InputError` for a file that cannot be read, and a video that is too short, shows no sector or no left ventricle, or
    shows colour Doppler or no apical view.

    >>> import echogen
    >>> study = echogen.simulate(seconds=3.0, heart_rate_bpm=75.0, ef_percent=55.0, seed=1)
    >>> reading = echogen.measure(study.cine, study.ecg)
    >>> abs(reading.ef_percent - 55.0) < 10.0, len(reading.beats) >= 2
    (True, True)
    """
    second_opinion = load_network(EfRegressor, Path(regressor)) if regressor else load_regressor()
    path = None if isinstance(video, Cine) else Path(video)
    cine = video if isinstance(video, Cine) else read_cine(video, fps=fps)
    if cine.frames.shape[1:] == (CANONICAL_SIZE, CANONICAL_SIZE):
        to_sector(cine.frames)  # refuses what is no echo; other sizes are cropped anyway
    if ecg == DRAWN:
        recorded: Ecg | None = _drawn_ecg(path, fps)
    elif isinstance(ecg, str | Path):
        recorded = _on_clock_of(cine, path, Path(ecg), ecg_rate_hz, ecg_unit)
    else:
        recorded = ecg
    cine = canonical_cine(cine)
    segmenter = load_segmenter()
    if refusal := (doppler_in_file(path, fps) if path else None) or other_view(cine.frames, segmenter):
        raise InputError(refusal)
    reading = measure_cine(cine, segmenter, recorded)
    doubt = apical_doubt(cine.frames, segmenter)
    error = truth_error() | {"ef_regressor_mae_percent": None if regressor else regressor_error()["ef_mae_percent"]}
    return VideoReading(
        **vars(reading),
        ef_regressor_percent=regressed_ef_percent(cine, second_opinion),
        measuring_error=error,
        notes=(*cine.notes, doubt) if doubt else cine.notes,
    )


def _drawn_ecg(video: Path | None, fps: float | None) -> Ecg:
    """Read the ECG that is drawn into the pictures of a video's file."""
    if video is None:
        raise InputError("A drawn ECG is read from the colours of a video's file; give the file instead of its frames.")
    found = read_drawn_ecg(video, fps=fps)
    if found.ecg is None or not found.accepted:
        raise InputError(f"No ECG can be read from the pictures of {video.name} ({found.reasons[0].rstrip('.')}); give its file.")
    return found.ecg


def _on_clock_of(cine: Cine, video: Path | None, path: Path, rate_hz: float | None, unit: str | None) -> Ecg:
    """Read the part of an ECG file that belongs to a video, on the clock of the video.

    MP4, GIF and AVI begin at 0 s; the JSON that `generate` leaves beside a video tells where in the ECG that was. The ECG that
    it writes beside a DICOM image begins with the video.
    """
    shift = 0.0
    beside = None if video is None else video.with_suffix(".json")
    if video and beside and cine.times_s[0] == 0 and beside.is_file() and path.resolve() != ecg_path(video).resolve():
        try:
            shift = float(json.loads(beside.read_text(encoding="utf-8"))["video_start_s"])
        except (ValueError, KeyError, TypeError):
            shift = 0.0
    start_s = float(cine.times_s[0]) + shift
    length_s = ecg_info(path, rate_hz=rate_hz, unit=unit).duration_s
    if not 0 <= start_s < length_s:
        raise InputError(f"The ECG lasts {length_s:.2f} s, but the video begins at {start_s:.2f} s; give the ECG of this video.")
    first_s = max(0.0, start_s - _BEFORE_S)
    last_s = min(length_s, start_s + cine.duration_s + _AFTER_S)
    # A gap of the ECG far from the video does not matter.
    wanted = (start_s, min(start_s + cine.duration_s, length_s))
    ecg, _ = read_around_gaps(path, rate_hz=rate_hz, unit=unit, start_s=first_s, seconds=last_s - first_s, keep_s=wanted)
    return replace(ecg, start_s=ecg.start_s - shift)

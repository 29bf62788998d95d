"""Measurement of an echo video in memory or in a file, with the shipped networks: behind `echogen.measure` and its verb."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from echogen.arrays import ByteArray, Floats
from echogen.cine import read_cine, to_sector
from echogen.cine.sector import CANONICAL_SIZE
from echogen.cine.writing import ecg_path
from echogen.datasets.drawn_ecg import read_drawn_ecg
from echogen.ecg import ecg_info, find_landmarks, read_around_gaps
from echogen.errors import InputError
from echogen.measurement.apical import apical_doubt
from echogen.measurement.biplane import Biplane, biplane
from echogen.measurement.known_errors import is_generated, measuring_error
from echogen.measurement.mask_reading import read_given
from echogen.measurement.matching import QrsLandmarks
from echogen.measurement.numbers import Number, numbers_of, views_of
from echogen.measurement.outlines import Outlines
from echogen.measurement.reading import SHORTEST_S, Reading, canonical_cine, read_extremes, read_masks
from echogen.measurement.regression import load_regressor, regressed_ef_percent
from echogen.measurement.shipped import DEFAULT, load_segmenter
from echogen.measurement.view_check import doppler_in_file, other_view
from echogen.measurement.view_naming import Seen, seen_in
from echogen.networks.config import load_network
from echogen.networks.ef_regressor import EfRegressor
from echogen.records import Cine, Ecg

#: In place of an ECG: the one that is drawn into the pictures of the video.
DRAWN = "drawn"
#: ECG before the video in s, for the beats from which the first expected times follow.
_BEFORE_S = 8.0
#: ECG after the video in s, so that a beat at its end is seen whole.
_AFTER_S = 1.0
#: Longest video in s that may hold no ED and the ES after it of a heart that beats: the interval of 40 bpm and a systole.
LONGEST_PART_S = 2.0
PART_OF_A_BEAT = (
    "This video holds no whole beat: its largest volume is taken for ED and its smallest for ES, so the ejection fraction may be "
    "too small."
)
FEW_FRAMES = "Only some frames have outlines: the largest is taken for ED and the smallest for ES."


@dataclass(frozen=True)
class VideoReading(Reading):
    """A measured echo video, with a second opinion and the error of measuring.

    ef_regressor_percent: EF in % by a regression network that outlines nothing; None for a video under 1 s.
    measuring_error: error of measuring, on recordings of patients or, for generated pictures, on clips of known truth; keys as of
    `known_errors.measuring_error`; empty for given outlines.
    notes: sentences on what looks doubtful, such as a picture that does not look like an apical view.
    outlines: the video and its chambers, which `echogen.measurement.overlay` draws; not in the JSON.
    numbers: volumes by discs, left atrium, wall and strain with their uncertainty, by name.
    mm_per_pixel: side of a pixel of the masks of `outlines` in mm; None where it is unknown.
    seen: view and quality of the pictures, as they seem; None for given outlines.
    second: reading of the other view of the same patient; None where one view was given.
    biplane: volumes and EF of both views together; None where one view was given.
    """

    ef_regressor_percent: float | None = None
    measuring_error: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    outlines: Outlines | None = field(default=None, repr=False, compare=False)
    numbers: dict[str, Number] = field(default_factory=dict)
    mm_per_pixel: float | None = None
    seen: Seen | None = None
    second: VideoReading | None = field(default=None, repr=False)
    biplane: Biplane | None = None

    def to_json(self) -> dict[str, Any]:
        """JSON-ready: keys as of `Reading.to_json`, ef_regressor_percent, measuring_error, notes, seen and numbers.

        With a second view also second (its keys) and biplane.
        """
        both: dict[str, Any] = {}
        if self.second is not None and self.biplane is not None:
            both = {"second": self.second.to_json(), "biplane": self.biplane.to_json()}
        return super().to_json() | {
            "ef_regressor_percent": self.ef_regressor_percent,
            "measuring_error": self.measuring_error,
            "notes": list(self.notes),
            "seen": None if self.seen is None else self.seen.to_json(),
            "numbers": {name: number.to_json() for name, number in self.numbers.items()},
            **both,
        }


def measure(
    video: Cine | str | Path,
    ecg: Ecg | str | Path | None = None,
    *,
    second: Cine | str | Path | None = None,
    fps: float | None = None,
    ecg_rate_hz: float | None = None,
    ecg_unit: str | None = None,
    regressor: str | Path | None = None,
    masks: str | Path | None = None,
    network: str = DEFAULT,
    generated: bool | None = None,
) -> VideoReading:
    """Measure ejection fraction, beats and times of an echo video; with an ECG, how well the two agree in time.

    video: an apical four- or two-chamber view, as a `Cine` or a file. In one shorter than a beat the largest volume is taken for
    ED and the smallest for ES, and a note says so.
    ecg: on the clock of the video, as an `Ecg` or a file; "drawn" is the one in the video's pictures; None is none.
    second: the A2C of the same patient where `video` is its A4C, for volumes and an EF from both; `biplane` of the reading holds
    them.
    fps: frames per second, instead of what the video's file says.
    ecg_rate_hz, ecg_unit: sampling rate and unit (mV, uV or V) of the ECG, where its file does not say.
    regressor: folder of another EF regressor, as `echogen import-weights ef-regressor` makes it.
    masks: file or folder of outlines to measure from instead of the network's, as `read_given` takes them.
    network: the shipped network that outlines, "segmenter" or "reader".
    generated: whether the pictures are generated or simulated, which decides whose error stands beside the figures; None asks the
    file, and takes what states nothing for a recording of a patient.
    Returns the reading; EF, heart rate and volumes that cannot be known are None.
    Raises `InputError` for a file that cannot be read, and a video that is too short, shows no sector or no left ventricle, or
    shows colour Doppler or no apical view.

    >>> import echogen
    >>> study = echogen.simulate(seconds=3.0, heart_rate_bpm=75.0, ef_percent=55.0, seed=1)
    >>> reading = echogen.measure(study.cine, study.ecg)
    >>> abs(reading.ef_percent - 55.0) < 10.0, len(reading.beats) >= 2
    (True, True)
    """
    if second is not None:
        if masks is not None:
            raise InputError("Given outlines belong to one video; measure the two views without them.")
        options: dict[str, Any] = {"fps": fps, "regressor": regressor, "network": network, "generated": generated}
        first = measure(video, ecg, ecg_rate_hz=ecg_rate_hz, ecg_unit=ecg_unit, **options)
        other = measure(second, **options)
        return replace(first, second=other, biplane=biplane(first, other))
    second_opinion = load_network(EfRegressor, Path(regressor)) if regressor else load_regressor()
    path = None if isinstance(video, Cine) else Path(video)
    cine = video if isinstance(video, Cine) else read_cine(video, fps=fps)
    if masks is None and cine.frames.shape[1:] == (CANONICAL_SIZE, CANONICAL_SIZE):
        to_sector(cine.frames)  # refuses what is no echo; other sizes are cropped anyway
    if ecg == DRAWN:
        recorded: Ecg | None = _drawn_ecg(path, fps)
    elif isinstance(ecg, str | Path):
        recorded = _on_clock_of(cine, path, Path(ecg), ecg_rate_hz, ecg_unit)
    else:
        recorded = ecg
    landmarks = None if recorded is None else find_landmarks(recorded)
    if masks is not None:
        outlines = read_given(Path(masks), cine, "" if path is None else path.stem)
        reading, notes = _read(outlines.masks, cine, landmarks, outlines.frames)
        numbers = numbers_of([outlines.masks], _times(cine, outlines.frames), cine.mm_per_pixel, reading, None)
        return VideoReading(
            **vars(reading), notes=(*cine.notes, *notes), outlines=outlines, numbers=numbers, mm_per_pixel=cine.mm_per_pixel
        )
    made = is_generated(path) if generated is None and path is not None else bool(generated)
    shown, cine = cine, canonical_cine(cine)
    segmenter = load_segmenter(network)
    if refusal := (doppler_in_file(path, fps) if path else None) or other_view(cine.frames):
        raise InputError(refusal)
    views = views_of(cine.frames, segmenter)
    reading, notes = _read(views[0], cine, landmarks)
    doubt = apical_doubt(cine.frames, segmenter)
    return VideoReading(
        **vars(reading),
        ef_regressor_percent=regressed_ef_percent(cine, second_opinion),
        measuring_error=measuring_error(network, generated=made, own_regressor=regressor is not None),
        notes=(*cine.notes, *notes, *([doubt] if doubt else [])),
        outlines=Outlines(shown, views[0]),
        numbers=numbers_of(views, cine.times_s, cine.mm_per_pixel, reading, network, generated=made),
        mm_per_pixel=cine.mm_per_pixel,
        seen=seen_in(cine.frames),
    )


def _times(cine: Cine, frames: tuple[int, ...] | None) -> Floats:
    """Times in s of some frames of a cine, or of all."""
    return cine.times_s if frames is None else cine.times_s[list(frames)]


def _read(
    masks: ByteArray, cine: Cine, landmarks: QrsLandmarks | None, frames: tuple[int, ...] | None = None
) -> tuple[Reading, tuple[str, ...]]:
    """Reading of masks on all or some frames of a cine, and a sentence where they hold no whole beat."""
    if frames is None and cine.duration_s >= SHORTEST_S:
        reading = read_masks(masks, cine.times_s, cine.mm_per_pixel, landmarks)
        if reading.beats or cine.duration_s > LONGEST_PART_S:
            return reading, ()
    reading = read_extremes(masks, _times(cine, frames), cine.mm_per_pixel)
    return reading, (PART_OF_A_BEAT if frames is None else FEW_FRAMES,)


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

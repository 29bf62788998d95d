"""Reader for an ECG that is drawn into echo pictures: an `Ecg` on the clock of the cine, so that archives become paired data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import ndimage

from echogen.arrays import Floats
from echogen.cine.colour import ColourCine, read_colour
from echogen.cine.drawn_line import find_lines
from echogen.cine.drawn_rate import printed_rates
from echogen.cine.drawn_sweep import DrawnSignal, line_signal
from echogen.cine.reading import read_cine
from echogen.ecg.detectors import CLEAR_CONTRAST, Detection, detect_qrs, irregularity
from echogen.errors import InputError
from echogen.records import Ecg, Study

#: Sampling rate in Hz of an ECG taken from the picture: a usual rate of ECG monitors.
RATE_HZ = 250.0
#: Name of its lead, which the picture does not state.
LEAD = "drawn"
#: Verdicts on a drawn ECG, the best first.
VERDICTS = ("good", "usable", "rejected")

#: Sentence about pictures without a drawn line.
_NOTHING = "No line is drawn across the picture that could be an ECG."
#: Sentence about a drawn line without a cursor or a motion that gives its times.
_NO_CLOCK = "A line is drawn across the picture, but nothing that moves along it tells which moment it shows."
#: Lowest and highest heart rate in beats per minute that is believed.
_RATE_BPM = (25.0, 250.0)
#: Longest gap in s between columns that is not counted as missing: the length of a wide QRS.
_LONGEST_GAP_S = 0.12
#: Largest relative difference between the rate of the trace and a stated one; beyond it the clock or the trace is wrong.
_NEAR_RATE = 0.03
#: Least share of the time that an ECG is near its level; a sine is near it for 0.13, a pulse or respiration for up to 0.4.
_LEAST_AT_LEVEL = 0.5
#: Largest share of the time in which an ECG does not leave its level by a hundredth of its height; noise and waves move it.
_MOST_STRAIGHT = 0.85
#: Least share of the beats that look alike; premature ones look different.
_LEAST_ALIKE = 0.7
#: Time in s for which the first and the last value are repeated before QRS detection, so that filters do not bend the ends.
_HELD_S = 0.6


@dataclass(frozen=True)
class DrawnEcg:
    """An ECG read from the picture, with a verdict on its quality.

    verdict: "good", "usable" or "rejected".
    reasons: Plain sentences, one for each fault; empty for a good ECG.
    ecg: One lead at `RATE_HZ` on the clock of the cine, from before the video where the picture shows that; None where nothing
        was found. The picture has no scale: the values are not mV, their median is 0 and the median QRS is 1 high.
    r_s: R peaks in s on the clock of the cine; None where nothing was found.
    heart_rate_bpm: Heart rate in beats per minute, 60 / median RR in s; None with fewer than two R peaks.
    manner: Motion of the line, "scrolling", "sweeping" or "standing"; None where nothing was found.
    column_s: Duration of one column of the picture in s, which limits the precision of all times.
    line: True if any line is drawn across the picture.
    printed_rate_bpm: Heart rate in beats per minute that stands in the picture as text; None where none is read for sure.
    """

    verdict: str
    reasons: tuple[str, ...]
    ecg: Ecg | None = None
    r_s: Floats | None = None
    heart_rate_bpm: float | None = None
    manner: str | None = None
    column_s: float | None = None
    line: bool = True
    printed_rate_bpm: float | None = None

    @property
    def accepted(self) -> bool:
        """True if the verdict is good or usable."""
        return self.verdict != "rejected"


def read_study(path: str | Path, *, fps: float | None = None) -> Study:
    """Read the echo of a file and the ECG that is drawn into its pictures, on one clock.

    path: Any file that `read_cine` reads.
    fps: Frames per second instead of the file's own times.

    The ECG is None where none is drawn or its verdict is "rejected"; `read_drawn_ecg` gives the reasons. Its
    amplitude has no unit: the median QRS is 1 high.
    Raises `InputError` as `read_cine` does.

    >>> import echogen
    >>> echogen.write(echogen.simulate(seconds=1.0).cine, "heart.mp4")
    >>> study = echogen.read_study("heart.mp4")
    >>> len(study.cine.times_s), study.ecg
    (32, None)
    """
    cine = read_cine(path, fps=fps)
    try:
        found = read_drawn_ecg(path, fps=fps)
    except InputError:  # a file can be small enough in grey and too large in colour
        return Study(None, cine)
    return Study(found.ecg if found.accepted else None, cine)


def read_drawn_ecg(path: str | Path, *, fps: float | None = None) -> DrawnEcg:
    """Read the ECG that is drawn into the pictures of an echo file, with a verdict.

    path: Any file that `read_cine` reads.
    fps: Frames per second instead of the file's own times.
    Raises `InputError` as `read_cine` does, and for a file of more than 2 GB in colour.
    """
    return find_drawn_ecg(read_colour(path, fps=fps))


def find_drawn_ecg(cine: ColourCine) -> DrawnEcg:
    """Find the ECG that is drawn into a cine: the line with the best verdict of all that are drawn across the picture.

    A heart rate that is printed into the picture, else one that the file states, must be that of the line.
    """
    printed = printed_rates(cine.frames)
    lines = find_lines(cine.frames)
    found = []
    for line in lines:
        signal = line_signal(line, cine.frames, cine.times_s, cine.ecg_seconds_per_pixel)
        if signal is not None:
            found.append(judge_signal(signal, cine.times_s, cine.heart_rate_bpm, printed))
    nothing = DrawnEcg("rejected", (_NO_CLOCK if lines else _NOTHING,), line=bool(lines))
    best = min(found, key=lambda one: VERDICTS.index(one.verdict), default=nothing)
    return replace(best, printed_rate_bpm=None if printed is None else printed[1])


def judge_signal(
    signal: DrawnSignal,
    times_s: Floats,
    stated_rate_bpm: float | None = None,
    printed_bpm: tuple[float, float, float] | None = None,
) -> DrawnEcg:
    """Find R peaks and verdict of the ECG in a drawn line.

    signal: Heights of the line over time.
    times_s: Times of the frames in s.
    stated_rate_bpm: Heart rate in beats per minute that the file states; None without one.
    printed_bpm: Lowest, middle and highest heart rate in beats per minute that the pictures print; None without one. It comes
        before the stated one.
    """
    if printed_bpm is not None:
        stated_rate_bpm = printed_bpm[1]
    times, values, missing = _uniform(signal)
    detection = _detected(values)
    peaks = _beats(detection, values, stated_rate_bpm)
    scale = _qrs_height(values, peaks) if peaks.size else 1.0
    ecg = Ecg((values / scale)[None].astype(np.float32), RATE_HZ, (LEAD,), float(times[0]))
    r_s = times[0] + peaks / RATE_HZ
    rate = float(60.0 / np.median(np.diff(r_s))) if len(r_s) > 1 else None
    overlap = min(times[-1], times_s[-1]) - max(times[0], times_s[0])
    covered = float(max(overlap, 0.0) / max(times_s[-1] - times_s[0], 1e-9))
    bad, doubts = _faults(signal, detection, values, peaks, rate, missing, covered)
    shown = (r_s >= times_s[0]) & (r_s <= times_s[-1])
    if not bad and not shown.any():
        bad.append("No heart beat lies within the video.")
    if stated_rate_bpm is not None and rate is not None:
        lowest, _, highest = printed_bpm or (stated_rate_bpm,) * 3
        # A display follows the beats of the video; the trace may show earlier ones too.
        during = float(60.0 / np.median(np.diff(r_s[shown]))) if shown.sum() > 1 else rate
        if not any(lowest - _near(lowest) <= one <= highest + _near(highest) for one in (rate, during)):
            said = "the file states" if printed_bpm is None else "the picture prints"
            bad.append(f"The trace shows {rate:.0f} beats a minute, {said} {stated_rate_bpm:.0f}.")
    verdict = "rejected" if bad else "usable" if doubts else "good"
    return DrawnEcg(verdict, tuple(bad + doubts), ecg, r_s, rate, signal.manner, 1.0 / signal.pixels_per_s)


def _uniform(signal: DrawnSignal) -> tuple[Floats, Floats, float]:
    """Times in s and heights at `RATE_HZ`, with a median height of 0, and the share of time in interpolated gaps, 0..1."""
    times = np.arange(signal.times_s[0], signal.times_s[-1], 1.0 / RATE_HZ)
    values = np.interp(times, signal.times_s, signal.height_px)
    gaps = np.diff(signal.times_s)
    missing = float(gaps[gaps > _LONGEST_GAP_S].sum() / max(times[-1] - times[0], 1e-9))
    return times, values - np.median(values), missing


def _detected(values: Floats) -> Detection:
    """Detect QRS complexes; both ends are extended by their last value, so that filters do not bend the beats there."""
    held = round(_HELD_S * RATE_HZ)
    detection = detect_qrs(np.pad(values, held, mode="edge"), RATE_HZ)
    peaks = detection.peaks - held
    return replace(detection, peaks=peaks[(peaks > 0) & (peaks < len(values) - 1)])


def _qrs_height(values: Floats, peaks: Floats) -> float:
    """Median distance between the highest and the lowest value within 60 ms of the R peaks."""
    reach = round(0.06 * RATE_HZ)
    around = np.rint(peaks).astype(int)[:, None] + np.arange(-reach, reach + 1)
    return max(float(np.median(np.ptp(values[np.clip(around, 0, len(values) - 1)], axis=1))), 1e-6)


def _beats(detection: Detection, values: Floats, stated_rate_bpm: float | None) -> Floats:
    """R peaks in samples; where twice as many were found as the stated rate allows, only the tall ones if they are regular."""
    peaks = detection.peaks
    if stated_rate_bpm is None or peaks.size < 4:
        return peaks
    if 60.0 * RATE_HZ / float(np.median(np.diff(peaks))) < 1.6 * stated_rate_bpm:
        return peaks
    height = np.abs(values[np.rint(peaks).astype(int)])
    tall = max((peaks[::2], peaks[1::2]), key=lambda half: float(np.median(height[np.isin(peaks, half)])))
    return tall if irregularity(tall, RATE_HZ) <= irregularity(peaks, RATE_HZ) else peaks


def _faults(
    signal: DrawnSignal,
    detection: Detection,
    values: Floats,
    peaks: Floats,
    rate: float | None,
    missing: float,
    covered: float,
) -> tuple[list[str], list[str]]:
    """Sentences about faults that make a signal useless, and about faults that make it doubtful."""
    bad: list[str] = []
    doubts: list[str] = []
    if signal.agreement < 0.96:
        (bad if signal.agreement < 0.92 else doubts).append(
            f"The line keeps its shape in only {signal.agreement:.0%} of the pictures."
        )
    if covered < 0.9:
        (bad if covered < 0.5 else doubts).append(f"The line covers only {covered:.0%} of the video.")
    if missing > 0.3:
        bad.append(f"The line is missing for {missing:.0%} of its length.")
    elif missing > 0.05:
        doubts.append(f"The line is missing for {missing:.0%} of its length.")
    if peaks.size < 2 or not detection.convincing or rate is None:
        return [*bad, "The line shows no QRS complexes."], doubts
    if not _RATE_BPM[0] <= rate <= _RATE_BPM[1]:
        return [*bad, f"Its peaks come {rate:.0f} times a minute, which no heart does."], doubts
    if detection.contrast < CLEAR_CONTRAST:
        return [*bad, "Its peaks stand out too little from the rest of the line to be QRS complexes."], doubts
    if _share_at_level(values) < _LEAST_AT_LEVEL:
        bad.append("The line is away from its level for most of the time, as a pulse or a volume curve is and no ECG.")
    if float((np.abs(values) < 0.01 * np.abs(values).max()).mean()) > _MOST_STRAIGHT:
        bad.append("The line is straight between its peaks, as a scale with ticks is and no ECG.")
    alike = _share_alike(values, peaks)
    # One odd beat may be premature or cut by the end of the trace.
    if alike < _LEAST_ALIKE and (1.0 - alike) * peaks.size > 1.5:
        bad.append("Its peaks have different shapes, which those of an ECG have not.")
    width = _peak_width_s(values, peaks)
    if width > 0.16:
        bad.append(f"Its peaks are {1000 * width:.0f} ms wide, too wide for QRS complexes.")
    missed = (1.0 - detection.agreement) * peaks.size
    if detection.agreement < 0.8 and missed > 1.5:
        bad.append(f"Two detectors agree on only {detection.agreement:.0%} of its beats.")
    elif detection.agreement < 0.9 and missed > 1.5:
        doubts.append(f"Two detectors agree on only {detection.agreement:.0%} of its beats.")
    return bad, doubts


def _near(rate_bpm: float) -> float:
    """Difference in beats per minute between a rate over a few beats and its rounded display."""
    return max(_NEAR_RATE * rate_bpm, 1.0)


def _share_at_level(values: Floats) -> float:
    """Share of the time, 0..1, that values around 0 spend within a fifth of their largest size of 0."""
    return float((np.abs(values) <= 0.2 * np.abs(values).max()).mean())


def _share_alike(values: Floats, peaks: Floats) -> float:
    """Share of the peaks, 0..1, that have the shape of the middle one of all, by correlation over 80 ms to both sides."""
    reach = round(0.08 * RATE_HZ)
    around = np.rint(peaks).astype(int)[:, None] + np.arange(-reach, reach + 1)
    shapes = values[np.clip(around, 0, len(values) - 1)]
    shapes -= shapes.mean(axis=1, keepdims=True)
    shapes /= np.linalg.norm(shapes, axis=1, keepdims=True) + 1e-9
    return float((shapes @ shapes.T > 0.5).mean(axis=1).max())


def _peak_width_s(values: Floats, peaks: Floats) -> float:
    """Median time in s for which a peak stays above half its height over the signal around it."""
    surround = ndimage.median_filter(values, size=round(0.6 * RATE_HZ))
    above = values - surround
    widths = []
    for peak in np.rint(peaks).astype(int):
        half = 0.5 * above[peak]
        side = above * np.sign(half) < abs(half)
        left = int(side[: peak + 1][::-1].argmax()) if side[: peak + 1].any() else peak
        right = int(side[peak:].argmax()) if side[peak:].any() else len(values) - peak
        widths.append((left + right - 1) / RATE_HZ)
    return float(np.median(widths)) if widths else 0.0

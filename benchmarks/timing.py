"""How well generated video follows real ECGs: python benchmarks/timing.py -> docs/timing.md."""

from __future__ import annotations

import numpy as np

import echogen
from common import DOCS, Recording, arguments, recordings
from echogen.benchmark.markdown import table, write_section
from echogen.datasets.clip_store import FPS
from echogen.ecg import Landmarks, ecg_info, find_landmarks
from echogen.measurement.plain_values import expected_es_s, measured_es_s
from echogen.metrics.heart.timing import (
    TimingReport,
    chance_level,
    pooled_report,
    shuffled_beats,
    timing_report,
    within_video,
)
from echogen.phantom.rhythm import rhythm_from_landmarks
from echogen.phantom.simulate import draw_heart, render
from echogen.physiology import beat_clock
from echogen.records import Cine, Ecg
from picture import seam_ratio

SHUFFLES = 20
Clips = list[tuple[np.ndarray, np.ndarray]]


def truth_cine(marks: Landmarks, seconds: float, start_s: float, seed: int) -> Cine:
    """A simulated heart that follows the same beats exactly."""
    rhythm = rhythm_from_landmarks(marks.r_s, marks.qrs_onset_s, marks.p_onset_s, marks.wide_qrs)
    heart = draw_heart(rhythm, np.random.default_rng(seed), ef_percent=60.0)
    times = start_s + np.arange(round(seconds * FPS)) / FPS
    return Cine(render(heart, times, seed).frames, times, heart.probe.mm_per_pixel)


def control(marks: Landmarks, cine: Cine, video_es: np.ndarray) -> tuple[float, float]:
    """Matched fraction with shuffled beats, the mean over shuffles, and what chance gives."""
    got = []
    for seed in range(SHUFFLES):
        clock = beat_clock(shuffled_beats(marks.qrs_onset_s, seed))
        inside = clock.avc_s[within_video(clock, float(cine.times_s[0]), float(cine.times_s[-1]))]
        got.append(timing_report(video_es, inside).matched_fraction)
    return float(np.mean(got)), chance_level(marks.r_s)


def joined(heart: echogen.Generator, ecg: Ecg, seconds: float, seed: int) -> tuple[Cine, np.ndarray]:
    """The video, and the indices of the last frames before two windows meet."""
    parts = list(heart.stream(ecg, seconds=seconds, seed=seed))
    return Cine.join(parts), np.cumsum([len(part.frames) for part in parts])[:-1] - 1


def row(name: str, kind: str, report: TimingReport, drift: bool, seams: list[float] | None = None) -> list[str]:
    return [
        name,
        kind,
        str(report.n_expected),
        f"{100 * report.matched_fraction:.1f} %",
        f"{report.median_abs_ms:.0f}",
        f"{report.mean_ms:+.0f}",
        f"{report.drift_ms_per_s:+.2f}" if drift else "",
        f"{np.mean(seams):.2f}" if seams else "",
    ]


def one(heart: echogen.Generator, recording: Recording, seconds: float, seeds: range) -> tuple[list[list[str]], Clips, Clips]:
    """The rows of one recording over all seeds, and (measured, expected) end-systoles of the truth's and the generated videos."""
    available = ecg_info(recording.path).duration_s
    ecg: Ecg = echogen.read_ecg(recording.path, seconds=min(seconds + 1.0, available))
    seconds = min(seconds, ecg.duration_s)
    marks = find_landmarks(ecg)
    truths, made, controls = [], [], []
    true_seams, made_seams = [], []
    for seed in seeds:
        cine, seams = joined(heart, ecg, seconds, seed)
        truth = truth_cine(marks, seconds, ecg.start_s, seed)
        truths.append((measured_es_s(truth), expected_es_s(marks, truth)))
        made.append((measured_es_s(cine), expected_es_s(marks, cine)))
        true_seams.append(seam_ratio(truth.frames, seams))
        made_seams.append(seam_ratio(cine.frames, seams))
        controls.append(control(marks, cine, made[-1][0]))
    shuffled, chance = np.mean(controls, axis=0)
    rows = [
        row(recording.name, "truth", pooled_report(truths), seconds > 30, true_seams),
        row("", "generated", pooled_report(made), seconds > 30, made_seams),
        ["", "shuffled ECG", "", f"{100 * shuffled:.0f} % (chance {100 * chance:.0f} %)", "", "", "", ""],
    ]
    return rows, truths, made


def section(heart: echogen.Generator, chosen: list[Recording], seconds: float, seeds: int, title: str) -> None:
    """Measure these recordings and write their table under a title."""
    rows: list[list[str]] = []
    truths: Clips = []
    made: Clips = []
    for recording in chosen:
        lines, truth, generated = one(heart, recording, seconds, range(seeds))
        rows += lines
        for line in lines:
            print(" | ".join(line), flush=True)
        truths += truth
        made += generated
    is_long = seconds > 30
    rows.append(row("all", "truth", pooled_report(truths), is_long))
    rows.append(row("", "generated", pooled_report(made), is_long))
    text = table(
        ["recording", "video", "beats", "matched within 80 ms", "median abs. error, ms", "mean, ms", "drift, ms/s", "seams"], rows
    )
    note = (
        f"Generator {heart.name} ({heart.weights_hash}); {seeds} videos of {seconds:.0f} s each (seeds 0..), "
        f"{heart.native_fps:g} frames/s, no first frame, no EF. Error: measured end-systole minus the aortic closure that the "
        "ECG lets expect; drift: its slope over all videos. Truth: a simulated heart that follows the same beats. Shuffled: the "
        f"generated video against the ECG's beats in another order and phase, mean of {SHUFFLES}. Seams: change between frames "
        "where windows meet over that elsewhere, of the truth at the same places: its row tells what motion alone does. "
        "Command: `python benchmarks/timing.py`.\n\n"
    )
    write_section(DOCS / "timing.md", title, note + text)


def main() -> None:
    """--seeds, --minutes: how many videos of 10 s and of 60 s a recording; 0 leaves that table as it is."""
    options = arguments(__doc__ or "", seeds=8, minutes=4)
    heart = echogen.Generator.from_pretrained(options.model)
    if options.seeds:
        section(heart, recordings(), 10.0, options.seeds, "Timing on real ECGs")
    if options.minutes:
        long = [recording for recording in recordings() if recording.long]
        section(heart, long, 60.0, options.minutes, "Timing over a minute")


if __name__ == "__main__":
    main()

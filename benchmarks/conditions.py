"""The ECGs of ECHOPulse's Figure 3 and the failures of its Figure 10: python benchmarks/conditions.py -> docs/conditions.md."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import echogen
from common import DOCS, arguments
from condition_sheets import save_sheet, strip
from condition_trials import SETTLING_S, Case, Result, Shown, Trial, first_ed, heart_with, watch_trial
from ecg_faults import ECG_FAULTS, IMAGE_FAULTS, UNUSUAL_RHYTHMS, beat_shifted, flat, quiet_before, shifted_from
from echogen.benchmark.markdown import table, write_section
from echogen.datasets.clip_store import ECG_AFTER_S, ECG_BEFORE_S
from echogen.metrics.heart.ejection import mae, r2, rmse
from echogen.metrics.heart.timing import chance_level, match_beats, pooled_report
from echogen.metrics.pictures.likeness import mse, ssim
from echogen.phantom.electrical import make_ecg
from echogen.physiology import BeatClock
from echogen.records import Cine

Floats = NDArray[np.float64]

FIRST_SEED = 70_000
#: Shifts of an R wave as shares of the RR interval before it.
SHIFTS = (-0.15, 0.15, 0.30)
EARLIER = -0.20
#: A shifted beat counts where a video beat lies within this share of the median RR interval.
NEAR_RR = 0.45

SAID = (
    f"Generator {{name}} ({{hash}}); {{hearts}} held-out hearts (seeds {FIRST_SEED}..), all rhythms and both views; videos of "
    "{seconds} s, seed {seed} + that of the heart. Beside an ECG the generator is given the heart's {asked} (reference: the "
    "first end-diastolic one). Command: `python benchmarks/conditions.py{changed}`. "
)
JUDGED = (
    f"Beats of the first {SETTLING_S:g} s are not judged, as the first frame alone tells their phase. End-systole is measured in "
    "the video and expected at the aortic closure that follows from the true beats of the ECG given. Truth: the same heart "
    "simulated with those beats. "
)
FIGURE_3 = (
    "Flat: the generator gets no ECG, as with `--allow-flat`. Apple Watch: one lead of another person, for every heart another "
    "stretch. The last column but one sets the same video against the heart's own beats from the same start: the control, for "
    "which chance gives {chance:.0f} %; with a shifted R wave, the beats before the shift agree.{watch}\n\n"
    "![Synthetic frames at R and at end-systole](images/conditions.png)\n\n"
)
NO_WATCH = " The recordings of the Apple Watch were left out, as `ECHOGEN_TEST_DATA` is not set."
SHIFTED = (
    "QRS and T of a beat in the middle of the clip, alone or with all that follows, come earlier or later by a known share of "
    "the RR interval before it. Shift of ES: the beat's measured end-systole in this video minus that in the video of the ECG as "
    f"it was (same seed, same first frame), where a video beat lies within {NEAR_RR:g} RR in both. Slope through the origin: 1 "
    "follows the R wave, 0 does not heed it. Truth: the heart simulated with both ECGs, measured alike; its "
    "slope is a little above 1, as systole lasts longer after a longer interval.\n\n"
)
PAPER = (
    "Videos from the heart's own ECG and first frame against the video of the truth, both measured alike: EF in points, R2 about "
    "identity; mean absolute difference of end-diastole and end-systole, in ms and in frames at {fps:.3g} frames/s, of the true "
    f"beats after the first {SETTLING_S:g} s that a video beat lies within {NEAR_RR:g} RR of. The paper does not say in what its "
    "Table 7 counts. SSIM, as in its Table 2, stands in the next section. With `--ask-ef 0` the EF is not told.\n\n"
)
FLAT = "The generator gets no ECG, as with `--allow-flat`.\n\n"
ONE_FRAME = (
    "The video of the heart's own ECG against others with the same first frame and, unless stated, the same seed, frame by "
    "frame. The mean picture is the average over the frames: it shows the heart and hardly its phase.\n\n"
)
FAILURES = (
    "Quality: the verdict of `echogen info`. echogen: what `echogen generate` does (warns: generates, and says that the ECG is "
    "poor); where hearts differ, with how many. Beats found: those within 50 ms of a true R peak, over the true or the found "
    "ones, whichever are more. Truth is given where the beats are not the heart's own. SSIM: of the mean picture with that of "
    "the heart's own truth.\n\n![Synthetic frames at R and at end-systole](images/conditions_failures.png)\n\n"
)
FAILURE_HEADER = ["fault", "what was done", "quality", "echogen", "beats found", "truth matched", "matched within 80 ms"]
FAILURE_HEADER += ["median abs. error, ms", "EF, mean abs. error", "SSIM"]


def shift_name(share: float) -> str:
    return f"R wave and all after it {100 * share:+.0f} % of RR"


def es_shift(own: Shown, before: BeatClock, moved: Shown, after: BeatClock, beats: Sequence[int]) -> list[tuple[float, float]]:
    """(R shift, shift of measured ES) in s of those beats of two clips that a video beat lies near to in both."""
    reach = NEAR_RR * float(np.median(np.diff(before.qrs_onset_s)))
    times = []
    for video, clock in ((own, before), (moved, after)):
        found = match_beats(video.es_s, clock.avc_s, reach)
        times.append({beat: float(video.es_s[index]) for index, beat in found.pairs})
    both = [beat for beat in beats if beat in times[0] and beat in times[1]]
    return [(float(after.qrs_onset_s[b] - before.qrs_onset_s[b]), times[1][b] - times[0][b]) for b in both]


def timing_cells(clips: Sequence[tuple[Floats, Floats]]) -> list[str]:
    """Beats, matched fraction and median |error| over (video ES, expected ES) of clips."""
    report = pooled_report(list(clips))
    error = f"{report.median_abs_ms:.0f}" if report.n else ""
    return [str(report.n_expected), f"{100 * report.matched_fraction:.0f} %" if report.n_expected else "", error]


def ef_cell(cases: Sequence[Case], videos: Sequence[Shown | None]) -> str:
    errors = [abs(v.ef_percent - c.ef_percent) for c, v in zip(cases, videos, strict=True) if v and np.isfinite(v.ef_percent)]
    return f"{np.mean(errors):.1f}" if errors else ""


def conditions_table(cases: Sequence[Case], runs: dict[str, list[Result]]) -> str:
    rows = []
    for name, results in runs.items():
        for kind, videos in (("truth", [r.truth for r in results]), ("generated", [r.made for r in results])):
            if not any(videos):
                continue
            pairs = [(r, v) for r, v in zip(results, videos, strict=True) if v]
            given = [(v.es_s, r.expected_s) for r, v in pairs]
            own = [
                (v.es_s - r.trial.start_s, o.expected_s - o.trial.start_s)
                for r, v, o in zip(results, videos, runs["own ECG"], strict=True)
                if v
            ]
            against_given = ["", "", ""] if results[0].trial.ecg is None else timing_cells(given)
            rows.append([name if kind == "truth" or not results[0].truth else "", kind, str(len(pairs)), *against_given])
            rows[-1] += [timing_cells(own)[1] if name != "own ECG" else "", ef_cell(cases, videos)]
    header = ["ECG", "video", "clips", "beats", "matched within 80 ms", "median abs. error, ms"]
    return table([*header, "matched with the heart's own beats", "EF, mean abs. error"], rows)


def shift_table(runs: dict[str, list[Result]], cases: Sequence[Case]) -> str:
    rows: list[list[str]] = []
    pooled: dict[str, list[tuple[float, float]]] = {"truth": [], "generated": []}
    names = [name for name in runs if name.startswith(("R wave", "one beat"))]
    for name in names:
        for kind in pooled:
            points = []
            for case, own, moved in zip(cases, runs["own ECG"], runs[name], strict=True):
                videos = (own.truth, moved.truth) if kind == "truth" else (own.made, moved.made)
                if videos[0] is None or videos[1] is None:
                    continue
                last = case.start_s + case.seconds - 0.1
                beats = [case.middle_beat] if name.startswith("one beat") else range(case.middle_beat, len(own.clock))
                inside = [b for b in beats if max(own.clock.avc_s[b], moved.clock.avc_s[b]) <= last]
                points += es_shift(videos[0], own.clock, videos[1], moved.clock, inside)
            pooled[kind] += points
            rows.append([name if kind == "truth" else "", kind, *shift_cells(points)])
    rows += [["all" if kind == "truth" else "", kind, *shift_cells(points)] for kind, points in pooled.items()]
    header = ["what was shifted", "video", "beats", "shift of R, ms", "shift of measured ES, ms", "slope"]
    return table([*header, "median abs. difference, ms"], rows)


def shift_cells(points: Sequence[tuple[float, float]]) -> list[str]:
    if not points:
        return ["0", "", "", "", ""]
    r, es = 1000.0 * np.array(points).T
    slope = float(r @ es / (r @ r))
    return [str(len(r)), f"{r.mean():+.0f}", f"{es.mean():+.0f}", f"{slope:.2f}", f"{np.median(np.abs(es - r)):.0f}"]


def flat_table(results: Sequence[Result], cases: Sequence[Case]) -> str:
    """Beats of the videos from a flat ECG: are there any, how fast and how regular are they."""
    made = [result.made for result in results if result.made]
    if not made:
        return "The generator refuses a flat ECG.\n"
    intervals = [np.diff(video.es_s) for video in made]
    rates = np.array([60.0 / np.median(rr) for rr in intervals if len(rr)])
    spread = [100.0 * rr.std() / rr.mean() for rr in intervals if len(rr) > 1]
    own = np.array([60.0 / np.median(np.diff(case.heart.rhythm.r_s)) for case in cases])
    rows = [
        ["clips with at least two beats", f"{len(rates)} of {len(made)}"],
        [
            "beats in a clip, median (least..most)",
            "{1:.0f} ({0:.0f}..{2:.0f})".format(*np.percentile([len(v.es_s) for v in made], (0, 50, 100))),
        ],
        ["rate, bpm: mean, SD over clips", f"{rates.mean():.0f}, {rates.std():.0f}" if len(rates) else ""],
        ["rate of the hearts' own ECGs, bpm: mean, SD", f"{own.mean():.0f}, {own.std():.0f}"],
        ["spread of the intervals in a clip, % of their mean, median", f"{np.median(spread):.0f}" if spread else ""],
        ["EF, mean abs. error, points", ef_cell(cases, [result.made for result in results])],
    ]
    return table(["figure", "value"], rows)


def likeness_table(cases: Sequence[Case], runs: dict[str, list[Result]], again: Sequence[Result]) -> str:
    """How far videos with one first frame and seed are apart when the ECG is not the same."""
    own = runs["own ECG"]
    late = shift_name(SHIFTS[-1])
    others = {
        "the truth": [result.truth for result in own],
        "own ECG, another seed": [result.made for result in again],
        "shifted R wave, before the shift": [result.made for result in runs[late]],
        "shifted R wave, after it": [result.made for result in runs[late]],
        "flat": [result.made for result in runs["flat"]],
        "another heart's": [result.made for result in runs["another heart's"]],
    }
    rows = []
    for name, videos in others.items():
        values = []
        for case, one, other in zip(cases, own, videos, strict=True):
            if one.made is None or other is None:
                continue
            times = one.made.cine.times_s
            first = int(np.searchsorted(times, quiet_before(case.heart.rhythm, case.middle_beat)[0])) if "shift" in name else 0
            part = slice(0, first) if "before" in name else slice(first, len(times))
            mine, its = one.made.cine.frames[part], other.cine.frames[part]
            values.append((mse(mine, its), ssim(mine[::4], its[::4]), ssim(mine.mean(0) / 255.0, its.mean(0) / 255.0)))
        if values:
            average = np.mean(values, axis=0)
            rows.append([name, str(len(values)), f"{average[0]:.2e}", f"{average[1]:.2f}", f"{average[2]:.2f}"])
    return table(["compared with", "clips", "MSE", "SSIM", "SSIM of the mean picture"], rows)


def paper_table(runs: dict[str, list[Result]], fps: float) -> str:
    """EF, end-diastole and end-systole of videos from the own ECG against those measured in the truth's video."""
    rows = []
    for name, results in (("own ECG", runs["own ECG"]), ("control: another heart's ECG", runs["another heart's"])):
        ef: list[tuple[float, float]] = []
        errors: dict[str, list[float]] = {"ed_s": [], "es_s": []}
        for result, own in zip(results, runs["own ECG"], strict=True):
            if result.made is None or own.truth is None:
                continue
            ef.append((result.made.ef_percent, own.truth.ef_percent))
            reach = NEAR_RR * float(np.median(np.diff(own.clock.qrs_onset_s)))
            for moment, found in errors.items():
                times = getattr(result.made, moment) - result.trial.start_s, getattr(own.truth, moment) - own.trial.start_s
                judged = times[1][times[1] > SETTLING_S]
                found += list(np.abs(match_beats(times[0], judged, reach).error_s))
        made, true = np.array([pair for pair in ef if np.isfinite(pair).all()]).reshape(-1, 2).T
        if not len(made):
            continue
        cells = [str(len(made)), f"{r2(made, true):.2f}", f"{mae(made, true):.1f}", f"{rmse(made, true):.1f}"]
        for found in errors.values():
            cells += [f"{1000 * np.mean(found):.0f} ms, {fps * np.mean(found):.2f}, {len(found)}" if found else ""]
        rows.append([name, *cells])
    header = [
        "video",
        "clips",
        "EF: R2",
        "EF: MAE",
        "EF: RMSE",
        "ED: mean abs. error, frames, n",
        "ES: mean abs. error, frames, n",
    ]
    return table(header, rows)


def failure_trials(case: Case) -> list[tuple[str, Trial]]:
    """What was done, and the video to make, of every fault of ECG and image and every unusual rhythm."""
    random, own, trials = np.random.default_rng(case.seed), case.own, []
    for fault in ECG_FAULTS:
        ecg = fault.apply(case.ecg, case.heart.rhythm.r_s, random)
        trials.append((fault.done, Trial(fault.name, ecg, own.rhythm, own.start_s)))
    trials.append(("no signal, without --allow-flat", Trial("flat", flat(case.ecg), own.rhythm, own.start_s)))
    for unusual in UNUSUAL_RHYTHMS:
        seconds = case.seconds + 4.0
        rhythm = unusual.make(0.0, seconds, random)
        ecg = make_ecg(rhythm, -ECG_BEFORE_S, seconds + ECG_AFTER_S, random)
        clock = heart_with(case.heart, rhythm).clock
        trials.append((unusual.done, Trial(unusual.name, ecg, rhythm, first_ed(clock, 0.0))))
    for spoilt in IMAGE_FAULTS:
        image = Cine(spoilt.apply(case.image.frames[0], random)[None], np.zeros(1))
        trials.append((spoilt.done, Trial(spoilt.name, own.ecg, own.rhythm, own.start_s, image)))
    return trials


def counts(names: Sequence[str]) -> str:
    """Names with how often each occurs, the commonest first."""
    return ", ".join(f"{name} {count}" if count < len(names) else name for name, count in Counter(names).most_common())


def failure_row(cases: Sequence[Case], done: str, results: Sequence[Result], own: Sequence[Result]) -> list[str]:
    made = [(r.made, r.expected_s) for r in results if r.made]
    true = [(r.truth, r.expected_s) for r in results if r.truth]
    like = [
        ssim(r.made.cine.frames.mean(0) / 255.0, o.truth.cine.frames.mean(0) / 255.0)
        for r, o in zip(results, own, strict=True)
        if r.made and o.truth
    ]
    return [
        results[0].trial.name,
        done,
        counts([r.verdict for r in results]),
        counts([r.answer for r in results]),
        f"{100 * np.mean([r.r_found for r in results]):.0f} %",
        timing_cells([(v.es_s, e) for v, e in true])[1] if true else "",
        *(timing_cells([(v.es_s, e) for v, e in made])[1:] if made else ["", ""]),
        ef_cell(cases, [r.made for r in results]),
        f"{np.mean(like):.2f}" if like else "",
    ]


def condition_trials(case: Case, other: Case) -> list[Trial]:
    """The ECGs of Figure 3, and the control: another heart's."""
    rhythm, start = case.heart.rhythm, case.start_s
    trials = [case.own]
    for share in SHIFTS:
        moved = shifted_from(case.ecg, rhythm, case.middle_beat, case.shift_s(share))
        trials.append(Trial(shift_name(share), *moved, start))
    moved = beat_shifted(case.ecg, rhythm, case.middle_beat, case.shift_s(EARLIER))
    trials.append(Trial(f"one beat {100 * EARLIER:+.0f} % of RR", *moved, start))
    trials.append(Trial("flat", None, rhythm, start))
    watch = watch_trial(case, os.environ.get("ECHOGEN_TEST_DATA"))
    trials += [watch] if watch else []
    return [*trials, Trial("another heart's", other.ecg, other.heart.rhythm, other.start_s)]


def run_all(cases: Sequence[Case]) -> tuple[dict[str, list[Result]], list[Result], dict[str, tuple[str, list[Result]]]]:
    """Results by the condition's name; of the own ECG with another seed; by the fault's name, with what was done."""
    runs: dict[str, list[Result]] = {}
    again: list[Result] = []
    failures: dict[str, tuple[str, list[Result]]] = {}
    for case, other in pairwise(cases):
        for trial in condition_trials(case, other):
            runs.setdefault(trial.name, []).append(case.run(trial, truth=trial.ecg is not None))
        again.append(case.run(case.own, seed=1))
        for done, trial in failure_trials(case):
            result = case.run(trial, truth=trial.rhythm is not case.heart.rhythm)
            failures.setdefault(trial.name, (done, []))[1].append(result)
        print(case.seed, case.heart.rhythm.name, case.heart.anatomy.view, f"EF {case.ef_percent:.0f}", flush=True)
    return runs, again, failures


def main() -> None:
    options = arguments(__doc__ or "", hearts=12, seconds=5, seed=0, ask_ef=1, output=str(DOCS))
    generator = echogen.Generator.from_pretrained(options.model)
    if "ecg" not in generator.takes:
        raise SystemExit(f"The generator {generator.name} takes no ECG; give one with --model that does.")
    seeds = range(FIRST_SEED, FIRST_SEED + options.hearts + 1)
    every = [Case(generator, seed, float(options.seconds), options.seed, bool(options.ask_ef)) for seed in seeds]
    cases, folder = every[:-1], Path(options.output)
    runs, again, failures = run_all(every)
    own = runs["own ECG"]
    usual = {"model": "phantom-128", "hearts": 12, "seconds": 5, "seed": 0, "ask_ef": 1}
    said = SAID.format(
        name=generator.name,
        hash=generator.weights_hash,
        hearts=len(cases),
        seed=options.seed,
        seconds=options.seconds,
        asked=", ".join(sorted({"ef_percent", "reference", "sex", "view"} & cases[0].takes)) or "nothing",
        changed="".join(
            f" --{key.replace('_', '-')} {getattr(options, key)}" for key in usual if getattr(options, key) != usual[key]
        ),
    )
    chance = 100 * np.mean([chance_level(case.heart.rhythm.r_s) for case in cases])
    figure_3 = said + JUDGED + FIGURE_3.format(chance=chance, watch="" if "Apple Watch" in runs else NO_WATCH)
    rows = [failure_row(cases, "", own, own), *(failure_row(cases, done, results, own) for done, results in failures.values())]
    sections = {
        "The ECGs of Figure 3": figure_3 + conditions_table(cases, runs),
        "A shifted R wave": said + SHIFTED + shift_table(runs, cases),
        "A flat ECG": said + FLAT + flat_table(runs["flat"], cases),
        "Beside Tables 3 and 7": said + PAPER.format(fps=generator.native_fps) + paper_table(runs, generator.native_fps),
        "One first frame, other ECGs": said + ONE_FRAME + likeness_table(cases, runs, again),
        "Failure cases (Figure 10)": said + JUDGED + FAILURES + table(FAILURE_HEADER, rows),
    }
    for title, text in sections.items():
        write_section(folder / "conditions.md", title, text)
    strips = [strip(own[0], own[0].truth, "truth, own ECG", 8)]
    strips += [strip(results[0], results[0].made, name, 8) for name, results in runs.items()]
    save_sheet(strips, 1, folder / "images" / "conditions.png")
    strips = [strip(results[0], results[0].made, name, 4) for name, (_, results) in failures.items()]
    save_sheet(strips, 3, folder / "images" / "conditions_failures.png")


if __name__ == "__main__":
    main()

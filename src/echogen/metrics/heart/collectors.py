"""Collectors of heart figures from pairs of clips: ejection fraction, beats, ED and ES, area curves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from echogen.arrays import Floats
from echogen.measurement.matching import TOLERANCE_S, match_beats, within_video
from echogen.measurement.shipped import truth_error
from echogen.metrics.evaluation.clips import Clip
from echogen.metrics.evaluation.collectors import ByClip, Pair
from echogen.metrics.evaluation.figures import Figure, Row, draws_row, mean_row, pooled_row, ratio_row
from echogen.metrics.heart import agreement as heart
from echogen.metrics.heart.ejection import EjectionReport, ejection_report
from echogen.metrics.heart.timing import MARGIN_S, SHUFFLES, shuffled_beats
from echogen.metrics.heart.volumes import area_ef_percent
from echogen.physiology import QRS_ONSET_BEFORE_R_S, beat_clock


class Ejection(ByClip):
    """EF that the generated clips show against the one that was asked for or is known."""

    def add(self, pair: Pair) -> None:
        """Take in the clips of which EF is both known and seen."""
        for clip, side in ((pair.generated, "generated"), (pair.real if _true(pair.real) else None, "real")):
            if clip is not None and (both := _seen_and_known(clip)) is not None:
                self.keep(pair, side, both)

    def figures(self) -> dict[str, Figure]:
        """MAE, R2 about identity, RMSE, bias, and bias with its limits of agreement."""
        own, truth = _report(self.kept("generated")), _report(self.kept("real"))
        seen, known = np.array(self.kept("generated")).reshape(-1, 2).T
        shuffled = [np.random.default_rng(seed).permutation(known) for seed in range(SHUFFLES)] if len(known) > 1 else []
        errors = [seen - asked for asked in shuffled]
        spread = float(((known - known.mean()) ** 2).sum()) if len(known) else 0.0
        controls = {
            "ef": [np.abs(e).mean() for e in errors],
            "ef_r2": [1.0 - (e**2).sum() / spread for e in errors] if spread else [],
            "ef_rmse": [np.sqrt((e**2).mean()) for e in errors],
        }
        error = truth_error()
        by_itself = {"ef": error["ef_mae_percent"], "ef_r2": error["ef_r2"], "ef_bias": error["ef_bias_percent"]}
        figures = {}
        for name, unit in {"ef": "points", "ef_r2": "1", "ef_rmse": "points", "ef_bias": "points", "ef_limits": "points"}.items():
            control = draws_row(controls[name]) if controls.get(name) else None
            truth_row = _ejection_row(name, truth) if truth.n else None
            figures[name] = Figure(_ejection_row(name, own), unit, truth_row, control, by_itself.get(name))
        return figures


def _true(clip: Clip | None) -> bool:
    return clip is not None and clip.has_truth


def _seen_and_known(clip: Clip) -> tuple[float, float] | None:
    """EF seen and known in %; of a simulated heart, in which beats differ, the medians over the beats that were found."""
    if clip.ef_percent is None or clip.known_ef_percent is None:
        return None
    pairs = [
        (clip.beats[own].ef_percent, clip.true_beats[other].ef_percent)
        for own, other in heart.beat_pairs(clip.beats, clip.true_beats)
    ]
    known = np.array([pair for pair in pairs if None not in pair], dtype=np.float64).reshape(-1, 2)
    if len(known):
        return float(np.median(known[:, 0])), float(np.median(known[:, 1]))
    return clip.ef_percent, clip.known_ef_percent


def _report(pairs: list[tuple[float, float]]) -> EjectionReport:
    seen, known = np.array(pairs).reshape(-1, 2).T
    return ejection_report(seen, known)


def _ejection_row(name: str, report: EjectionReport) -> Row:
    value, interval = {
        "ef": (report.mae, report.mae_interval),
        "ef_r2": (report.r2, report.r2_interval),
        "ef_rmse": (report.rmse, report.rmse_interval),
        "ef_bias": (report.bias, report.bias_interval),
        "ef_limits": (report.bias, report.limits_of_agreement),
    }[name]
    return Row(value, *interval, report.n)


class Reconstruction(ByClip):
    """EF of a generated (or reconstructed) clip against that of the real clip of its name, both measured in one way: rLVEF."""

    def add(self, pair: Pair) -> None:
        """Take in a pair of which both show a beat."""
        for reference, what in ((pair.real, "own"), (pair.other, "control")):
            clips = [clip for clip in (pair.generated, reference) if clip is not None and clip.ef_percent]
            if len(clips) == 2:
                self.keep(pair, what, (*(clip.ef_percent for clip in clips), *(area_ef_percent(clip.masks) for clip in clips)))

    def figures(self) -> dict[str, Figure]:
        """Ratio (mean; spread apart), mean |difference| by volume, and the same by area as the paper's masks have it."""
        own, control = (np.array(self.kept(what)).reshape(-1, 4).T for what in ("own", "control"))

        def figure(unit: str, row: Callable[[Floats], Row]) -> Figure:
            return Figure(row(own), unit, control=row(control) if control.shape[1] else None)

        def spread(values: Floats) -> Row:
            return pooled_row(lambda v: float(v.std(ddof=1)) if len(v) > 1 else float("nan"), [*(values[0] / values[1])[:, None]])

        return {
            "rlvef": figure("1", lambda v: mean_row(v[0] / v[1])),
            "rlvef_sd": figure("1", spread),
            "rlvef_points": figure("points", lambda v: mean_row(np.abs(v[0] - v[1]))),
            "rlvef_area_points": figure("points", lambda v: mean_row(np.abs(v[2] - v[3]))),
        }


@dataclass(frozen=True)
class _Beats:
    """Timing of one clip; times in s, delays in ms."""

    matched: int
    expected: int
    error_ms: Floats
    cycles: Floats
    delays_ms: Floats
    strokes: Floats
    shuffled: tuple[tuple[int, int], ...]


class Timing(ByClip):
    """Beats of the video against the ECG's: the true end-systole where it is known, else aortic closure by the heart's clock."""

    def add(self, pair: Pair) -> None:
        """Take in the clips whose R peaks are known; a video in which no heart is seen has no beats."""
        for clip, side in ((pair.generated, "generated"), (pair.real, "real")):
            if clip is not None and clip.r_s is not None:
                self.keep(pair, side, _beats_of(clip, clip.r_s))

    def figures(self) -> dict[str, Figure]:
        """Matched fraction; end-systolic error; correlation of cycle lengths, and of stroke volume with RR; R-to-ED and -ES."""
        error = truth_error()
        generated: list[_Beats] = self.kept("generated")
        real: list[_Beats] = self.kept("real")
        # One draw is a shuffle of every clip.
        shuffled = [_share([clip.shuffled[draw] for clip in generated if clip.shuffled]) for draw in range(SHUFFLES)]
        control = draws_row(shuffled)

        def figure(unit: str, row: Callable[[list[_Beats]], Row], by_itself: float | None = None) -> Figure:
            return Figure(row(generated), unit, row(real) if real else None, None, by_itself)

        matched = figure("1", lambda c: ratio_row([b.matched for b in c], [b.expected for b in c]), error["matched_fraction"])
        return {
            "timing": replace(matched, control=control if control.n else None),
            "timing_median_ms": figure(
                "ms", lambda c: pooled_row(lambda v: float(np.median(np.abs(v))), [b.error_ms for b in c]), error["es_median_ms"]
            ),
            "timing_mean_ms": figure("ms", lambda c: pooled_row(_mean, [b.error_ms for b in c]), error["es_mean_ms"]),
            "cycle_correlation": figure("1", lambda c: pooled_row(_correlation, [b.cycles for b in c])),
            "stroke_rr_correlation": figure("1", lambda c: pooled_row(_correlation, [b.strokes for b in c])),
            "r_to_ed_ms": figure("ms", lambda c: pooled_row(_median, [b.delays_ms[:, 0] for b in c])),
            "r_to_es_ms": figure("ms", lambda c: pooled_row(_median, [b.delays_ms[:, 1] for b in c])),
        }


def _beats_of(clip: Clip, r_s: Floats) -> _Beats:
    start, end = float(clip.cine.times_s[0]), float(clip.cine.times_s[-1])
    onset = r_s - QRS_ONSET_BEFORE_R_S
    if clip.true_beats:
        ed, es = (np.array([getattr(beat, name) for beat in clip.true_beats]) for name in ("ed_s", "es_s"))
        expected = es[(ed >= start) & (es >= start + MARGIN_S) & (es <= end - MARGIN_S)]
    else:
        clock = beat_clock(onset, sex=clip.sex)
        expected = clock.avc_s[within_video(clock, start, end)]
    seen = np.array([beat.es_s for beat in clip.beats])
    matching = match_beats(seen, expected, TOLERANCE_S)
    shuffled = []
    for seed in range(SHUFFLES) if len(r_s) > 1 else ():
        wrong = beat_clock(shuffled_beats(onset, seed), sex=clip.sex)
        inside = wrong.avc_s[within_video(wrong, start, end)]
        shuffled.append((len(match_beats(seen, inside, TOLERANCE_S).pairs), len(inside)))
    return _Beats(
        matched=len(matching.pairs),
        expected=len(expected),
        error_ms=matching.error_s * 1000.0,
        cycles=np.stack(heart.cycle_lengths(seen, expected), axis=1) if len(expected) > 1 else np.zeros((0, 2)),
        delays_ms=np.array(list(heart.r_delays(clip.beats, r_s).values())).reshape(-1, 2) * 1000.0,
        strokes=np.stack(heart.strokes_and_rr(clip.beats, r_s), axis=1),
        shuffled=tuple(shuffled),
    )


def _share(counts: list[tuple[int, int]]) -> float:
    matched, expected = np.array(counts).reshape(-1, 2).sum(axis=0)
    return float(matched / expected) if expected else float("nan")


def _mean(values: Floats) -> float:
    return float(values.mean())


def _median(values: Floats) -> float:
    return float(np.median(values))


def _correlation(pairs: Floats) -> float:
    return heart.correlation(pairs[:, 0], pairs[:, 1]).value


class Phases(ByClip):
    """Errors of ED or of ES of paired clips, both measured by the one rule (Table 7); truth: the real clips against theirs."""

    def __init__(self, event: str) -> None:
        super().__init__()
        self.event = event

    def add(self, pair: Pair) -> None:
        """Take in a pair, and the real clip by itself where its truth is known."""
        which = 0 if self.event == "ed" else 1
        if pair.real is not None and _true(pair.real):
            found = heart.phase_differences(pair.real.beats, pair.real.true_beats)[which]
            self.keep(pair, "truth", (found, pair.real.cine.fps))
        for name, reference in (("generated", pair.real), ("control", pair.other)):
            if pair.generated is not None and pair.real is not None and reference is not None:
                found = heart.phase_differences(pair.generated.beats, reference.beats)[which]
                self.keep(pair, name, (found, pair.generated.cine.fps))

    def figures(self) -> dict[str, Figure]:
        """Mean |error| in ms and in frames of the video."""

        def rows(in_frames: bool) -> dict[str, Row]:
            return {
                name: ratio_row(
                    [float(np.abs(error).sum()) * (fps if in_frames else 1000.0) if len(error) else 0.0 for error, fps in found],
                    [len(error) for error, _ in found],
                )
                for name, found in ((name, self.kept(name)) for name in ("generated", "truth", "control"))
            }

        def figure(unit: str, found: dict[str, Row]) -> Figure:
            truth, control = (found[name] if found[name].n else None for name in ("truth", "control"))
            return Figure(found["generated"], unit, truth, control)

        return {self.event: figure("ms", rows(False)), f"{self.event}_frames": figure("frames", rows(True))}


class Curve(ByClip):
    """Correlation of the area curves of paired clips, mean over clips."""

    def add(self, pair: Pair) -> None:
        """Take in a pair in which both hearts are seen."""
        for reference, what in ((pair.real, "own"), (pair.other, "control")):
            generated = pair.generated
            if generated is None or reference is None or generated.reading is None or reference.reading is None:
                continue
            own, theirs = generated.cine.times_s, reference.cine.times_s
            if pair.real is not None and min(own[-1], theirs[-1]) > max(own[0], theirs[0]):
                self.keep(pair, what, heart.curve_correlation(own, generated.area, theirs, reference.area).value)

    def figures(self) -> dict[str, Figure]:
        """One figure."""
        control = mean_row(self.kept("control"))
        return {"curve": Figure(mean_row(self.kept("own")), "1", control=control if control.n else None)}

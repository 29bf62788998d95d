"""Which metric notices which harm: simulated clips against copies that are spoilt more and more."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from echogen.benchmark.markdown import table
from echogen.metrics.bootstrap import bootstrap_interval
from echogen.metrics.evaluation.clips import Clip
from echogen.metrics.evaluation.collectors import Collector, Pair
from echogen.metrics.evaluation.figures import Figure, Row
from echogen.metrics.evaluation.run import METRICS
from echogen.metrics.heart.ejection import mean_interval
from echogen.metrics.sets.features import _SHIPPED
from echogen.metrics.sets.frechet import frechet_distance
from echogen.metrics.sets.mmd import gaussian_mmd
from echogen.phantom.electrical import make_ecg
from echogen.phantom.rhythm import Rhythm, make_rhythm
from echogen.phantom.simulate import Heart, draw_heart, render, true_beats
from echogen.records import Cine, Study

Frames = NDArray[np.uint8]
FPS, FRAMES, BEFORE = 32.0, 64, 8
FIRST_SEED = 70_000
#: Figures that are shown, and whether more of them is worse (1), less (-1), or what differs from the real clips (0).
FIGURES = {
    "mse": 1, "mae": 1, "psnr": -1, "ssim": -1, "speckle": 0, "speckle_axial_px": 0, "speckle_frame_correlation": 0, "ef": 1,
    "rlvef_points": 1, "timing": -1, "cycle_correlation": -1, "ed": 1, "es": 1, "curve": -1, "echo": 1, "echo_mmd": 1,
}  # fmt: skip
#: A change by less than this part of a figure is none, however narrow its interval is.
_SLIGHT = 0.01
_NAMES = ("mse", "mae", "psnr", "ssim", "speckle", "ef", "rlvef", "timing", "ed", "es", "curve")


@dataclass(frozen=True)
class Case:
    """A heart, its clip, and the same with other speckle, also `BEFORE` frames earlier and later: what is spoilt."""

    heart: Heart
    seed: int
    study: Study
    again: Frames


def drawn(heart: Heart, seed: int, first: int = 0, count: int = FRAMES) -> Frames:
    return render(heart, (np.arange(count) + first) / FPS, seed).frames


def heart_of(rhythm: Rhythm, seed: int, ef_percent: float, view: str) -> Heart:
    return draw_heart(rhythm, np.random.default_rng(seed), ef_percent=ef_percent, view=view)


def cases(count: int) -> Iterator[Case]:
    for seed in range(FIRST_SEED, FIRST_SEED + count):
        random = np.random.default_rng(seed)
        name = str(random.choice(["sinus", "sinus", "af", "pvc"]))
        rhythm = make_rhythm(name, float(random.uniform(60, 105)), 0.0, (FRAMES + BEFORE) / FPS, random)
        heart = heart_of(rhythm, seed, float(random.uniform(38, 70)), "A4C" if seed % 3 else "A2C")
        times = np.arange(FRAMES) / FPS
        cine = Cine(drawn(heart, seed), times, mm_per_pixel=heart.probe.mm_per_pixel, view=heart.anatomy.view)
        ecg = make_ecg(rhythm, 0.0, FRAMES / FPS, random)
        study = Study(ecg, cine, heart.anatomy.ef_percent, heart.sex, true_beats(heart, times[0], times[-1]))
        yield Case(heart, seed, study, drawn(heart, seed + 1, -BEFORE, FRAMES + 2 * BEFORE))


def clip_frames(case: Case, late: int = 0) -> Frames:
    """The clip with other speckle; late: what is seen lags by so many frames."""
    return case.again[BEFORE - late : BEFORE - late + FRAMES]


def pixels(change: Callable[[NDArray[np.float64], float], NDArray[np.float64]]) -> Callable[[Case, float], Frames]:
    def changed(case: Case, amount: float) -> Frames:
        return np.clip(change(clip_frames(case).astype(np.float64), amount) + 0.5, 0, 255).astype(np.uint8)

    return changed


def shuffled(case: Case, block: float) -> Frames:
    random = np.random.default_rng(case.seed)
    order = [random.permutation(np.arange(s, min(s + int(block), FRAMES))) for s in range(0, FRAMES, int(block))]
    return clip_frames(case)[np.concatenate(order)]


def frozen(case: Case, share: float) -> Frames:
    moving = round(FRAMES * (1 - share))
    return clip_frames(case)[np.minimum(np.arange(FRAMES), moving)]


def slower(case: Case, speed: float) -> Frames:
    return clip_frames(case)[np.round(np.arange(FRAMES) * speed).astype(int)]


def other_ef(case: Case, points: float) -> Frames:
    anatomy = case.heart.anatomy
    return drawn(heart_of(case.heart.rhythm, case.seed, anatomy.ef_percent + points, anatomy.view), case.seed + 1)


def other_heart(case: Case, own_rhythm: float) -> Frames:
    """Another subject of the same view and EF, with the same beats, or with beats of its own."""
    random = np.random.default_rng(case.seed + 50_000)
    rhythm = make_rhythm("sinus", float(random.uniform(60, 105)), 0.0, (FRAMES + BEFORE) / FPS, random)
    anatomy = case.heart.anatomy
    beats = rhythm if own_rhythm else case.heart.rhythm
    return drawn(heart_of(beats, case.seed + 50_000, anatomy.ef_percent, anatomy.view), case.seed + 1)


@dataclass(frozen=True)
class Harm:
    """What is done to a clip, by amounts that grow, and what each amount is called."""

    name: str
    change: Callable[[Case, float], Frames]
    levels: dict[float, str]


HARMS = (
    Harm(
        "blur",
        pixels(lambda f, sigma: gaussian_filter(f, (0, sigma, sigma))),
        {0.5: "0.5 px", 1.0: "1 px", 2.0: "2 px"},
    ),
    Harm(
        "noise",
        pixels(lambda f, sd: f + np.random.default_rng(0).normal(0, sd, f.shape)),
        {5: "sd 5", 10: "sd 10", 20: "sd 20"},
    ),
    Harm(
        "contrast",
        pixels(lambda f, gamma: 255 * (f / 255) ** gamma),
        {1.15: "gamma 1.15", 1.35: "gamma 1.35", 1.7: "gamma 1.7"},
    ),
    Harm("frames shuffled", shuffled, {4: "within 0.125 s", 16: "within 0.5 s", 64: "all"}),
    Harm("end of the clip frozen", frozen, {0.25: "25 %", 0.5: "50 %", 1.0: "all"}),
    Harm("echo later than ECG", lambda case, n: clip_frames(case, int(n)), {1: "31 ms", 3: "94 ms", 6: "188 ms"}),
    Harm("slower playback", slower, {0.97: "x 0.97", 0.9: "x 0.9", 0.8: "x 0.8"}),
    Harm("lower EF", other_ef, {-5: "-5 points", -10: "-10 points", -20: "-20 points"}),
    Harm("another heart", other_heart, {0: "with the same beats", 1: "with other beats"}),
)


def collectors() -> dict[str, Collector]:
    names = [*_NAMES, "echo", "echo_mmd"] if (_SHIPPED / "config.json").is_file() else _NAMES
    return {name: METRICS[name].make() for name in names}


def judged(
    all_cases: Sequence[Case], real: Sequence[Clip], change: Callable[[Case], Frames], *, in_pairs: bool = False
) -> dict[str, Figure]:
    """The figures of changed copies; in_pairs: with intervals that draw a heart together with its copy."""
    own = collectors()
    for case, clip in zip(all_cases, real, strict=True):
        study = replace(case.study, cine=replace(case.study.cine, frames=change(case)))
        pair = Pair(clip, Clip.of(clip.file.name, study))
        for collector in own.values():
            collector.add(pair)
    figures = {name: figure for collector in own.values() for name, figure in collector.figures().items()}
    figures = {name: figures[name] for name in FIGURES if name in figures}
    for name, (low, high) in (paired_intervals(own) if in_pairs else {}).items():
        figures[name] = replace(figures[name], generated=replace(figures[name].generated, low=low, high=high))
    return figures


def paired_intervals(own: dict[str, Collector]) -> dict[str, tuple[float, float]]:
    """95 % intervals of the figures that compare sets, by name."""
    found: dict[str, tuple[float, float]] = {}
    generated, real = (np.array(own["speckle"].kept(side)) for side in ("generated", "real"))
    for index, name in {0: "speckle", 1: "speckle_axial_px", 3: "speckle_frame_correlation"}.items():
        low, high = mean_interval(generated[:, index] - real[:, index])
        found[name] = (real[:, index].mean() + low, real[:, index].mean() + high)
    for name, distance in {"echo": frechet_distance, "echo_mmd": gaussian_mmd}.items():
        if name in own:
            sides = [np.concatenate(own[name].kept(side)) for side in ("real", "generated")]
            found[name] = bootstrap_interval(distance, *sides, recentred=True, resamples=200)
    return found


def badness(name: str, value: float, figure: Figure) -> float:
    """A value on a scale on which more is worse."""
    if FIGURES[name]:
        return FIGURES[name] * value
    return abs(value - figure.truth.value) if figure.truth else float("nan")


def beyond(name: str, row: Row, base: Figure) -> int:
    """1 where a value lies beyond the interval of the unspoilt copies on the worse side, -1 on the better, else 0."""
    if not np.isfinite(row.value):
        return 1 if np.isfinite(base.generated.value) else 0
    change = abs(row.value - base.generated.value)
    if base.generated.low <= row.value <= base.generated.high or change < _SLIGHT * abs(base.generated.value):
        return 0
    return 1 if badness(name, row.value, base) > badness(name, base.generated.value, base) else -1


def verdict(name: str, base: Figure, rows: Sequence[Row], levels: Sequence[str]) -> str:
    """From which level on a harm is noticed, and whether it is blind to it or deceived by it."""
    sides = [beyond(name, row, base) for row in rows]
    worse = [badness(name, row.value, base) for row in (base.generated, *rows)]
    if sides[-1] > 0:
        steps = np.diff([value for value in worse if np.isfinite(value)])
        slack = 1e-9 + (base.generated.high - base.generated.low) if np.isfinite(base.generated.high) else 1e-9
        since = len(sides) - sides[::-1].index(0) if 0 in sides else 0
        since = max(since, len(sides) - sides[::-1].index(-1)) if -1 in sides else since
        if -1 in sides:
            return f"{levels[since]}, better before"
        return levels[since] if (steps >= -slack).all() else f"{levels[-1]}, not steadily"
    return "deceived" if sides[-1] < 0 else "blind"


def number(value: float) -> str:
    return "-" if not np.isfinite(value) else f"{value:.3g}"


def blindness(all_cases: Sequence[Case]) -> str:
    """The tables, as markdown."""
    real = [Clip.of(f"{case.seed}", case.study) for case in all_cases]
    base = judged(all_cases, real, clip_frames, in_pairs=True)
    parts, summary = [], []
    for harm in HARMS:
        levels = list(harm.levels.values())
        found = [judged(all_cases, real, lambda case, a=amount, h=harm: h.change(case, a)) for amount in harm.levels]
        verdicts = {name: verdict(name, base[name], [f[name].generated for f in found], levels) for name in base}
        rows = [
            [name, interval(base[name].generated), *(number(f[name].generated.value) for f in found), verdicts[name]]
            for name in base
        ]
        title = f"### {harm.name[0].upper()}{harm.name[1:]}\n\n"
        parts.append(title + table(["figure", "unspoilt (95 %)", *levels, "noticed from"], rows))
        print(parts[-1], flush=True)
        summary.append([harm.name, *(mark(verdicts[name], levels) for name in base)])
    legend = (
        "+++ the least harm is noticed, ++ the middle, + the most only; blank: blind; ! the figure gets better (first); "
        "~ moves beyond the interval, but not steadily.\n\n"
    )
    note = (
        f"{len(all_cases)} simulated hearts (seeds {FIRST_SEED}.., A4C and A2C, sinus rhythm, atrial fibrillation, premature "
        f"beats), {FRAMES} frames of 128 x 128 at {FPS:g} frames/s. Each is compared with itself drawn again with other speckle, "
        "which is what a perfect generator would give (unspoilt), and with that spoilt more and more. A figure notices a level "
        "where it lies beyond the 95 % interval of the unspoilt copies and by over 1 %, on the worse side, there and at all "
        "higher levels, and gets worse steadily. EF, beats and curves are those that the shipped segmenter measures; what was "
        "asked is the truth of the unspoilt heart. The copies are of the same hearts, so intervals draw a heart together with "
        "its copy; those of sets of different hearts are wider in speckle, echo and echo_mmd. "
        f"Command: `python benchmarks/metric_agreement.py --clips {len(all_cases)}`.\n\n"
    )
    return note + table(["harm", *base], summary) + "\n" + legend + "\n".join(parts)


def interval(row: Row) -> str:
    return f"{number(row.value)} ({number(row.low)}..{number(row.high)})"


def mark(says: str, levels: Sequence[str]) -> str:
    level = says.removesuffix(", better before")
    if level in levels:
        return "!" * (level != says) + "+" * (len(levels) - levels.index(level))
    return {"blind": "", "deceived": "!"}.get(says, "~")

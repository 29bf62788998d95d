"""A folder of generated videos against a folder of real ones: every metric that is known, in one pass over the clips.

A metric gives one figure under its own name and, where one number is not enough, more whose names begin with it or say what they
are. `METRICS` is the list; a metric is added by one line there.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from echogen.errors import InputError
from echogen.metrics.clips import Clip, find_clips
from echogen.metrics.collectors import Collector, Pair, Picture, Speckle
from echogen.metrics.features import (
    EchoClipFeatures,
    FeatureNetwork,
    Features,
    I3dFeatures,
    InceptionFeatures,
    LearnedPerceptualDistance,
    features_of,
)
from echogen.metrics.figures import Figure, Row
from echogen.metrics.frechet import FrechetDistance, frechet_interval
from echogen.metrics.heart_collectors import Curve, Ejection, Phases, Reconstruction, Timing
from echogen.metrics.image import MeanAbsoluteError, MeanSquaredError, PeakSignalToNoise, StructuralSimilarity

#: Intervals of a distance between sets are resampled up to so many dimensions; beyond them that takes an hour.
_MOST_DIMS_FOR_INTERVAL = 512

Progress = Callable[[float, float], None]


class SetDistance:
    """Fréchet distance between the features of all generated and all real clips.

    Truth: between every other real clip and the rest, each half of the set, which makes it larger. FVD takes ddof 0 as published.
    """

    def __init__(self, name: str, network: Callable[[], Any], ddof: int = 1) -> None:
        self.name, self.ddof = name, ddof
        self._network: FeatureNetwork = network()
        self._real: list[Features] = []
        self._generated: list[Features] = []

    def add(self, pair: Pair) -> None:
        """Take in every clip that is long enough; of a real one, frames from a random place, as published protocols do."""
        for clip, found, at_random in ((pair.real, self._real, True), (pair.generated, self._generated, False)):
            if clip is None:
                continue
            cine = replace(clip.cine, frames=clip.canonical)
            try:
                found.append(features_of(self._network, [cine], seed=len(found) if at_random else None))
            except InputError:  # too short
                continue

    def figures(self) -> dict[str, Figure]:
        """One figure, with a note where it is biased."""
        row, note = self._between(self._real, self._generated)
        truth, _ = self._between(self._real[::2], self._real[1::2])
        return {self.name: Figure(row, "1", truth if truth.n else None, note=note)}

    def _between(self, reference: list[Features], generated: list[Features]) -> tuple[Row, str | None]:
        distance = FrechetDistance(self.ddof)
        for features in reference:
            distance.update(features, reference=True)
        for features in generated:
            distance.update(features)
        if distance.n < 2:
            frames = self._network.frames
            return Row(n=0), f"Too few videos of at least {frames} frames; give more or longer ones."
        low = high = float("nan")
        if self._network.dims <= _MOST_DIMS_FOR_INTERVAL and min(len(reference), len(generated)) > 2:
            low, high = frechet_interval(np.concatenate(reference), np.concatenate(generated), ddof=self.ddof)
        return Row(distance.compute(), low, high, distance.n), distance.note()


@dataclass(frozen=True)
class Metric:
    """make: a new collector; raises `InputError` where weights are missing. paired: needs clips of one name on both sides."""

    make: Callable[[], Collector]
    paired: bool
    says: str


METRICS: dict[str, Metric] = {
    "mse": Metric(lambda: Picture("mse", "1", MeanSquaredError), True, "mean squared error of grey values 0..1"),
    "mae": Metric(lambda: Picture("mae", "1", MeanAbsoluteError), True, "mean absolute error of grey values 0..1"),
    "psnr": Metric(lambda: Picture("psnr", "dB", PeakSignalToNoise), True, "peak signal-to-noise ratio"),
    "ssim": Metric(lambda: Picture("ssim", "1", StructuralSimilarity), True, "structural similarity"),
    "lpips": Metric(lambda: Picture("lpips", "1", LearnedPerceptualDistance), True, "perceptual distance (published weights)"),
    "fid": Metric(lambda: SetDistance("fid", InceptionFeatures), False, "Fréchet distance of frames (published weights)"),
    "fvd": Metric(lambda: SetDistance("fvd", I3dFeatures, 0), False, "of 16 frames (published weights)"),
    "fvd64": Metric(lambda: SetDistance("fvd64", partial(I3dFeatures, frames=64), 0), False, "of 64 frames (published weights)"),
    "echo": Metric(lambda: SetDistance("echo", EchoClipFeatures), False, "Fréchet echo distance, on echogen's own features"),
    "speckle": Metric(Speckle, False, "speckle of the myocardium"),
    "ef": Metric(Ejection, False, "EF seen against EF asked for"),
    "rlvef": Metric(Reconstruction, True, "EF against that of the real clip"),
    "timing": Metric(Timing, False, "beats of the video against the ECG's"),
    "ed": Metric(lambda: Phases("ed"), True, "error of end-diastole"),
    "es": Metric(lambda: Phases("es"), True, "error of end-systole"),
    "curve": Metric(Curve, True, "correlation of the ventricle's area with that of the real clip"),
}


def chosen_metrics(names: str | Sequence[str]) -> list[str]:
    """The metrics named in a list, or in a text with commas between them, each once, in the order of `METRICS`.

    Raises `InputError` for an unknown name, with the one that is nearest, and for none.
    """
    given = names.split(",") if isinstance(names, str) else list(names)
    given = [name.strip().lower() for name in given if name.strip()]
    for name in given:
        if name not in METRICS:
            near = difflib.get_close_matches(name, METRICS, n=1, cutoff=0.5)
            guess = f"did you mean {near[0]}? " if near else ""
            raise InputError(f"There is no metric {name!r}; {guess}Known are {', '.join(METRICS)}.")
    if not given:
        raise InputError(f"No metric is named; known are {', '.join(METRICS)}.")
    return [name for name in METRICS if name in given]


@dataclass(frozen=True)
class Evaluation:
    """figures: by name, every metric's own first. n_real, n_generated, n_paired: clips."""

    figures: dict[str, Figure]
    n_real: int
    n_generated: int
    n_paired: int

    def to_json(self) -> dict[str, Any]:
        """One object per figure (see `Figure.to_json`), and `clips` with the counts."""
        document: dict[str, Any] = {name: figure.to_json() for name, figure in self.figures.items()}
        document["clips"] = {"real": self.n_real, "generated": self.n_generated, "paired": self.n_paired}
        return document


def evaluate(
    real: str | Path, generated: str | Path, metrics: Sequence[str] | None = None, progress: Progress | None = None
) -> Evaluation:
    """Compare a folder of generated videos with a folder of real ones.

    real, generated: folders as `find_clips` reads them; clips of one name belong together. What was asked of a generated clip is
    read from NAME.json beside it (as `generate` writes it: `settings.ef_percent`, `r_s`, `video_start_s`) or, for simulated ones,
    from truth.json. metrics: names in `METRICS`; None is all of them, of which those that cannot be had here (weights missing, no
    names in common) are given with a note instead of a value. progress: called with (done, total).
    Raises `InputError` for folders without clips, a file that cannot be used, an unknown metric, or one that cannot be had.
    """
    names = list(METRICS) if metrics is None else chosen_metrics(metrics)
    of_real, of_generated = find_clips(real), find_clips(generated)
    common = of_real.keys() & of_generated.keys()
    collectors: dict[str, Collector] = {}
    missing: dict[str, Figure] = {}
    for name in names:
        try:
            if METRICS[name].paired and not common:
                raise InputError(
                    f"{name} compares clips of one name, but {real} and {generated} have no name in common; name them alike "
                    f"(there are {next(iter(of_real))} and {next(iter(of_generated))}), or choose other metrics."
                )
            collectors[name] = METRICS[name].make()
        except InputError as error:
            if metrics is not None:
                raise
            missing[name] = Figure(Row(), "1", note=str(error))
    everything = sorted(of_real.keys() | of_generated.keys())
    before: Clip | None = None
    for done, name in enumerate(everything):
        pair = Pair(
            Clip(of_real[name]) if name in of_real else None,
            Clip(of_generated[name]) if name in of_generated else None,
            before if name in common else None,
        )
        for collector in collectors.values():
            collector.add(pair)
        before = pair.real or before
        if progress is not None:
            progress(done + 1, len(everything))
    figures: dict[str, Figure] = {}
    for name in names:
        figures |= {name: missing[name]} if name in missing else collectors[name].figures()
    return Evaluation(figures, len(of_real), len(of_generated), len(common))

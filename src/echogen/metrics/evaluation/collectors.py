"""Collectors of picture and speckle figures from pairs of clips, real and generated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from echogen.arrays import ByteArray
from echogen.errors import InputError
from echogen.metrics.bootstrap import bootstrap_interval
from echogen.metrics.evaluation.clips import Clip, same_moments
from echogen.metrics.evaluation.figures import Figure, Row, mean_row
from echogen.metrics.pictures.likeness import ClipMetric
from echogen.metrics.pictures.speckle import speckle_statistics
from echogen.records import STRUCTURES

#: Frames of a clip from which its speckle is taken.
_SPECKLE_FRAMES = 16


@dataclass(frozen=True)
class Pair:
    """A real and a generated clip of one name; either may be missing. other: the real clip before, as a control."""

    real: Clip | None
    generated: Clip | None
    other: Clip | None = None

    @property
    def name(self) -> str:
        """Name of both clips."""
        clip = self.real or self.generated
        assert clip is not None
        return clip.file.name

    @cached_property
    def frames(self) -> tuple[ByteArray, ByteArray]:
        """(real, generated) frames of the same moments, of equal shape."""
        return _same_frames(self.real, self.generated, on_one_clock=True)

    @cached_property
    def control_frames(self) -> tuple[ByteArray, ByteArray]:
        """(another real, generated) frames, each from its start."""
        return _same_frames(self.other, self.generated, on_one_clock=False)


def _same_frames(first: Clip | None, second: Clip | None, on_one_clock: bool) -> tuple[ByteArray, ByteArray]:
    assert first is not None
    assert second is not None
    cines = [first.cine, second.cine]
    if not on_one_clock:
        cines = [replace(cine, times_s=cine.times_s - cine.times_s[0]) for cine in cines]
    a, b = same_moments(*cines)
    if not len(a):
        raise InputError(
            f"{first.file.video} and {second.file.video} show no moment that both have (they start at "
            f"{first.cine.times_s[0]:.2f} and {second.cine.times_s[0]:.2f} s); pair clips of one part of the ECG."
        )
    if first.cine.frames.shape[1:] == second.cine.frames.shape[1:]:
        return first.cine.frames[a], second.cine.frames[b]
    return first.canonical[a], second.canonical[b]


class Collector(Protocol):
    """One metric: takes in pair after pair, and says its figures by name in the end."""

    def add(self, pair: Pair) -> None:
        """Take in one pair, either clip of which may be missing."""

    def state(self) -> dict[str, Any]:
        """Return the collected values by clip for another process: plain data that can be pickled."""

    def merge_state(self, state: Mapping[str, Any]) -> None:
        """Take in what another process has seen."""

    def figures(self) -> dict[str, Figure]:
        """The figures, the first one under the metric's own name."""


class ByClip:
    """Values that a collector keeps for each clip, under the clip's name.

    Parts seen by many processes, each with clips of its own, make the very evaluation that one process would have made,
    in any order.
    """

    def __init__(self) -> None:
        self._kept: dict[str, dict[str, Any]] = {}

    def keep(self, pair: Pair, what: str, value: Any) -> None:
        """Keep something of a pair."""
        self._kept.setdefault(pair.name, {})[what] = value

    def kept(self, what: str) -> list[Any]:
        """That of all pairs that have it, in order of their names."""
        return [row[what] for _, row in sorted(self._kept.items()) if what in row]

    def state(self) -> dict[str, Any]:
        """Return the kept values by clip."""
        return dict(self._kept)

    def merge_state(self, state: Mapping[str, Any]) -> None:
        """Take in what another process has kept."""
        self._kept |= state


class Picture(ByClip):
    """A picture metric of paired clips, frame by frame; the control compares with the real clip before."""

    def __init__(self, name: str, unit: str, metric: Callable[[], ClipMetric]) -> None:
        super().__init__()
        self.name, self.unit, self._metric = name, unit, metric()

    def add(self, pair: Pair) -> None:
        """Take in a pair; without both clips there is nothing to compare."""
        if pair.real is None or pair.generated is None:
            return
        real, generated = pair.frames
        self.keep(pair, "own", self._metric.measure(generated, real))
        if pair.other is not None:
            other, generated = pair.control_frames
            self.keep(pair, "control", self._metric.measure(generated, other))

    def figures(self) -> dict[str, Figure]:
        """One figure; that of equal clips may be infinite, which is not known."""
        summary = self._metric.summary

        def row(values: list[float]) -> Row:
            return Row(summary(values), *bootstrap_interval(summary, np.sort(values)), len(values)) if values else Row()

        control = row(self.kept("control"))
        return {self.name: Figure(row(self.kept("own")), self.unit, control=control if control.n else None)}


class Speckle(ByClip):
    """Speckle of the myocardium: contrast, widths, and correlation from frame to frame; the truth's row is the real clips."""

    def add(self, pair: Pair) -> None:
        """Take in every clip in which a heart is seen."""
        for clip, side in ((pair.generated, "generated"), (pair.real, "real")):
            if clip is not None and clip.reading is not None:
                frames, masks = clip.canonical[:_SPECKLE_FRAMES], clip.masks[:_SPECKLE_FRAMES]
                s = speckle_statistics(frames, masks == STRUCTURES["myocardium"])
                self.keep(pair, side, (s.contrast, s.axial_px, s.lateral_px, s.frame_correlation))

    def figures(self) -> dict[str, Figure]:
        """Four figures, to be compared with the truth's: nearer to it is better."""
        own, real = (np.array(self.kept(side)).reshape(-1, 4).T for side in ("generated", "real"))
        names = {"speckle": "1", "speckle_axial_px": "px", "speckle_lateral_px": "px", "speckle_frame_correlation": "1"}
        return {
            name: Figure(mean_row(own[index]), unit, mean_row(real[index])) for index, (name, unit) in enumerate(names.items())
        }

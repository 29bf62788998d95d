"""Collectors of the effects of rhythm on simulated hearts: beats that hardly eject, drift, premature beats, late filling."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from echogen.arrays import Floats
from echogen.measurement.beats import SMALLEST_STROKE
from echogen.measurement.matching import MARGIN_S, match_beats
from echogen.metrics.evaluation.clips import Clip
from echogen.metrics.evaluation.collectors import ByClip, Pair
from echogen.metrics.evaluation.figures import Figure, pooled_row
from echogen.metrics.heart import agreement as heart
from echogen.metrics.heart.timing import timing_report
from echogen.records import Beat


def _expected(clip: Clip) -> list[Beat]:
    """True beats that a video must show: those whose ED and whose ES with a margin lie inside it."""
    start, end = float(clip.cine.times_s[0]), float(clip.cine.times_s[-1])
    return [beat for beat in clip.true_beats if beat.ed_s >= start and start + MARGIN_S <= beat.es_s <= end - MARGIN_S]


def _stroke_ml(beat: Beat) -> float:
    return float("nan") if beat.edv_ml is None or beat.esv_ml is None else beat.edv_ml - beat.esv_ml


class EjectingBeats(ByClip):
    """Share of matched beats among the true ones that eject enough of a usual stroke to be seen on a volume curve.

    An early beat of a heart that has hardly filled contracts without ejecting: it has an end-systole, but nothing shows it.
    """

    def add(self, pair: Pair) -> None:
        """Take in the generated clip of a pair."""
        clip = pair.generated
        if clip is None:
            return
        expected = _expected(clip)
        if not expected:
            return
        usual = float(np.median([_stroke_ml(beat) for beat in clip.true_beats]))
        matched = {true for _, true in match_beats([beat.es_s for beat in clip.beats], [beat.es_s for beat in expected]).pairs}
        ejects = [i for i, beat in enumerate(expected) if _stroke_ml(beat) >= SMALLEST_STROKE * usual]
        if ejects:
            self.keep(pair, "matched", np.array([float(i in matched) for i in ejects]))

    def figures(self) -> dict[str, Figure]:
        """Return the figures over all clips, with intervals."""
        return {"timing_ejecting": Figure(pooled_row(lambda values: float(values.mean()), self.kept("matched")), "1")}


class Drift(ByClip):
    """Drift of the end-systolic error within a clip, the median over clips; and all errors of end-systole, for plots."""

    def add(self, pair: Pair) -> None:
        """Take in the generated clip of a pair."""
        clip = pair.generated
        if clip is None:
            return
        expected = [beat.es_s for beat in _expected(clip)]
        self.keep(pair, "drift", timing_report([beat.es_s for beat in clip.beats], expected).drift_ms_per_s)
        self.keep(pair, "es_ms", 1000.0 * heart.phase_differences(clip.beats, clip.true_beats)[1])

    def figures(self) -> dict[str, Figure]:
        """Return the figures over all clips, with intervals."""
        known = [np.array([value]) for value in self.kept("drift") if np.isfinite(value)]
        return {"drift_ms_per_s": Figure(pooled_row(_median, known), "ms/s")}


class PrematureStroke(ByClip):
    """Stroke volume of premature beats over that of the clip's normal beats, and in atrial fibrillation that after each RR."""

    def add(self, pair: Pair) -> None:
        """Take in the generated clip of a pair."""
        clip = pair.generated
        if clip is None or clip.r_s is None:
            return
        if clip.rhythm == "af":
            self.keep(pair, "af", np.stack(heart.strokes_and_rr(clip.beats, clip.r_s), axis=1))
        elif clip.rhythm == "pvc":
            strokes: dict[bool, list[float]] = {True: [], False: []}
            for own, true in heart.beat_pairs(clip.beats, clip.true_beats):
                beat = clip.beats[own]
                if beat.edv_ml is not None and beat.esv_ml is not None:
                    strokes[clip.beat_kinds[true] == "pvc"].append(beat.edv_ml - beat.esv_ml)
            if strokes[True] and strokes[False]:
                self.keep(pair, "pvc", np.array(strokes[True]) / np.median(strokes[False]))

    def figures(self) -> dict[str, Figure]:
        """Return the figures over all clips, with intervals."""

        def together(pairs: Floats) -> float:
            return heart.correlation(pairs[:, 0], pairs[:, 1]).value

        return {
            "pvc_stroke": Figure(pooled_row(lambda values: float(values.mean()), self.kept("pvc")), "1"),
            "af_stroke_rr": Figure(pooled_row(together, self.kept("af")), "1"),
        }


class LateFilling(ByClip):
    """Share of a stroke that flows in during the last 0.16 s before end-diastole, after a diastole long enough to tell.

    In sinus rhythm the atria do that; in atrial fibrillation nothing does. Where another beat of the heart, which ejects too
    little to be seen, interrupts what looks like one long diastole, filling begins anew after it: that is none.
    """

    #: Time in s before end-diastole in which the atria contract.
    WINDOW_S = 0.16
    #: Length in s of a diastole from which late filling can be told from early filling.
    LEAST_DIASTOLE_S = 0.5
    #: Time in s within which a true end-systole is that of the beat seen.
    SAME_BEAT_S = 0.1

    def add(self, pair: Pair) -> None:
        """Take in the generated clip of a pair."""
        clip = pair.generated
        if clip is None or clip.rhythm not in ("af", "sinus") or clip.reading is None:
            return
        times, volume = clip.reading.times_s, clip.reading.volume_ml
        assert volume is not None
        shares = []
        for before, beat in pairwise(clip.beats):
            if beat.ed_s - before.es_s < self.LEAST_DIASTOLE_S:
                continue
            if any(before.es_s + self.SAME_BEAT_S < true.es_s < beat.ed_s for true in clip.true_beats):
                continue
            start, end, least = np.interp([beat.ed_s - self.WINDOW_S, beat.ed_s, before.es_s], times, volume)
            if end > least:
                shares.append((end - start) / (end - least))
        if shares:
            self.keep(pair, clip.rhythm, np.array(shares))

    def figures(self) -> dict[str, Figure]:
        """Return the figures over all clips, with intervals."""
        return {f"late_filling_{rhythm}": Figure(pooled_row(_median, self.kept(rhythm)), "1") for rhythm in ("sinus", "af")}


def _median(values: Floats) -> float:
    return float(np.median(values))

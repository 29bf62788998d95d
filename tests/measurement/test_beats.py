import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from echogen.measurement import beats as rule
from echogen.measurement.beats import find_beats, smooth_volume, typical_period_s
from echogen.measurement.matching import match_beats

RHYTHMS = ("sinus", "atrial fibrillation", "premature beats")


@pytest.mark.parametrize("rhythm", RHYTHMS)
def test_beats_of_noisy_curves_are_found_at_their_time(heart, rhythm):
    expected = matched = false = 0
    errors, shifts = [], []
    for rate in (45, 60, 75, 90, 120, 150):
        for ef in (20, 40, 55, 75):
            for seed in range(2):
                truth = heart(rate, ef, rhythm, noise=0.01, seed=seed)
                found = find_beats(truth.times_s, truth.volume_ml)
                es = np.array([beat.es_s for beat in found])
                wanted = np.flatnonzero(truth.beats_to_find())
                pairs = match_beats(es, truth.clock.avc_s[wanted], 0.100)
                expected += len(wanted)
                matched += len(pairs.pairs)
                errors.append(pairs.error_s)
                # A beat that ejects too little to be asked for is no false one when found.
                false += len(es) - len(match_beats(es, truth.clock.avc_s, 0.140).pairs)
                shifts += [
                    found[i].ef_percent - 100 * (1 - truth.esv_ml[wanted[k]] / truth.edv_ml[wanted[k]]) for i, k in pairs.pairs
                ]
    error = np.concatenate(errors)
    assert matched >= 0.97 * expected
    assert false <= 0.002 * expected
    assert np.median(np.abs(error)) < 0.015
    assert abs(np.median(error)) < 0.010
    assert np.median(np.abs(shifts)) < 2.0


def test_volumes_of_a_clean_curve_are_exact(heart):
    truth = heart(70, 60)
    found = find_beats(truth.times_s, truth.volume_ml)
    assert np.allclose([beat.edv_ml for beat in found], 120, atol=3)
    assert np.allclose([beat.esv_ml for beat in found], 48, atol=3)


@settings(max_examples=40, deadline=None)
@given(st.floats(45, 140), st.floats(25, 75), st.floats(24, 60), st.integers(0, 1000))
@example(45.0, 25.0, 50.0, 0)
@example(45.0, 25.0, 50.0, 16)
@example(45.0, 25.0, 50.0, 224)
def test_beats_alternate_lie_inside_and_scale(heart, rate, ef, fps, seed):
    truth = heart(rate, ef, fps=fps, seconds=5, noise=0.005, seed=seed)
    found = find_beats(truth.times_s, truth.volume_ml)
    assert found
    times = [t for beat in found for t in (beat.ed_s, beat.es_s)]
    assert times == sorted(times)
    assert truth.times_s[0] <= times[0]
    assert times[-1] <= truth.times_s[-1]
    # Neither the unit of the volume nor the origin of the clock matters.
    other = find_beats(truth.times_s + 100, truth.volume_ml * 0.37)
    assert np.allclose([b.es_s + 100 for b in found], [b.es_s for b in other], atol=1e-6)
    assert np.allclose([b.ef_percent for b in found], [b.ef_percent for b in other])


def test_noise_without_a_heart_has_no_beats():
    times = np.arange(0, 10, 1 / 32)
    for seed in range(20):
        random = np.random.default_rng(seed)
        assert find_beats(times, 100 + random.standard_normal(len(times))) == ()
    assert find_beats(times, np.full(len(times), 90.0)) == ()
    assert find_beats(times[:3], np.array([1.0, 2.0, 1.0])) == ()


def test_beats_cut_by_the_clip_are_left_out(heart):
    truth = heart(60, 60, seconds=8)
    avc = truth.clock.avc_s
    middle = avc[(avc > 3) & (avc < 5)][0]
    early = truth.times_s < middle - 0.15  # the clip stops in mid-ejection
    late = truth.times_s > middle - 0.15  # the clip starts in mid-ejection
    before = [beat.es_s for beat in find_beats(truth.times_s[early], truth.volume_ml[early])]
    after = [beat.es_s for beat in find_beats(truth.times_s[late], truth.volume_ml[late])]
    assert before
    assert after
    assert max(before) < middle - 0.5
    assert min(after) > middle + 0.5


def test_a_clip_that_starts_at_the_r_peak_keeps_its_first_beat(heart):
    truth = heart(66, 55, seconds=8)
    beat = np.flatnonzero((truth.clock.ed_s > 1) & (truth.clock.ed_s < 3))[0]
    part = truth.times_s >= truth.clock.qrs_onset_s[beat] + 0.040
    first = find_beats(truth.times_s[part], truth.volume_ml[part])[0]
    assert abs(first.es_s - truth.clock.avc_s[beat]) < 0.03


def test_r_peaks_go_to_their_beats(heart):
    truth = heart(80, 55)
    r = truth.clock.qrs_onset_s + 0.040
    found = find_beats(truth.times_s, truth.volume_ml, r_s=r)
    for beat in found:
        k = int(np.argmin(np.abs(truth.clock.avc_s - beat.es_s)))
        assert beat.r_s == pytest.approx(r[k])
    missing = find_beats(truth.times_s, truth.volume_ml, r_s=[r[0] - 50])
    assert all(beat.r_s is None for beat in missing)


def test_offsets_are_those_of_the_truth_curves(heart):
    es_offsets, ed_offsets = [], []
    for rate in range(40, 151, 10):
        for ef in (15, 35, 55, 75):
            truth = heart(rate, ef, fps=200, seconds=5)
            found = find_beats(truth.times_s, truth.volume_ml, es_offset_s=0.0)
            nearest = [int(np.argmin(np.abs(truth.clock.avc_s - rule.ES_OFFSET_S - beat.es_s))) for beat in found]
            es_offsets.append(np.median([truth.clock.avc_s[k] - b.es_s for k, b in zip(nearest, found, strict=True)]))
            ed_offsets.append(np.median([b.ed_s - truth.clock.ed_s[k] for k, b in zip(nearest, found, strict=True)]))
    assert np.median(es_offsets) == pytest.approx(rule.ES_OFFSET_S, abs=0.004)
    assert np.median(ed_offsets) == pytest.approx(0.0, abs=0.006)


def test_smoothing_keeps_extrema_and_drops_spikes(heart):
    truth = heart(70, 60)
    smooth = smooth_volume(truth.times_s, truth.volume_ml)
    assert smooth.max() == pytest.approx(truth.volume_ml.max(), abs=2)
    assert smooth.min() == pytest.approx(truth.volume_ml.min(), abs=2)
    spiked = truth.volume_ml.copy()
    spiked[[50, 150]] += (200, -90)
    # Without care the first alone would add nearly half of itself.
    assert np.abs(smooth_volume(truth.times_s, spiked) - smooth).max() < 12


def test_period_of_a_regular_heart(heart):
    for rate in (45, 72, 120):
        truth = heart(rate, 55, noise=0.01)
        assert typical_period_s(truth.times_s, truth.volume_ml) == pytest.approx(60 / rate, rel=0.08)


@pytest.mark.parametrize("rhythm", ["sinus", "premature beats"])
@pytest.mark.parametrize("ef_percent", [25.0, 45.0, 65.0])
@pytest.mark.parametrize("rate_bpm", [55.0, 72.0, 90.0])
def test_eight_frames_a_second_are_enough_for_beats(heart, rate_bpm, ef_percent, rhythm):
    found, expected, off, fractions = 0, 0, [], []
    for seed in range(6):
        made = heart(rate_bpm, ef_percent, rhythm, fps=8.0, seconds=6.0, noise=0.02, seed=seed)
        beats = find_beats(made.times_s, made.volume_ml)
        truth = made.clock.avc_s[made.beats_to_find()]
        expected += len(truth)
        for moment in truth:
            near = [beat for beat in beats if abs(beat.es_s - moment) < 0.2]
            found += bool(near)
            if near:
                off.append(abs(near[0].es_s - moment))
                fractions.append(near[0].ef_percent)
    assert found >= 0.8 * expected
    assert np.median(off) < 0.07
    assert np.median(fractions) == pytest.approx(ef_percent, abs=8)


def test_slow_noise_holds_no_beats():
    random = np.random.default_rng(0)
    times = np.arange(16) / 8.0
    beats = [find_beats(times, 100 + 2.0 * random.standard_normal(16)) for _ in range(50)]
    assert sum(len(found) > 0 for found in beats) <= 5

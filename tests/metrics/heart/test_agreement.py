import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echogen.errors import InputError
from echogen.metrics.heart import agreement as heart
from echogen.metrics.heart import volumes
from echogen.metrics.heart.ejection import ejection_report, reconstructed_ejection
from echogen.metrics.heart.timing import expected_es, no_ecg_control, shuffled_control
from echogen.physiology import Filling, beat_clock, beat_volumes, volume_curve
from echogen.records import STRUCTURES, Beat

RR = st.lists(st.floats(0.45, 1.4), min_size=4, max_size=12)


def beats_at(r_s, es_delay=0.36, edv=120.0, esv=50.0):
    return [Beat(float(r), float(r) + es_delay, edv, esv, float(r)) for r in r_s]


def moved(beats, seconds):
    return [Beat(b.ed_s + seconds, b.es_s + seconds, b.edv_ml, b.esv_ml, b.r_s) for b in beats]


@settings(max_examples=12)
@given(RR, st.floats(-0.15, 0.15))
def test_a_shift_of_all_beats_is_the_error_of_ed_and_es(rr, shift):
    truth = beats_at(np.cumsum(rr))
    report = heart.phase_errors(moved(truth, shift), truth, fps=32.0)
    for event in (report.ed, report.es):
        assert event.n == len(truth)
        assert event.mean_abs_ms == pytest.approx(abs(shift) * 1000, abs=1e-6)
        assert event.mean_abs_frames == pytest.approx(abs(shift) * 32, abs=1e-6)
        assert event.bias_ms == pytest.approx(shift * 1000, abs=1e-6)
    if abs(abs(shift) - 0.08) > 1e-6:
        assert report.matched_fraction == (1.0 if abs(shift) < 0.08 else 0.0)


def test_errors_of_equal_beats_are_zero_and_of_no_beats_unknown():
    truth = beats_at(np.arange(5) * 0.8)
    same = heart.phase_errors(truth, truth, 50.0)
    assert (same.ed.mean_abs_ms, same.es.mean_abs_frames, same.es.interval_ms) == (0, 0, (0, 0))
    none = heart.phase_errors([], truth, 50.0)
    assert none.n == 0
    assert none.matched_fraction == 0
    assert np.isnan(none.es.mean_abs_ms)


@settings(max_examples=12)
@given(RR, st.floats(-0.04, 0.06), st.floats(-0.1, 0.1))
def test_delays_from_the_r_peak_against_the_truth(rr, later_ed, later_es):
    r_s = np.cumsum(rr)
    truth = [Beat(r + 0.01, r + 0.36) for r in r_s]
    video = [Beat(r + 0.01 + later_ed, r + 0.36 + later_es) for r in r_s]
    ed, es = heart.delay_errors(video, truth, r_s)
    assert ed.n == es.n == len(r_s)
    assert (ed.truth_median_ms, es.truth_median_ms) == pytest.approx((10, 360))
    assert (ed.median_ms, es.median_ms) == pytest.approx((10 + 1000 * later_ed, 360 + 1000 * later_es))
    assert (ed.mean_abs_ms, es.mean_abs_ms) == pytest.approx((abs(1000 * later_ed), abs(1000 * later_es)), abs=1e-6)
    assert heart.delay_errors(video, truth, [])[0].n == 0


def test_cycles_are_compared_only_between_neighbouring_beats_that_both_have():
    rr = np.array([0.8, 0.6, 1.1, 0.7, 0.9, 0.8, 1.0, 0.75])
    es = np.cumsum(rr)
    same = heart.cycle_correlation(es + 0.02, es)
    assert (same.value, same.n) == (pytest.approx(1), 7)
    assert heart.cycle_correlation(np.delete(es, 3), es).n == 5
    steady = heart.cycle_correlation(np.arange(8) * 0.83 + 0.8, es)
    assert np.isnan(steady.value) or abs(steady.value) < 0.9
    random = np.random.default_rng(0)
    a = random.normal(size=400)
    found = heart.correlation(a, a + random.normal(size=400))
    assert found.low < np.sqrt(0.5) < found.high
    assert found.high - found.low < 0.15


def test_curves_are_compared_on_one_clock():
    r_s = np.cumsum([0.8, 0.9, 0.7, 0.8, 1.0])
    clock = beat_clock(r_s - 0.04, r_s - 0.2)
    curve = volume_curve(np.arange(1, 4, 0.002), clock, np.full(5, 120.0), np.full(5, 50.0))
    fine, times = np.arange(1, 4, 0.002), np.arange(0.5, 3.5, 1 / 32)
    video = np.interp(times, fine, curve)
    same = heart.curve_correlation(times, 0.03 * video + 2, fine, curve)
    assert same.value > 0.9999
    assert same.n == np.sum(times >= 1)
    late = heart.curve_correlation(times + 0.2, video, fine, curve)
    assert late.value < 0.7
    assert np.isnan(heart.curve_correlation(times, np.ones(len(times)), fine, curve).value)


def test_stroke_volume_follows_an_ectopic_rhythm_and_not_a_repeated_beat():
    rr = np.tile([0.8, 0.8, 0.5, 1.1], 4)
    r_s = np.cumsum(rr)
    clock = beat_clock(r_s - 0.04, r_s - 0.2)
    edv, esv = beat_volumes(clock, 120.0, 50.0, Filling())
    beats = [Beat(*values) for values in zip(clock.ed_s, clock.avc_s, edv, esv, strict=True)]
    follows = heart.ectopic_response(beats, r_s)
    assert follows.value > 0.6
    assert follows.low > 0
    assert follows.n == len(r_s) - 1
    random = np.random.default_rng(0)
    blind = [Beat(b.ed_s, b.es_s, 120.0, 50.0 + random.normal()) for b in beats]
    assert heart.ectopic_response(blind, r_s).value < 0.6
    assert heart.ectopic_response([Beat(1.0, 1.3)], r_s).n == 0


@settings(max_examples=12)
@given(st.floats(-0.5, 1.5))
def test_slope_of_end_systole_on_a_moved_r_wave(slope):
    moves = np.array([-0.12, -0.06, 0.0, 0.05, 0.11, 0.15])
    before = np.linspace(1, 5, 6)
    found = heart.shift_response(moves, before, before + slope * moves + 0.01)
    assert found.slope == pytest.approx(slope, abs=1e-9)
    assert found.n == 6
    noisy = heart.shift_response(moves, before, before + moves + np.array([0.01, -0.01, 0.01, -0.01, 0.01, -0.01]))
    assert noisy.low < 1 < noisy.high
    assert np.isnan(heart.shift_response([0.1, 0.1], [1, 2], [1, 2]).slope)


def test_controls_lie_at_chance_and_the_truth_far_above():
    class Marks:
        r_s = np.cumsum(np.random.default_rng(1).normal(0.8, 0.07, 40))
        qrs_onset_s = r_s - 0.04
        wide_qrs = False

    es, end = expected_es(Marks()), float(Marks.r_s[-1])
    for control in (
        shuffled_control(es, Marks.qrs_onset_s, 0.0, end),
        no_ecg_control(es + 0.3, es, 0.0, end),
    ):
        assert control.chance == pytest.approx(0.2, abs=0.02)
        assert control.low <= control.matched_fraction <= control.high
        assert control.matched_fraction == pytest.approx(control.chance, abs=0.12)
    assert shuffled_control(es, [], 0.0, end).n == 0
    assert no_ecg_control(es, es[:1], 0.0, end).n == 0


def ellipse(long_px, short_px, tilt=0.0, size=320):
    rows, columns = np.mgrid[:size, :size] - (size / 2 - 0.3)
    along, across = rows * np.cos(tilt) + columns * np.sin(tilt), columns * np.cos(tilt) - rows * np.sin(tilt)
    return ((along / long_px) ** 2 + (across / short_px) ** 2 <= 1).astype(np.uint8) * np.uint8(STRUCTURES["lv"])


@pytest.mark.parametrize("tilt", [-0.4, 0.0, 0.25])
def test_discs_and_area_length_agree_on_an_ellipsoid(tilt):
    mask = ellipse(120.0, 55.0, tilt)[None]
    volume = 4 / 3 * np.pi * 120 * 55**2 * 0.4**3 / 1000
    simpson, area_length = (volumes.cavity_sizes(mask, 0.4, method)[0] for method in ("simpson", "area-length"))
    assert simpson == pytest.approx(area_length, rel=0.01)
    assert simpson == pytest.approx(volume, rel=0.01)


def test_discs_are_exact_where_area_length_is_not():
    # A cone, apex up: area-length takes it for an ellipsoid.
    rows, columns = np.mgrid[:320, :320]
    mask = ((rows >= 40) & (rows < 280) & (np.abs(columns - 160) <= (rows - 40) / 4)).astype(np.uint8)
    diameters, length = volumes.lv_discs(mask[None], 1.0)
    assert (np.diff(diameters[0][1:-1]) < 0).all()
    assert volumes.disc_volume_ml(diameters, length)[0] == pytest.approx(np.pi * 60**2 * 240 / 3000, rel=0.03)
    assert volumes.cavity_sizes(mask[None])[0] != pytest.approx(np.pi * 60**2 * 240 / 3000, rel=0.03)
    # With an atrium below, the length starts at the mitral plane, and nothing of the area is lost.
    cut = ellipse(120.0, 55.0, 0.1)
    cut[210:] = np.where(cut[210:], STRUCTURES["la"], 0)
    diameters, length = volumes.lv_discs(cut[None], 1.0)
    assert length[0] == pytest.approx(210 - 160 + 120, abs=4)
    assert diameters.mean() * length[0] == pytest.approx((cut == STRUCTURES["lv"]).sum(), rel=0.03)
    assert not volumes.lv_discs(np.zeros((2, 64, 64), np.uint8), 1.0)[0].any()


def test_biplane_ef_of_two_ellipses():
    ed, es = (ellipse(120, 50), ellipse(115, 60)), (ellipse(100, 36), ellipse(98, 40))
    expected = 100 * (1 - (100 * 36 * 40) / (120 * 50 * 60))
    assert volumes.biplane_ef_percent(ed, es) == pytest.approx(expected, abs=1.0)
    assert volumes.biplane_ef_percent(ed, ed) == 0
    assert np.isnan(volumes.biplane_ef_percent((ed[0] * 0, ed[1] * 0), es))


def test_ef_of_a_beating_ellipse_by_each_way():
    times = np.arange(0, 3, 1 / 32)
    clock = beat_clock(np.arange(-1, 5) * 0.85, np.arange(-1, 5) * 0.85 - 0.16)
    volume = volume_curve(times, clock, np.full(6, 1.0), np.full(6, 0.45))
    size = volume ** (1 / 3)
    masks = np.stack([ellipse(54 * s, 26 * s, 0.1, 128) for s in size])
    assert volumes.ef_of_masks(masks, times, "area-length") == pytest.approx(55, abs=1.5)
    assert volumes.ef_of_masks(masks, times, "simpson") == pytest.approx(55, abs=1.5)
    area = 100 * (1 - 0.45 ** (2 / 3))
    assert volumes.ef_of_masks(masks, times, "area") == pytest.approx(area, abs=1.5)
    assert volumes.area_ef_percent(masks) == pytest.approx(area, abs=1.5)
    assert np.isnan(volumes.area_ef_percent(masks * 0))
    assert np.isnan(volumes.ef_of_masks(masks[:1], times[:1]))
    with pytest.raises(InputError, match="simpson"):
        volumes.cavity_sizes(masks, 1.0, "guess")


def test_rlvef_both_ways():
    original = np.array([60.0, 50.0, 40.0, 20.0])
    kept = reconstructed_ejection(original, original)
    assert (kept.ratio_mean, kept.ratio_sd, kept.difference_mean, kept.n) == (1, 0, 0, 4)
    weaker = reconstructed_ejection(0.9 * original, original)
    assert (weaker.ratio_mean, weaker.difference_mean) == pytest.approx((0.9, 4.25))
    assert weaker.difference_interval[0] < 4.25 < weaker.difference_interval[1]
    assert reconstructed_ejection([], []).n == ejection_report([], []).n == 0
    single = ejection_report([55.0], [50.0])
    assert (single.mae, single.n) == (5, 1)
    assert np.isnan(single.r2)
    assert np.isnan(single.mae_interval[0])

from dataclasses import replace

import numpy as np
import pytest
from scipy.signal import periodogram

from echogen.errors import InputError
from echogen.phantom.electrical import LEAD_NAMES, EcgStyle, draw_style, heart_vector_mv, make_ecg
from echogen.phantom.rhythm import RHYTHMS, make_rhythm, rhythm_from_landmarks

RATE_HZ = 1000.0
SILENT = {"wander_mv": 0.0, "mains_mv": 0.0, "muscle_mv": 0.0, "white_mv": 0.0}


def beats_of(name, seed, heart_rate_bpm=None):
    rng = np.random.default_rng(seed)
    return make_rhythm(name, heart_rate_bpm or rng.uniform(45, 150), 0.0, 10.0, rng), draw_style(rng)


def magnitude(rhythm, style):
    return np.linalg.norm(heart_vector_mv(rhythm, style, 0.0, int(10 * RATE_HZ), RATE_HZ), axis=0)


@pytest.mark.parametrize("name", RHYTHMS)
@pytest.mark.parametrize("seed", range(12))
def test_peak_and_onset_lie_where_the_beats_have_them(name, seed):
    rhythm, style = beats_of(name, seed)
    only_qrs = replace(style, p_vectors_mv=np.zeros((2, 3)), t_vector_mv=np.zeros(3), st_vector_mv=np.zeros(3), discordance=0.0)
    whole, qrs = magnitude(rhythm, style), magnitude(rhythm, only_qrs)
    times = np.arange(len(whole)) / RATE_HZ
    gap = np.diff(rhythm.r_s, prepend=-10)
    for r, onset, room in zip(rhythm.r_s, rhythm.qrs_onset_s, gap, strict=True):
        # Complexes that nearly touch the one before have no silent onset.
        if not 0.2 < r < 9.7 or room < 0.32:
            continue
        within = (times > onset) & (times < r + 0.08)
        assert abs(times[within][whole[within].argmax()] - r) <= 0.005
        rising = (times > onset - 0.05) & (times <= r)
        begin = times[rising][np.flatnonzero(qrs[rising] > 0.05 * qrs[rising].max())[0]]
        assert abs(begin - onset) <= 0.010


def test_real_landmarks_are_followed_too():
    r = np.array([1.0, 1.9, 2.7, 3.6])
    onset = r - [0.025, 0.04, 0.06, 0.09]
    size = magnitude(rhythm_from_landmarks(r, onset, wide_qrs=[False, False, False, True]), EcgStyle())
    times = np.arange(len(size)) / RATE_HZ
    for k in range(4):
        within = (times > r[k] - 0.15) & (times < r[k] + 0.1)
        assert abs(times[within][size[within].argmax()] - r[k]) <= 0.005
        begin = times[within][np.flatnonzero(size[within] > 0.05 * size[within].max())[0]]
        assert abs(begin - onset[k]) <= 0.010


@pytest.mark.parametrize("name", RHYTHMS)
def test_leads_obey_einthoven_and_goldberger(name):
    rhythm, style = beats_of(name, 5)
    ecg = make_ecg(rhythm, 0.0, 10.0, np.random.default_rng(1), style=style)
    assert ecg.lead_names == LEAD_NAMES
    assert (ecg.rate_hz, ecg.start_s, ecg.signal_mv.shape) == (500.0, 0.0, (12, 5000))
    first, second = ecg.lead("I"), ecg.lead("II")
    np.testing.assert_array_equal(ecg.lead("III"), second - first)
    np.testing.assert_array_equal(ecg.lead("aVR"), -(first + second) / 2)
    np.testing.assert_allclose(ecg.lead("aVL"), (first - ecg.lead("III")) / 2, atol=1e-6)
    np.testing.assert_allclose(ecg.lead("aVF"), (second + ecg.lead("III")) / 2, atol=1e-6)


def test_amplitudes_are_those_of_people():
    tallest = []
    for seed in range(200):
        rhythm, style = beats_of("sinus", seed)
        ecg = make_ecg(rhythm, 0.0, 10.0, np.random.default_rng(seed), style=replace(style, **SILENT))
        peaks = (rhythm.between(0.2, 9.8).r_s[:, None] * 500).astype(int) + np.arange(-15, 16)
        tallest.append(max(np.median(ecg.lead(lead)[peaks].max(axis=1)) for lead in ("II", "V5")))
    low, high = np.percentile(tallest, [5, 95])
    assert low > 0.3
    assert high < 3.0
    # A network must not be able to rely on one height.
    assert high > 2 * low


def test_styles_differ_in_axis_t_and_p():
    styles = [draw_style(np.random.default_rng(seed)) for seed in range(300)]
    main = np.array([style.qrs.vector_mv[1] for style in styles])
    axis = np.degrees(np.arctan2(main[:, 1], main[:, 0]))
    assert 0.05 < (axis < 0).mean() < 0.3
    assert 0.02 < (axis > 90).mean() < 0.3
    t = np.array([style.t_vector_mv[:2].sum() for style in styles])
    assert 0.05 < (t < 0).mean() < 0.3
    p = np.array([np.abs(style.p_vectors_mv).max() for style in styles])
    assert 0.02 < (p < 0.03).mean() < 0.2


def before_qrs(name, style, seed=0):
    """The mean lead II in the 220 ms before the QRS of beats that come late enough after the T wave, against its mean there."""
    rhythm = make_rhythm(name, 60, 0.0, 60.0, np.random.default_rng(seed))
    ecg = make_ecg(rhythm, 0.0, 60.0, np.random.default_rng(seed), style=style)
    late = np.diff(rhythm.r_s, prepend=rhythm.r_s[0]) > 0.85
    onset = rhythm.qrs_onset_s[late & (rhythm.r_s > 1) & (rhythm.r_s < 59)]
    window = (onset[:, None] * 500).astype(int) + np.arange(-110, -5)
    mean = ecg.lead("II")[window].mean(axis=0)
    return np.ptp(mean)


def test_p_waves_are_there_but_not_in_fibrillation():
    still = EcgStyle(f_wave_mv=0.0)
    assert before_qrs("sinus", still) > 0.08
    assert before_qrs("af", still) < 0.01
    # Fibrillatory waves are not locked to the QRS: they average out.
    assert before_qrs("af", EcgStyle(f_wave_mv=0.08)) < 0.05


def test_fibrillatory_waves_have_their_rate_and_size():
    rhythm = make_rhythm("af", 70, 0.0, 20.0, np.random.default_rng(0))
    with_waves, without = (
        make_ecg(rhythm, 0.0, 20.0, np.random.default_rng(1), style=EcgStyle(f_wave_mv=size)).lead("V1") for size in (0.08, 0.0)
    )
    waves = with_waves - without
    hertz, power = periodogram(waves, 500.0)
    assert power[(hertz > 4) & (hertz < 9)].sum() > 0.7 * power.sum()
    assert 0.04 < np.abs(waves).max() < 0.16


def test_wide_beats_have_an_opposite_t_wave():
    for name in ("pvc", "paced"):
        rhythm = make_rhythm(name, 60, 0.0, 10.0, np.random.default_rng(0))
        ecg = make_ecg(rhythm, 0.0, 10.0, np.random.default_rng(0), style=EcgStyle(f_wave_mv=0.0))
        for r in rhythm.r_s[rhythm.wide_qrs & (rhythm.r_s > 0.5) & (rhythm.r_s < 9)]:
            for lead in ("II", "V1"):
                first = int(r * 500)
                t_wave = ecg.lead(lead)[first + 80 : first + 180]
                t_top = t_wave[np.abs(t_wave).argmax()]
                assert np.sign(t_top) == -np.sign(ecg.lead(lead)[first])
                assert abs(t_top) > 0.1


def test_pacing_spikes_precede_the_qrs_at_any_rate():
    rhythm = make_rhythm("paced", 60, 0.0, 10.0, np.random.default_rng(0))
    for rate in (250.0, 500.0, 1000.0, 513.6):
        spiked, plain = (
            make_ecg(rhythm, 0.0, 10.0, np.random.default_rng(1), rate_hz=rate, style=EcgStyle(spike_mv=np.full(3, size)))
            for size in (1.0, 0.0)
        )
        difference = spiked.lead("V4") - plain.lead("V4")
        times = spiked.times_s[np.abs(difference) > 1e-6]
        onset = rhythm.qrs_onset_s[(rhythm.qrs_onset_s > 0.1) & (rhythm.qrs_onset_s < 9.9)]
        for k in onset:
            own = times[np.abs(times - k) < 0.2]
            assert len(own) >= 1
            assert (own < k).all()
            assert (own > k - 0.013).all()
        # The area of a spike does not depend on the sampling rate: 2 ms times its height.
        area = difference[np.abs(spiked.times_s - onset[3]) < 0.2].sum() / rate
        assert area == pytest.approx(0.002 * np.sum([1.213, 0.127, -0.601]), rel=0.01)


def test_qt_shortens_with_rate():
    def t_top(rate):
        rhythm = make_rhythm("sinus", rate, 0.0, 10.0, np.random.default_rng(0), variability=0.0)
        lead = make_ecg(rhythm, 0.0, 10.0, np.random.default_rng(0), style=EcgStyle()).lead("V4")
        r = rhythm.r_s[(rhythm.r_s > 1)][0]
        after = lead[int((r + 0.08) * 500) : int((r + 0.42 * np.sqrt(60 / rate)) * 500)]
        return 0.08 + after.argmax() / 500

    assert t_top(60) / t_top(120) == pytest.approx(np.sqrt(2), rel=0.12)


def test_same_seed_same_ecg_and_parts_agree():
    rhythm, style = beats_of("pvc", 2)
    one, two, other = (make_ecg(rhythm, 0.0, 10.0, np.random.default_rng(seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.signal_mv, two.signal_mv)
    assert not np.array_equal(one.signal_mv, other.signal_mv)
    silent = replace(style, **SILENT)
    whole = make_ecg(rhythm, 0.0, 10.0, np.random.default_rng(0), style=silent)
    part = make_ecg(rhythm, 4.0, 6.0, np.random.default_rng(1), style=silent)
    np.testing.assert_allclose(part.signal_mv, whole.between(4.0, 6.0).signal_mv, atol=1e-5)


def test_noise_has_the_asked_size():
    rhythm = rhythm_from_landmarks([-100.0])
    quiet = EcgStyle(**SILENT)
    assert not make_ecg(rhythm, 0.0, 10.0, np.random.default_rng(0), style=quiet).signal_mv.any()
    for name in SILENT:
        every = [
            make_ecg(rhythm, 0.0, 20.0, np.random.default_rng(seed), style=replace(quiet, **{name: 0.1})) for seed in range(5)
        ]
        deviation = np.mean([ecg.lead(lead).std() for ecg in every for lead in ("II", "V1", "V5")])
        assert 0.05 < deviation < 0.2


@pytest.mark.parametrize(
    ("end_s", "rate_hz"), [(0.0, 500.0), (-1.0, 500.0), (float("nan"), 500.0), (10.0, 0.0), (10.0, float("nan"))]
)
def test_bad_questions_are_refused(end_s, rate_hz):
    rhythm, _ = beats_of("sinus", 0)
    with pytest.raises(InputError):
        make_ecg(rhythm, 0.0, end_s, np.random.default_rng(0), rate_hz=rate_hz)

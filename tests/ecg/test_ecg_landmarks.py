"""Beats and waves found in ECGs whose truth is known."""

import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echogen import Ecg, InputError
from echogen.datasets.clip_store import ECG_BEFORE_S, ECG_RATE_HZ, draw_recording
from echogen.ecg import choose_lead, clean, find_landmarks, lead_signal, read_ecg, resample, signal_quality
from echogen.ecg.leads import STANDARD_LEADS
from echogen.phantom.electrical import make_ecg as phantom_ecg
from echogen.phantom.rhythm import make_rhythm


def nearest_ms(truth, found):
    """Distance in ms from each true time to the nearest found one."""
    found = np.asarray(found)
    right = np.searchsorted(found, truth).clip(1, len(found) - 1)
    return 1000 * np.minimum(np.abs(found[right] - truth), np.abs(found[right - 1] - truth))


@pytest.mark.parametrize("rhythm", ["sinus", "premature", "atrial fibrillation", "wide"])
@pytest.mark.parametrize(("rate_bpm", "rate_hz"), [(45.0, 250.0), (72.0, 513.625), (150.0, 100.0), (110.0, 1000.0)])
def test_every_beat_is_found_where_it_is(make_ecg, rhythm, rate_bpm, rate_hz):
    made = make_ecg(rhythm, rate_bpm=rate_bpm, rate_hz=rate_hz, start_s=12.5)
    found = find_landmarks(made.ecg)
    error = nearest_ms(made.r_s, found.r_s)
    assert len(found) == len(made.r_s)
    assert error.max() < 30
    assert np.median(error) < 3


@pytest.mark.parametrize("gain", [1.0, -1.0, 0.15])
def test_polarity_and_size_do_not_matter(make_ecg, gain):
    made = make_ecg(gains={"V1": gain}, noise_mv=0.01)
    found = find_landmarks(made.ecg)
    assert len(found) == len(made.r_s)
    assert np.median(nearest_ms(made.r_s, found.r_s)) < 3


def test_waves_of_a_sinus_rhythm(make_ecg):
    made = make_ecg(gains={"II": 1.0, "V5": 0.8})
    found = find_landmarks(made.ecg)
    # The Q wave leaves the baseline about 40 ms before R; the P wave two and a half of its widths before its peak.
    assert np.abs(found.r_s - found.qrs_onset_s - 0.040).max() < 0.012
    assert not found.wide_qrs.any()
    inner = slice(1, -1)
    assert np.isfinite(found.p_onset_s[inner]).mean() > 0.95
    assert np.nanmedian(np.abs(found.r_s - found.p_onset_s - 0.21)) < 0.020
    assert np.nanmedian(np.abs(found.t_peak_s - found.r_s - 0.27)) < 0.015
    assert np.nanmedian(np.abs(found.t_end_s - found.r_s - 0.36)) < 0.030
    assert found.heart_rate_bpm == pytest.approx(60 / np.median(np.diff(made.r_s)), rel=0.01)


def test_atrial_fibrillation_has_no_p_waves(make_ecg):
    for seed in range(5):
        found = find_landmarks(make_ecg("atrial fibrillation", rate_bpm=85, seed=seed).ecg)
        assert np.isnan(found.p_onset_s).mean() > 0.9


def test_few_fibrillating_waves_that_agree_by_chance_are_no_p_wave() -> None:
    for seed in range(24):
        rng = np.random.default_rng(seed)
        ecg = phantom_ecg(make_rhythm("af", 85.0, 0.0, 7.0, rng), 0.0, 7.0, rng, rate_hz=250.0)
        assert not np.isfinite(find_landmarks(ecg).p_onset_s).any(), seed


def test_premature_beats_are_wide_and_the_others_are_not(make_ecg):
    made = make_ecg("premature", rate_bpm=70)
    found = find_landmarks(made.ecg)
    assert (found.wide_qrs == made.wide).mean() > 0.95
    assert np.isnan(found.p_onset_s[made.wide]).mean() > 0.7
    assert np.isfinite(found.p_onset_s[~made.wide]).mean() > 0.85


def test_onset_stays_near_the_r_peak_in_noise(make_ecg):
    found = find_landmarks(make_ecg("premature", noise_mv=0.12, seed=3).ecg)
    before = found.r_s - found.qrs_onset_s
    assert ((before > 0.015) & (before < 0.125)).all()
    assert (found.qrs_width_s > 0.03).all()


@given(st.integers(0, 10_000), st.floats(0.0, 0.08))
def test_noise_and_waves_without_beats_are_refused(seed, tone):
    random = np.random.default_rng(seed)
    noise = 0.3 * random.standard_normal(5000) + tone * np.sin(np.arange(5000) / 20)
    with pytest.raises(InputError, match="no QRS complexes"):
        find_landmarks(Ecg(noise[None], 250.0, ("II",)))


def test_flat_and_short_ecgs_are_refused():
    with pytest.raises(InputError, match="no QRS complexes"):
        find_landmarks(Ecg(np.zeros((1, 2500)), 250.0, ("II",)))
    with pytest.raises(InputError, match="too short"):
        find_landmarks(Ecg(np.zeros((1, 100)), 250.0, ("II",)))


def test_a_long_recording_matches_its_annotated_beats(test_data):
    import wfdb

    path = str(test_data / "ecg_wfdb" / "100")
    notes = wfdb.rdann(path, "atr")
    truth = notes.sample[np.isin(notes.symbol, list("NLRBAaJSVrFejnE/fQ?"))] / 360.0
    found = find_landmarks(read_ecg(path)).r_s
    error = nearest_ms(truth, found)
    assert len(truth) == 2273
    assert (error <= 75).mean() >= 0.995  # sensitivity
    assert (nearest_ms(found, truth) <= 75).mean() >= 0.995  # positive predictive value
    assert np.median(error) <= 20


def readable(data: Path):
    """Path, lead and heart rate of every real file that can be read."""
    for entry in json.loads((data / "MANIFEST.json").read_text())["files"]:
        rate = (entry.get("checked") or {}).get("hr_bpm")
        if rate and entry["format"].split()[0] in ("WFDB", "EDF", "EDF+C", "Apple", "DICOM"):
            yield data / entry["file"], rate


def test_heart_rate_and_quality_of_real_recordings(test_data):
    files = list(readable(test_data))
    assert len(files) >= 11
    for path, rate in files:
        length = 60.0 if path.name in ("100.dat", "03700181.dat", "sample_actiwave.edf") else None
        ecg = read_ecg(path, seconds=length)
        assert find_landmarks(ecg).heart_rate_bpm == pytest.approx(rate, rel=0.03), path.name
        quality = signal_quality(ecg)
        if path.name == "contec_0000050.ECG.edf":
            assert quality.verdict == "poor"
            assert "mV" in quality.reasons[0]
        else:
            assert quality.verdict in ("good", "usable"), path.name


def test_intervals_agree_with_the_recorder_that_measured_them(dicom_ecg_path):
    # The DICOM file carries the recorder's own marks: onset and fiducial of ten beats, PR 161, QRS 75, QT 368 ms.
    onset_s = np.array([486, 1485, 2466, 3448, 4444, 5427, 6401, 7403, 8376, 9329]) / 1000
    found = find_landmarks(read_ecg(dicom_ecg_path))
    assert np.abs(found.qrs_onset_s - onset_s).max() < 0.008
    assert np.abs(found.r_s - onset_s - 0.041).max() < 0.008
    assert np.abs(found.qrs_width_s - 0.075).max() < 0.015
    assert np.abs(found.qrs_onset_s - found.p_onset_s - 0.161).max() < 0.015
    assert np.nanmax(np.abs(found.t_end_s - found.qrs_onset_s - 0.368)) < 0.030
    assert found.heart_rate_bpm == pytest.approx(61, rel=0.01)


def test_test_generator_signals_are_no_ecg(test_data):
    import edfio

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        record = edfio.read_bdf(test_data / "ecg_edf" / "test_generator.bdf")
    for signal in record.signals:
        ecg = Ecg(signal.data[None] / 1000, signal.sampling_frequency, ("ECG",))
        assert signal_quality(ecg).verdict == "not an ecg", signal.label


def test_verdicts_and_their_reasons(make_ecg):
    good = make_ecg().ecg
    assert signal_quality(good).verdict == "good"
    assert signal_quality(good).reasons == ()
    times = good.times_s
    assert signal_quality(Ecg(np.sin(2 * np.pi * 5 * times)[None], 500.0, ("II",))).verdict == "not an ecg"
    assert signal_quality(Ecg(np.full((1, 5000), 0.3), 500.0, ("II",))).verdict == "flat"
    slow = make_ecg(rate_bpm=12, seconds=40).ecg
    assert signal_quality(slow).verdict == "not an ecg"
    large = signal_quality(Ecg(good.signal_mv * 6.104, 500.0, ("II",)))
    assert large.verdict == "poor"
    assert "unit or scale" in large.reasons[0]
    assert signal_quality(Ecg(good.signal_mv * 0.02, 500.0, ("II",))).verdict == "poor"
    clipped = signal_quality(Ecg(np.clip(good.signal_mv, -0.1, 0.2), 500.0, ("II",)))
    assert clipped.verdict == "poor"
    assert any("clipped" in reason for reason in clipped.reasons)
    gone = good.signal_mv.copy()
    gone[:, 6000:12000] = 0.0
    assert any("flat" in reason for reason in signal_quality(Ecg(gone, 500.0, ("II",))).reasons)
    noisy = good.signal_mv + 0.5 * np.random.default_rng(0).standard_normal(good.signal_mv.shape)
    assert signal_quality(Ecg(noisy, 500.0, ("II",))).verdict in ("poor", "not an ecg")


def test_a_tall_p_wave_beside_a_small_qrs_is_no_beat():
    heart, leads = draw_recording(50_000, 2.0)  # its lead II has a P wave as tall as the QRS
    found = find_landmarks(Ecg(leads, ECG_RATE_HZ, STANDARD_LEADS, -ECG_BEFORE_S))
    inside = (heart.rhythm.r_s > -1.9) & (heart.rhythm.r_s < 2.9)
    assert len(found) == inside.sum()
    assert np.abs(found.r_s - heart.rhythm.r_s[inside]).max() < 0.01
    assert found.lead != "II"


def drawn(seed):
    """The ECG of a simulated heart, and the onsets of those QRS complexes that lie well within it."""
    heart, leads = draw_recording(seed, 8.0)
    onsets = heart.clock.qrs_onset_s
    ecg = Ecg(leads, ECG_RATE_HZ, STANDARD_LEADS, -ECG_BEFORE_S)
    return ecg, onsets[(onsets > 0.3) & (onsets < 7.7)]


# In lead II of the first two the P wave is steeper than the QRS, beat after beat; in most leads of the last two normal beats
# hardly stand out beside ventricular ones.
@pytest.mark.parametrize("seed", [200181, 200222, 200046, 200060, 200119, 220077, 220206])
def test_beats_that_one_lead_misses_are_seen_in_the_others(seed):
    ecg, onsets = drawn(seed)
    found = find_landmarks(ecg)
    assert nearest_ms(onsets, found.qrs_onset_s).max() < 60
    inside = (found.qrs_onset_s > 0.3) & (found.qrs_onset_s < 7.7)
    assert inside.sum() == len(onsets)


@given(seed=st.integers(0, 2**31), lead=st.integers(0, 11), bursts=st.integers(1, 6))
@settings(max_examples=15)
def test_noise_in_another_lead_adds_no_beats(seed, lead, bursts):
    random = np.random.default_rng(seed)
    ecg, _ = drawn(200001)
    before = find_landmarks(ecg)
    noisy = ecg.signal_mv.copy()
    lead = lead if ecg.lead_names[lead] != before.lead else lead - 1
    for at in random.integers(0, noisy.shape[1] - 40, bursts):
        noisy[lead, at : at + 40] += random.normal(0, 1.0, 40).astype(np.float32)
    np.testing.assert_allclose(find_landmarks(replace(ecg, signal_mv=noisy)).r_s, before.r_s)


def test_the_customary_lead_is_chosen_unless_it_is_bad(make_ecg):
    good = make_ecg(gains={"V1": -0.9, "I": 0.7, "II": 1.0}).ecg
    assert choose_lead(good) == "II"
    bad = good.signal_mv.copy()
    bad[2] = 0.5 * np.random.default_rng(0).standard_normal(bad.shape[1])
    broken = Ecg(bad, 500.0, good.lead_names)
    assert choose_lead(broken) == "I"
    assert np.array_equal(lead_signal(broken), broken.lead("I"))
    assert np.array_equal(lead_signal(broken, "v1"), broken.lead("V1"))
    assert find_landmarks(broken, "v1").lead == "V1"


@pytest.mark.parametrize("mains", [50.0, 60.0])
def test_cleaning_removes_mains_and_baseline_and_moves_nothing(make_ecg, mains):
    made = make_ecg(noise_mv=0.0, rate_hz=400.0)
    times = made.ecg.times_s
    hum = 0.3 * np.sin(2 * np.pi * mains * times)
    dirty = Ecg(made.ecg.signal_mv + hum + 2000.0 + 0.02 * times, 400.0, ("II",), 0.0)
    cleaned = clean(dirty)
    assert (cleaned.start_s, cleaned.rate_hz, cleaned.signal_mv.shape) == (0.0, 400.0, dirty.signal_mv.shape)
    reference = clean(Ecg(made.ecg.signal_mv - 0.15 * np.sin(2 * np.pi * 0.2 * times), 400.0, ("II",)))
    inner = slice(800, -800)
    assert np.abs(cleaned.signal_mv - reference.signal_mv)[0, inner].max() < 0.05
    assert np.abs(cleaned.lead("II")[inner].mean()) < 0.01


@given(st.floats(90.0, 1100.0), st.floats(90.0, 1100.0), st.floats(0.0, 5000.0))
def test_resampling_keeps_time_and_shape(old_hz, new_hz, start_s):
    count = int(4 * old_hz)
    frequency = np.array([[3.0], [11.0]])
    ecg = Ecg(np.sin(2 * np.pi * frequency * np.arange(count) / old_hz), old_hz, ("I", "II"), start_s)
    new = resample(ecg, new_hz)
    assert new.start_s == start_s
    assert 0 <= ecg.duration_s - new.duration_s + 1 / new_hz <= 1 / new_hz + 1 / old_hz + 1e-9
    expected = np.sin(2 * np.pi * frequency * np.arange(new.signal_mv.shape[1]) / new_hz)
    inner = slice(int(0.3 * new_hz), -int(0.3 * new_hz))
    assert np.abs(new.signal_mv - expected)[:, inner].max() < 0.02


def test_resampling_half_an_hour_does_not_drift():
    rate_hz, seconds = 128.17, 1800
    times = np.arange(int(rate_hz * seconds)) / rate_hz
    centre = np.arange(5, seconds, 50.0)
    pulses = np.exp(-0.5 * ((times[None] - centre[:, None]) / 0.02) ** 2).sum(axis=0)
    new = resample(Ecg(pulses[None], rate_hz, ("I",)), 100.0)
    at = new.times_s
    for moment in centre:
        near = np.abs(at - moment) < 0.1
        weight = new.signal_mv[0, near].astype(np.float64)
        assert (at[near] * weight).sum() / weight.sum() == pytest.approx(moment, abs=2e-4)


def test_resampling_keeps_what_would_fold_over_out():
    times = np.arange(5000) / 1000
    hum = Ecg(np.sin(2 * np.pi * 180 * times)[None], 1000.0, ("I",))
    assert np.abs(resample(hum, 200.0).signal_mv[0, 100:-100]).max() < 0.02

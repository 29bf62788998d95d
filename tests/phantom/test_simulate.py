from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from echogen.errors import InputError
from echogen.measurement.geometry import lv_geometry
from echogen.phantom.rhythm import make_rhythm
from echogen.phantom.simulate import draw_heart, heart_volume_ml, render, simulate, true_beats, with_ef
from echogen.physiology import area_length_volume_ml
from echogen.records import STRUCTURES


def steady_heart(seed, *, ef=60.0, view="A4C", rate=72.0, rhythm="sinus"):
    """A heart whose beats are all alike, so that every beat has the asked ejection fraction."""
    rng = np.random.default_rng(seed)
    beats = make_rhythm(rhythm, rate, 0.0, 4.0, rng, variability=None if rhythm == "af" else 0.0)
    return draw_heart(beats, rng, ef_percent=ef, view=view)


def other_probe(heart, **changes):
    return replace(heart, probe=replace(heart.probe, **changes))


def first_beat(heart):
    return true_beats(heart, 0.3, 4.0)[0]


def volume_in_masks(heart, time_s):
    """What a reader of the masks measures around a time, in ml."""
    labels = render(heart, time_s + np.arange(-2, 3) * 0.002, 0).labels
    area, length = lv_geometry(labels, heart.probe.mm_per_pixel)
    return area_length_volume_ml(area, length)[2]


def test_everything_follows_from_the_seed():
    one, two, other = (simulate(seconds=0.2, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.cine.frames, two.cine.frames)
    np.testing.assert_array_equal(one.ecg.signal_mv, two.ecg.signal_mv)
    np.testing.assert_array_equal(one.masks, two.masks)
    assert one.beats == two.beats
    assert (one.cine.frames != other.cine.frames).mean() > 0.2


def test_a_recording_is_on_one_clock_and_complete():
    study = simulate(seconds=0.5, fps=40, seed=1, view="A2C", sex="f", ef_percent=50, heart_rate_bpm=150)
    assert study.cine.frames.shape == study.masks.shape == (20, 128, 128)
    assert study.cine.times_s == pytest.approx(np.arange(20) / 40)
    assert study.ecg.lead_names[:3] == ("I", "II", "III")
    assert study.ecg.start_s == 0
    assert study.ecg.end_s == pytest.approx(0.5, abs=0.01)
    assert (study.ef_percent, study.sex, study.cine.view) == (50, "f", "A2C")
    assert set(np.unique(study.masks)) == {STRUCTURES[name] for name in ("background", "lv", "myocardium", "la")}
    assert {STRUCTURES["rv"], STRUCTURES["ra"]} <= set(np.unique(simulate(seconds=0.05, seed=1, view="A4C").masks))


@pytest.mark.parametrize(
    ("seed", "view", "ef"),
    [
        (0, "A4C", 15),
        (1, "A2C", 25),
        (2, "A4C", 35),
        (3, "A4C", 45),
        (4, "A2C", 55),
        (5, "A4C", 60),
        (6, "A2C", 70),
        (7, "A4C", 78),
    ],
)
def test_masks_carry_the_asked_ejection_fraction(seed, view, ef):
    heart = steady_heart(seed, ef=ef, view=view)
    beat = first_beat(heart)
    assert beat.ef_percent == pytest.approx(ef, abs=0.01)
    edv, esv = volume_in_masks(heart, beat.ed_s), volume_in_masks(heart, beat.es_s)
    assert 100 * (edv - esv) / edv == pytest.approx(ef, abs=3.0)


def test_masks_carry_the_asked_volume_in_a_cut_along_the_axis():
    heart = steady_heart(2)
    heart = replace(heart, anatomy=replace(heart.anatomy, off_axis=0.0))
    beat = first_beat(heart)
    assert volume_in_masks(heart, beat.ed_s) == pytest.approx(beat.edv_ml, rel=0.06)
    assert volume_in_masks(heart, beat.es_s) == pytest.approx(beat.esv_ml, rel=0.10)


@pytest.mark.parametrize("rhythm", ["sinus", "af", "pvc", "pause", "paced"])
@pytest.mark.parametrize("rate", [50, 80, 130])
def test_true_times_are_the_turning_points_of_the_volume(rhythm, rate):
    heart = steady_heart(rate, rhythm=rhythm, rate=rate)
    beats = true_beats(heart, 0.2, 3.6)
    assert beats
    for beat, next_beat in zip(beats, [*beats[1:], None], strict=True):
        end = beat.es_s + 0.05 if next_beat is None else next_beat.ed_s
        times = np.arange(beat.ed_s, end, 0.002)
        volume = heart_volume_ml(heart, times)
        assert volume[0] == pytest.approx(beat.edv_ml, rel=0.005)
        if beat.es_s > end - 0.08:
            continue  # cut short by a premature beat
        at_es = heart_volume_ml(heart, np.array([beat.es_s]))[0]
        assert at_es == pytest.approx(volume.min(), abs=0.5)
        stroke = beat.edv_ml - beat.esv_ml
        assert heart_volume_ml(heart, np.array([beat.es_s - 0.1]))[0] > at_es + 0.02 * stroke


def test_the_smallest_mask_lies_at_end_systole():
    heart = steady_heart(5, rate=75)
    beat = first_beat(heart)
    times = np.array([beat.ed_s, beat.ed_s + 0.1, beat.es_s - 0.12, beat.es_s, beat.es_s + 0.04, beat.es_s + 0.2])
    area = (render(heart, times, 0).labels == STRUCTURES["lv"]).sum(axis=(1, 2))
    assert area[0] == area.max()
    assert area[3] <= 1.01 * area.min()
    assert area[2] > 1.1 * area[3]
    assert area[5] > 1.05 * area[3]


def late_filling_share(heart):
    """Share of the stroke volume that comes in during the last 80 ms before mitral closure, for beats with a long diastole."""
    clock, shares = heart.clock, []
    for k in range(1, len(clock)):
        if clock.ed_s[k] - clock.mvo_s[k - 1] > 0.4:
            before, at = heart_volume_ml(heart, clock.ed_s[k] - np.array([0.08, 0.0005]))
            shares.append((at - before) / (heart.edvs_ml[k] - heart.esvs_ml[k - 1]))
    assert shares
    return np.array(shares)


def test_atria_contract_in_sinus_rhythm_but_not_in_fibrillation():
    for seed in range(5):
        assert late_filling_share(steady_heart(seed, rate=60)).min() > 0.08
        assert late_filling_share(steady_heart(seed, rate=55, rhythm="af")).max() < 0.06


def mitral_brightness(heart, time_s):
    """The brightest grey on the way from the middle of the ventricle to the middle of the atrium."""
    drawn = render(heart, np.array([time_s]), 0)
    ends = [np.argwhere(drawn.labels[0] == STRUCTURES[name]).mean(0) for name in ("lv", "la")]
    way = np.round(ends[0] + np.linspace(0, 1, 80)[:, None] * (ends[1] - ends[0])).astype(int)
    return int(drawn.structure[0][way[:, 0], way[:, 1]].max())


@pytest.mark.parametrize("view", ["A4C", "A2C"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_mitral_valve_is_shut_in_systole_and_open_in_early_filling(seed, view):
    heart = steady_heart(seed, view=view, rate=60)
    heart = replace(heart, anatomy=replace(heart.anatomy, papillary=0.0))
    k = int(np.argmax(heart.clock.ed_s > 0))
    shut = mitral_brightness(heart, 0.5 * (heart.clock.avo_s[k] + heart.clock.avc_s[k]))
    opened = mitral_brightness(heart, heart.clock.mvo_s[k] + 0.5 * heart.filling.e_duration_s)
    assert shut > opened + 30


def test_speckle_averages_out_to_the_structure():
    heart = other_probe(steady_heart(1), speckle=1.0, curve=1.0, dynamic_range=60.0, gain=-8.0, shadows=())
    drawn = [render(heart, np.array([0.2]), seed) for seed in range(40)]
    frames = np.stack([d.frames[0] for d in drawn]).astype(float)
    structure = np.stack([d.structure[0] for d in drawn]).astype(float)
    tissue = (drawn[0].labels[0] == STRUCTURES["myocardium"]) & (frames.min(0) > 0) & (structure.min(0) > 60)
    assert tissue.sum() > 300
    assert frames.std(0)[tissue].mean() > 12
    # The structure is drawn where log-compressed speckle has its mean, 2.5 dB under its mean power.
    assert abs(frames.mean(0) - structure.mean(0))[tissue].mean() < 5.0
    assert (frames - structure)[:, tissue].mean() == pytest.approx(0.0, abs=2.0)
    power = [10 ** (grey[:, tissue] / 255 * 6.0) for grey in (frames, structure)]
    excess_db = 10 * np.log10(power[0].mean() / power[1].mean())
    assert excess_db == pytest.approx(2.507, abs=0.7)


def test_speckle_moves_with_the_tissue():
    now, followed, in_place = [], [], []
    rows, columns = np.indices((128, 128))
    for seed in range(5):
        heart = other_probe(steady_heart(seed), speckle=0.9, decorrelation=0.0, gain=0.0)
        heart = replace(heart, anatomy=replace(heart.anatomy, sway_mm=0.0))
        beat = first_beat(heart)
        drawn = render(heart, np.array([beat.ed_s, beat.ed_s + 0.6 * (beat.es_s - beat.ed_s)]), 0)
        speckle = drawn.frames.astype(float) - drawn.structure
        moved = np.stack([rows + drawn.displacement[1, 1], columns + drawn.displacement[1, 0]])
        walls = (drawn.labels == STRUCTURES["myocardium"]) & (drawn.structure > 40)
        wall = walls[1] & (map_coordinates(walls[0].astype(float), moved, order=1) > 0.99)
        wall &= np.hypot(*drawn.displacement[1]) > 1.5
        now.append(speckle[1][wall])
        followed.append(map_coordinates(speckle[0], moved, order=1)[wall])
        in_place.append(speckle[0][wall])
    now, followed, in_place = (np.concatenate(part) for part in (now, followed, in_place))
    assert now.size > 500
    likeness, without = np.corrcoef(followed, now)[0, 1], np.corrcoef(in_place, now)[0, 1]
    assert likeness > without + 0.15


def test_blood_and_what_lies_outside_the_sector_have_no_displacement():
    drawn = render(steady_heart(0), np.array([0.3]), 0)
    blood = drawn.labels[0] == STRUCTURES["rv"]
    assert np.abs(drawn.displacement[0][:, blood]).mean() < 0.3
    corner = np.zeros((128, 128), dtype=bool)
    corner[:40, :20] = corner[:40, -20:] = True
    for picture in (drawn.frames[0], drawn.structure[0], drawn.labels[0], *drawn.displacement[0]):
        assert not picture[corner].any()


def test_cavity_is_dark_and_wall_is_bright():
    contrast = []
    for seed in range(8):
        drawn = render(steady_heart(seed), np.array([0.2]), seed)
        grey = {name: np.median(drawn.frames[0][drawn.labels[0] == STRUCTURES[name]]) for name in ("lv", "myocardium")}
        contrast.append(grey["myocardium"] - grey["lv"])
    assert np.median(contrast) > 25


def test_progress_counts_the_frames():
    seen = []
    simulate(seconds=0.6, seed=0, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(16, 19), (19, 19)]


def test_a_recorded_rhythm_keeps_its_own_ecg():
    ecg = simulate(seconds=0.2, seed=9).ecg
    beats = make_rhythm("sinus", 90, 0.0, 0.2, np.random.default_rng(0))
    study = simulate(ecg=ecg, rhythm=beats, seconds=0.2, seed=2)
    assert study.ecg is ecg
    assert simulate(seconds=0.01, seed=2).cine.frames.shape == (1, 128, 128)


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"view": "PLAX"}, "A4C"),
        ({"sex": "x"}, "sex"),
        ({"ef_percent": 4.0}, "ejection fraction"),
        ({"ef_percent": 95.0}, "ejection fraction"),
        ({"ef_percent": float("nan")}, "ejection fraction"),
        ({"seconds": 0.0}, "seconds"),
        ({"seconds": float("inf")}, "seconds"),
        ({"fps": 2.0}, "frame rate"),
        ({"fps": float("nan")}, "frame rate"),
        ({"heart_rate_bpm": 300.0}, "heart rate"),
        ({"rhythm": "waltz"}, "sinus"),
    ],
)
def test_wrong_requests_are_refused_in_one_sentence(wrong, word):
    with pytest.raises(InputError, match=word) as raised:
        simulate(**{"seconds": 0.1, **wrong})
    assert str(raised.value).count("\n") == 0


def test_the_same_heart_with_another_ef_keeps_its_rhythm_and_its_end_diastole() -> None:
    heart = draw_heart(make_rhythm("sinus", 70, 0.0, 4.0, np.random.default_rng(1)), np.random.default_rng(2), ef_percent=60)
    weak = with_ef(heart, 30)
    np.testing.assert_array_equal(weak.rhythm.r_s, heart.rhythm.r_s)
    np.testing.assert_allclose(np.median(weak.edvs_ml), np.median(heart.edvs_ml), rtol=0.02)
    np.testing.assert_allclose(100 * (1 - np.median(weak.esvs_ml / weak.edvs_ml)), 30, atol=1.0)
    assert (weak.probe, weak.sex) == (heart.probe, heart.sex)

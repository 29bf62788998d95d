"""From frames to a report, with a segmenter trained here on drawn hearts."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from echogen.errors import InputError
from echogen.measurement import measure, read_masks, segment, without_islands
from echogen.networks.segmenter import Segmenter, SegmenterConfig, segmentation_loss, with_neighbours
from echogen.records import STRUCTURES, Cine, Ecg

GREY = np.array([70, 5, 160, 110, 30, 30])


def draw(masks, seed=0):
    """Frames with a dark ventricle, bright walls and a grey atrium, with noise."""
    noise = np.random.default_rng(seed).normal(0, 20, masks.shape)
    return np.clip(GREY[masks] + noise, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def drawn(heart, chambers):
    """A heart of EF 50 % at 70 bpm, drawn: the ellipse's axes follow the volume."""
    truth = heart(70, 50, seconds=5)
    share = (truth.volume_ml / truth.edv_ml.max()) ** (1 / 3)
    return truth, chambers(32 * share, 17 * share, tilt=0.1)


@pytest.fixture(scope="module")
def segmenter(chambers):
    random = np.random.default_rng(1)
    torch.manual_seed(0)
    network = Segmenter(SegmenterConfig(widths=(8, 16, 16), blocks=1, groups=4)).train()
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for step in range(50):
        optimizer.param_groups[0]["lr"] = 1e-2 * (1 - step / 50)
        scale = random.uniform(0.7, 1.05, 8)
        masks = chambers(32 * scale, 17 * scale, tilt=random.uniform(0, 0.2))
        frames = torch.from_numpy(draw(masks, step)).float() / 255
        optimizer.zero_grad()
        segmentation_loss(network(with_neighbours(frames)), torch.from_numpy(masks)).backward()
        optimizer.step()
    return network


def landmarks_of(truth):
    onset = truth.clock.qrs_onset_s
    return SimpleNamespace(r_s=onset + 0.04, qrs_onset_s=onset, wide_qrs=np.zeros(len(onset), bool))


def test_a_drawn_heart_is_measured(drawn, segmenter):
    truth, masks = drawn
    cine = Cine(draw(masks), truth.times_s, mm_per_pixel=1.1, view="A4C")
    reading = measure(cine, segmenter, landmarks=landmarks_of(truth))
    known = read_masks(masks, truth.times_s, 1.1)
    assert reading.ef_percent == pytest.approx(50, abs=4)
    assert known.ef_percent == pytest.approx(50, abs=3)
    assert reading.heart_rate_bpm == pytest.approx(70, abs=3)
    assert reading.volume_ml == pytest.approx(known.volume_ml, rel=0.15)
    assert reading.matched_fraction == 1
    assert reading.es_error_ms["median"] < 30
    assert reading.timing.n_video == len(reading.beats)


def test_landmarks_are_found_in_the_ecg(drawn, segmenter):
    truth, masks = drawn
    times = np.arange(-1.5, 6.5, 1 / 500)
    signal = np.zeros(len(times))
    for r in truth.clock.qrs_onset_s + 0.040:
        for after_s, height_mv, width_s in (
            (-0.15, 0.12, 0.020),
            (-0.025, -0.1, 0.008),
            (0, 1.1, 0.011),
            (0.03, -0.2, 0.01),
            (0.26, 0.3, 0.04),
        ):
            signal += height_mv * np.exp(-0.5 * ((times - r - after_s) / width_s) ** 2)
    ecg = Ecg(signal[None].astype(np.float32), 500.0, ("II",), start_s=-1.5)
    reading = measure(Cine(draw(masks), truth.times_s), segmenter, ecg)
    assert reading.matched_fraction == 1
    assert reading.es_error_ms["median"] < 40
    assert all(beat.r_s is not None for beat in reading.beats)


def test_report_has_the_keys_of_the_interface(drawn):
    truth, masks = drawn
    plain = read_masks(masks, truth.times_s, 1.0).to_json()
    assert set(plain) == {"ef_percent", "heart_rate_bpm", "beats"}
    assert set(plain["beats"][0]) == {"ed_s", "es_s", "edv_ml", "esv_ml", "ef_percent"}
    timed = read_masks(masks, truth.times_s, 1.0, landmarks_of(truth)).to_json()
    assert set(timed) == {"ef_percent", "heart_rate_bpm", "beats", "matched_fraction", "es_error_ms"}
    assert set(timed["beats"][0]) == {"ed_s", "es_s", "edv_ml", "esv_ml", "ef_percent", "r_s"}
    assert set(timed["es_error_ms"]) == {"median", "mean", "sd"}
    assert timed["beats"][0]["r_s"] == pytest.approx(timed["beats"][0]["ed_s"], abs=0.1)


def test_ef_needs_no_scale_but_volumes_do(drawn):
    truth, masks = drawn
    scaled, unscaled = read_masks(masks, truth.times_s, 0.8), read_masks(masks, truth.times_s)
    assert unscaled.ef_percent == pytest.approx(scaled.ef_percent)
    assert unscaled.volume_ml is None
    assert [b["edv_ml"] for b in unscaled.to_json()["beats"]] == [None] * len(unscaled.beats)
    assert unscaled.beat_ef_percent == pytest.approx(scaled.beat_ef_percent)


def test_segmentation_does_not_depend_on_the_batch(drawn, segmenter):
    frames = draw(drawn[1])[:23]
    whole = segment(frames, segmenter)
    assert whole.dtype == np.uint8
    assert np.array_equal(whole, segment(frames, segmenter, batch=7))
    assert np.array_equal(whole[:1], segment(frames[[0, 0, 1]], segmenter)[1:2])


def test_the_ventricle_is_one_piece_without_holes():
    class Painted(Segmenter):
        """Names the picture it is shown: grey 1 is left ventricle."""

        def forward(self, frames):
            return torch.nn.functional.one_hot((frames[:, 1] * 255).round().long(), 6).permute(0, 3, 1, 2).float()

    frame = np.zeros((1, 128, 128), np.uint8)
    frame[0, 20:60, 40:80] = 1
    frame[0, 30:33, 50:53] = 2
    frame[0, 100:104, 20:24] = 1
    mask = segment(frame, Painted(SegmenterConfig(widths=(8, 8), groups=4)))[0]
    assert (mask[20:60, 40:80] == 1).all()
    assert not mask[100:104, 20:24].any()


def test_islands_of_the_chambers_are_taken_away():
    lv, wall, la, rv, ra = (STRUCTURES[name] for name in ("lv", "myocardium", "la", "rv", "ra"))
    heart = np.zeros((128, 128), np.uint8)
    heart[20:82, 50:90] = wall
    heart[24:82, 56:84] = lv
    heart[84:110, 56:84] = la
    heart[40:82, 20:50] = rv
    heart[84:110, 24:50] = ra
    shown = heart.copy()
    shown[10:16, 110:120] = wall  # apart from the ventricle
    shown[100:124, 90:124] = la  # larger than the atrium, but not behind the valve
    shown[50:55, 30:36] = ra  # within the right ventricle
    shown[118:127, 2:20] = rv
    shown[60:64, 86:90] = 0  # cuts nothing: both parts of a wall stay
    shown[48:52, 84:90] = 0
    kept = without_islands(shown[None])[0]
    heart[60:64, 86:90] = heart[48:52, 84:90] = 0
    assert np.array_equal(kept, heart)
    # A right chamber that lies apart from the left heart is none.
    alone = np.where(np.isin(heart, (rv, ra)), 0, heart)
    alone[100:120, 2:12] = ra
    assert not (without_islands(alone[None]) == ra).any()


def test_what_cannot_be_measured_is_said(segmenter):
    black = np.zeros((40, 128, 128), np.uint8)
    with pytest.raises(InputError, match=r"at least 0\.7 s"):
        measure(Cine(black[:10], np.arange(10) / 32), segmenter)
    with pytest.raises(InputError, match=r"at least 0\.7 s"):
        measure(Cine(black[:1], np.zeros(1)), segmenter)
    with pytest.raises(InputError, match="No left ventricle"):
        read_masks(black, np.arange(40) / 32)


def test_a_heart_that_stands_still_has_no_beats(chambers):
    masks = chambers(np.full(64, 30.0), np.full(64, 15.0))
    reading = read_masks(masks, np.arange(64) / 32, 1.0)
    assert reading.to_json() == {"ef_percent": None, "heart_rate_bpm": None, "beats": []}

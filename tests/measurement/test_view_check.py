"""Pictures outside what the reader learned: parasternal views and colour Doppler are refused, apical views are not."""

import json

import numpy as np
import pytest
from PIL import Image

from echogen import InputError, measure, read_cine, simulate
from echogen.cine.sector import to_sector
from echogen.datasets.shards import ShardFolder
from echogen.measurement.shipped import load_segmenter
from echogen.measurement.view_check import doppler, other_view
from echogen.measurement.view_naming import Seen, seen_in
from echogen.testing.drawn_traces import draw, record
from echogen.testing.machine_styles import NOT_AN_ECG, STYLES

PARASTERNAL = ("godicom_I_000001_PLAX.dcm", "godicom_I_000007_PLAX.dcm", "godicom_I_000008_PSAX.dcm", "raventan_plax_test2.mp4")
APICAL = ("echocv3_Image-43_A4C.dcm", "fodicom_DIRW0007_A4C.dcm", "echonet3d_A3C.mp4", "godicom_I_000022_A2C.dcm")


@pytest.mark.parametrize("view", ["A4C", "A2C"])
def test_simulated_apical_views_are_taken(view):
    assert other_view(simulate(view=view, seconds=0.5, seed=3).cine.frames, load_segmenter()) is None


def test_a_heart_that_lies_across_is_refused():
    frames = np.rot90(simulate(seconds=0.5, seed=3).cine.frames, axes=(1, 2))
    assert other_view(np.ascontiguousarray(frames), load_segmenter()) is not None


@pytest.mark.parametrize("network", ["segmenter", "reader"])
@pytest.mark.parametrize("name", PARASTERNAL)
def test_parasternal_views_of_patients_are_not_measured(test_data, name, network):
    with pytest.raises(InputError, match="apical"):
        measure(test_data / "real" / "cines" / name, network=network)


@pytest.mark.parametrize("name", APICAL)
def test_apical_views_of_patients_are_taken(test_data, name):
    frames, _ = to_sector(read_cine(test_data / "real" / "cines" / name).frames)
    assert other_view(frames, load_segmenter()) is None


@pytest.mark.parametrize("view", ["A4C", "A2C"])
def test_views_are_named_and_noise_lowers_the_quality(view):
    cine = simulate(view=view, seconds=0.8, seed=3).cine
    assert measure(cine).seen == Seen(view, "good")
    noise = np.random.default_rng(0).normal(0, 60, cine.frames.shape)
    hazy = np.clip(90 + 0.2 * cine.frames + noise * (cine.frames.max(axis=0) > 0), 0, 255).astype(np.uint8)
    assert seen_in(hazy).quality in ("fair", "poor")
    assert seen_in(hazy).reasons


def test_views_of_patients_are_named(test_data, echogen):
    named = {"fodicom_DIRW0007_A4C.dcm": "A4C", "godicom_I_000022_A2C.dcm": "A2C", "godicom_I_000001_PLAX.dcm": "no apical view"}
    for name, view in named.items():
        outcome = echogen("info", test_data / "real" / "cines" / name, "--json")
        assert json.loads(outcome.out)["seen"]["view"] == view, name


def test_info_and_prepare_tell_colour_doppler(echogen, tmp_path):
    style = next(each for each in STYLES + NOT_AN_ECG if each.shows == "doppler")
    pictures = [Image.fromarray(frame) for frame in draw(record(11, 1.0), style, 5)]
    folder = tmp_path / "videos"
    folder.mkdir()
    pictures[0].save(folder / "a.gif", save_all=True, append_images=pictures[1:], duration=40)
    seen = json.loads(echogen("info", folder / "a.gif", "--json").out)["seen"]
    assert (seen["view"], seen["quality"]) == ("colour or tissue Doppler", None)
    assert echogen("prepare", folder, "-o", tmp_path / "s", "--labels", "measured", "--workers", "1").code == 0
    (sample,) = ShardFolder(tmp_path / "s")
    assert "Doppler" in sample.labels["not_measured"]
    assert sample.masks is None


def test_colour_doppler_is_told_from_tints_and_drawn_traces():
    recorded = record(11, 1.0)
    for style in STYLES + NOT_AN_ECG:
        coloured = style.shows == "doppler" or "doppler" in style.also
        assert (doppler(draw(recorded, style, 5)) is not None) == coloured, style.name

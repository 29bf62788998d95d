"""Pictures outside what the reader learned: parasternal views and colour Doppler are refused, apical views are not."""

import numpy as np
import pytest

from echogen import InputError, measure, read_cine, simulate
from echogen.cine.sector import to_sector
from echogen.measurement.shipped import load_segmenter
from echogen.measurement.view_check import doppler, other_view
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


@pytest.mark.parametrize("name", PARASTERNAL)
def test_parasternal_views_of_patients_are_not_measured(test_data, name):
    with pytest.raises(InputError, match="apical"):
        measure(test_data / "real" / "cines" / name)


@pytest.mark.parametrize("name", APICAL)
def test_apical_views_of_patients_are_taken(test_data, name):
    frames, _ = to_sector(read_cine(test_data / "real" / "cines" / name).frames)
    assert other_view(frames, load_segmenter()) is None


def test_colour_doppler_is_told_from_tints_and_drawn_traces():
    recorded = record(11, 1.0)
    for style in STYLES + NOT_AN_ECG:
        coloured = style.shows == "doppler" or "doppler" in style.also
        assert (doppler(draw(recorded, style, 5)) is not None) == coloured, style.name

from dataclasses import replace

import numpy as np
import pytest
import torch

from echogen.phantom.anatomy import draw_anatomy, pose_heart
from echogen.phantom.tissue import Levels, locate_tissue
from echogen.records import STRUCTURES

STEP_MM = 0.5
COLUMNS_MM, ROWS_MM = np.arange(-70, 70, STEP_MM) + STEP_MM / 2, np.arange(0, 190, STEP_MM) + STEP_MM / 2
X, Y = (torch.tensor(grid.ravel(), dtype=torch.float32) for grid in np.meshgrid(COLUMNS_MM, ROWS_MM))


def upright(**changes):
    """A heart whose axis is the vertical middle of the picture and whose apex rests."""
    drawn = draw_anatomy(np.random.default_rng(0), ef_percent=60)
    fixed = dict(edv_ml=120.0, length_ed=88.0, wall=9.0, apex_x=0.0, apex_y=12.0, tilt=0.0, off_axis=0.0, mapse=13.0)
    still = dict(septal_share=0.5, hypokinesis=0.0, apex_motion=0.0, sway_mm=0.0, papillary=0.0)
    return replace(drawn, **{**fixed, **still, **changes})


def located(anatomy, openness=(0.0, 0.0), levels=None):
    """Tissue on a fine grid at end-diastole and end-systole, every field (2, rows, columns)."""
    esv = anatomy.edv_ml * (1 - anatomy.ef_percent / 100)
    shape, pose = pose_heart(anatomy, np.array([0.0, 0.3]), np.array([anatomy.edv_ml, esv]), np.array(openness))
    tissue = locate_tissue(anatomy, shape, pose, X, Y, levels or Levels())
    size = (2, len(ROWS_MM), len(COLUMNS_MM))
    return {name: getattr(tissue, name).reshape(size).numpy() for name in tissue.__dataclass_fields__}


def area_mm2(labels, name):
    return (labels == STRUCTURES[name]).sum(axis=(1, 2)) * STEP_MM**2


@pytest.mark.parametrize("ef", [20, 40, 60, 75])
def test_the_wall_keeps_its_volume_while_the_cavity_shrinks(ef):
    labels = located(upright(ef_percent=ef))["label"]
    # Pappus: each half of the wall turned around the axis.
    around = np.pi * abs(COLUMNS_MM) * STEP_MM**2 / 1000

    def volume_ml(name):
        return ((labels == STRUCTURES[name]) * around).sum(axis=(1, 2))

    wall, cavity = volume_ml("myocardium"), volume_ml("lv")
    assert wall[1] == pytest.approx(wall[0], rel=0.05)
    assert cavity[1] / cavity[0] == pytest.approx(1 - ef / 100, abs=0.04)


def test_the_wall_thickens_inward():
    labels = located(upright())["label"]
    row = int(60 / STEP_MM)
    lateral = labels[:, row, len(COLUMNS_MM) // 2 :]
    thickness = (lateral == STRUCTURES["myocardium"]).sum(1) * STEP_MM
    outer_edge = np.array([np.flatnonzero(side == STRUCTURES["myocardium"]).max() for side in lateral]) * STEP_MM
    assert thickness[1] > 1.25 * thickness[0]
    assert abs(outer_edge[1] - outer_edge[0]) < 0.35 * (thickness[1] - thickness[0]) + 2.0


@pytest.mark.parametrize("mapse", [4.0, 9.0, 14.0])
def test_the_base_comes_to_the_apex_by_the_mapse(mapse):
    labels = located(upright(mapse=mapse))["label"]
    middle = labels[:, :, len(COLUMNS_MM) // 2] == STRUCTURES["lv"]
    base = [ROWS_MM[np.flatnonzero(column).max()] for column in middle]
    apex = [ROWS_MM[np.flatnonzero(column).min()] for column in middle]
    assert base[0] - base[1] == pytest.approx(mapse, abs=STEP_MM)
    assert abs(apex[0] - apex[1]) < 2.5
    assert area_mm2(labels, "la")[1] > 1.1 * area_mm2(labels, "la")[0]


def inward_motion_mm(anatomy):
    """How far the endocardium comes in half-way down the ventricle, on the septal and on the lateral side."""
    labels = located(anatomy)["label"]
    row = int((12 + 7 + 0.5 * 88) / STEP_MM)
    half = len(COLUMNS_MM) // 2
    cavity = labels[:, row] == STRUCTURES["lv"]
    widths = np.stack([cavity[:, :half].sum(1), cavity[:, half:].sum(1)]) * STEP_MM
    return widths[:, 0] - widths[:, 1]


@pytest.mark.parametrize("side", [-1, 1])
def test_a_hypokinetic_segment_moves_less_and_the_rest_makes_up_for_it(side):
    septal, lateral = inward_motion_mm(upright())
    assert septal == pytest.approx(lateral, abs=1.0)
    moved = inward_motion_mm(upright(hypokinesis=0.9, segment_psi=side * 1.3, segment_width=0.5))
    sick, well = (moved[0], moved[1]) if side < 0 else (moved[1], moved[0])
    assert sick < 0.4 * septal
    assert well > septal


def test_an_off_axis_cut_shows_a_smaller_ventricle_with_the_same_ejection_fraction():
    whole, cut = (area_mm2(located(upright(off_axis=share))["label"], "lv") for share in (0.0, 0.15))
    assert (cut < 0.95 * whole).all()
    assert cut[1] / cut[0] == pytest.approx(whole[1] / whole[0], rel=0.03)


def test_right_heart_only_in_four_chambers():
    four, two = (np.unique(located(upright(view=view))["label"]) for view in ("A4C", "A2C"))
    assert set(four) == set(STRUCTURES.values())
    assert set(two) == {STRUCTURES[name] for name in ("background", "lv", "myocardium", "la")}


def test_the_left_ventricle_lies_on_the_viewers_right_and_the_atria_below():
    labels = located(upright())["label"][0]
    row, column = {}, {}
    for name in ("lv", "la", "rv", "ra"):
        row[name], column[name] = np.argwhere(labels == STRUCTURES[name]).mean(0)
    assert row["la"] > row["lv"] + 20
    assert row["ra"] > row["rv"] + 20
    assert column["rv"] < column["lv"] - 20
    assert column["ra"] < column["la"] - 20


def test_blood_is_dark_and_the_surroundings_fade():
    tissue = located(upright())
    level, label = tissue["level_db"][0], tissue["label"][0]
    wall = np.median(level[label == STRUCTURES["myocardium"]])
    assert np.median(level[label == STRUCTURES["lv"]]) < wall - 15
    right = level[int(70 / STEP_MM)]
    assert right[-1] < right[int((45 + 70) / STEP_MM)] - 5


def test_side_walls_are_darker_than_the_apex():
    tissue = located(upright(), levels=Levels(anisotropy=12.0))
    wall, level = tissue["label"][0] == STRUCTURES["myocardium"], tissue["level_db"][0]
    middle = abs(COLUMNS_MM) < 5
    apex = level[:, middle][wall[:, middle]]
    rows = slice(int(55 / STEP_MM), int(70 / STEP_MM))
    assert np.median(apex) > np.median(level[rows][wall[rows]]) + 5


def test_reference_position_is_the_point_itself_at_end_diastole():
    tissue = located(upright())
    wall = tissue["label"][0] == STRUCTURES["myocardium"]
    shift_x = tissue["reference_x"][0] - X.reshape(wall.shape).numpy()
    shift_y = tissue["reference_y"][0] - Y.reshape(wall.shape).numpy()
    assert np.hypot(shift_x, shift_y)[wall].max() < 0.2
    moved = np.hypot(
        tissue["reference_x"][1] - X.reshape(wall.shape).numpy(), tissue["reference_y"][1] - Y.reshape(wall.shape).numpy()
    )
    assert moved[tissue["label"][1] == STRUCTURES["myocardium"]].mean() > 3

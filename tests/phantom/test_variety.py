"""Varied hearts: the maps' meaning, and the size that readers give to walls and cavities."""

from __future__ import annotations

import numpy as np
import pytest

from echogen.phantom.variety import INNERMOST, MAP_SIZE, OUTERMOST, Maps, draw_variant, map_variant
from echogen.records import STRUCTURES

LV, WALL = STRUCTURES["lv"], STRUCTURES["myocardium"]


def beat(seed: int) -> Maps:
    """A heart at end-diastole and at end-systole."""
    return map_variant(draw_variant(np.random.default_rng(seed)), np.array([0.0, 1.0]), np.zeros(2))


@pytest.mark.parametrize("seed", range(6))
def test_the_ventricle_empties_and_the_depths_tell_cavity_wall_and_outside_apart(seed: int) -> None:
    maps = beat(seed)
    assert maps.labels.shape == maps.levels.shape == maps.depths.shape == (2, MAP_SIZE, MAP_SIZE)
    area = (maps.labels == LV).sum((1, 2))
    assert area[1] < area[0]
    depth = INNERMOST + (OUTERMOST - INNERMOST) * maps.depths.astype(float) / 255
    step = (OUTERMOST - INNERMOST) / 255
    assert depth[maps.labels == LV].max() <= step
    assert depth[maps.labels == WALL].min() >= -step
    assert depth[maps.labels == WALL].max() <= 1 + step
    assert depth[(maps.labels != LV) & (maps.labels != WALL)].min() >= 1 - step


def test_the_same_seed_gives_the_same_heart_and_another_another() -> None:
    assert np.array_equal(beat(1).levels, beat(1).levels)
    assert not np.array_equal(beat(1).labels, beat(2).labels)


def test_the_wall_is_as_thick_as_readers_draw_it() -> None:
    maps = [beat(seed).labels for seed in range(100, 140)]
    share = np.median([(m == WALL).sum((1, 2)) / (m == LV).sum((1, 2)) for m in maps], axis=0)
    # Human outlines of apical stills have 0.7 times the cavity's area at end-diastole and 1.2 times at end-systole.
    assert share == pytest.approx([0.7, 1.2], rel=0.15)

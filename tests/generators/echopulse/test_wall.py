"""The wall is settled where the heart's clock expects it, and the picture stays a heart."""

import numpy as np
import pytest
import torch

from echogen.datasets.clip_store import cavity_cells, describe, draw_recording
from echogen.generators.echopulse.wall import cavity_scale, cavity_share, find_cavities, move_wall, sharpen_wall
from echogen.measurement import measure
from echogen.measurement.shipped import load_segmenter
from echogen.phantom.simulate import Heart, Rendering, render, with_ef
from echogen.phantom.texture import blurred
from echogen.physiology import Floats
from echogen.records import STRUCTURES, Cine

TIMES = np.arange(65) / 32.0
SEED = 60_001


@pytest.fixture(scope="module")
def heart() -> Heart:
    return draw_recording(SEED, 2.1)[0]


@pytest.fixture(scope="module")
def drawn(heart: Heart) -> Rendering:
    return render(heart, TIMES, SEED)


def outline(heart: Heart) -> tuple[Floats, Floats]:
    told = describe(heart, len(TIMES))
    return np.array(told["length_px"]), np.array(told["width_px"])


def cells(drawn: Rendering) -> Floats:
    return cavity_cells(drawn.labels == STRUCTURES["lv"]) / 255.0


def test_the_cavity_is_found_as_it_is(heart: Heart, drawn: Rendering) -> None:
    found = find_cavities(cells(drawn), 4.0)
    assert found is not None
    length, width = outline(heart)
    np.testing.assert_allclose(found.length, length, rtol=0.03)
    np.testing.assert_allclose(found.width, width, rtol=0.04)
    assert (found.axis[:, 1] > 0.8).all()  # from apex to base is down


def test_what_is_settled_has_the_ef_asked_for(heart: Heart, drawn: Rendering) -> None:
    found = find_cavities(cells(drawn), 4.0)
    assert found is not None
    segmenter = load_segmenter()
    picture = torch.from_numpy(drawn.frames / 255.0).float()
    made = []
    for ef in (heart.anatomy.ef_percent - 20, heart.anatomy.ef_percent):
        length, width = outline(with_ef(heart, ef))
        scale = cavity_scale(found, length, width)
        moved, size = torch.from_numpy(drawn.displacement), (scale[0] * length, scale[1] * width)
        settled, _, _ = move_wall(picture, moved, cavity_share(cells(drawn), picture), found, *size)
        frames = (settled.clamp(0, 1) * 255).byte().numpy()
        made.append(measure(Cine(frames, TIMES, heart.probe.mm_per_pixel), segmenter).ef_percent)
    assert made[0] == pytest.approx(heart.anatomy.ef_percent - 20, abs=6)
    assert made[1] == pytest.approx(heart.anatomy.ef_percent, abs=4)


def test_a_first_frame_that_is_given_tells_the_size_and_else_end_diastole_does(heart: Heart, drawn: Rendering) -> None:
    found = find_cavities(cells(drawn), 4.0)
    assert found is not None
    length, width = outline(heart)
    larger = length / np.where(np.arange(len(length)) < 1, 1.1, 1.0)
    given, usual = cavity_scale(found, larger, width, given=True), cavity_scale(found, larger, width)
    assert given[0] == pytest.approx(1.1 * found.length[0] / length[0])
    assert given[1] == pytest.approx(found.width[0] / width[0])
    assert usual == pytest.approx((1.0, 1.0), abs=0.05)


def test_what_fits_already_stays(drawn: Rendering) -> None:
    found = find_cavities(cells(drawn), 4.0)
    assert found is not None
    picture, moved = torch.from_numpy(drawn.frames / 255.0).float(), torch.from_numpy(drawn.displacement)
    same, still, cavity = move_wall(picture, moved, cavity_share(cells(drawn), picture), found, found.length, found.width)
    torch.testing.assert_close(same, picture, atol=1e-3, rtol=0)
    torch.testing.assert_close(still, moved, atol=2e-2, rtol=0)
    lv = torch.from_numpy(drawn.labels == STRUCTURES["lv"])
    assert float((cavity[lv] > 0.5).float().mean()) > 0.9
    assert float((cavity[~lv] > 0.5).float().mean()) < 0.02


def test_what_is_far_stays_and_the_tissue_is_told_how_far_it_went(drawn: Rendering) -> None:
    found = find_cavities(cells(drawn), 4.0)
    assert found is not None
    picture, moved = torch.from_numpy(drawn.frames / 255.0).float(), torch.from_numpy(drawn.displacement)
    settled, went, cavity = move_wall(
        picture, moved, cavity_share(cells(drawn), picture), found, 0.9 * found.length, 0.8 * found.width
    )
    assert float(cavity.sum() * 16 / cells(drawn).sum() / 16**2) == pytest.approx(0.72, abs=0.05)
    change = (settled - picture).abs().mean((0, 1))
    assert float(change[:16].mean()) < 0.2 * float(change[48:80].mean())
    further = (went - moved).abs().amax(1)
    assert float(further.amax()) > 1.0
    assert float(further.amax()) < 12.0


def test_a_blurred_wall_gets_the_edge_that_it_has(drawn: Rendering) -> None:
    picture = torch.from_numpy(drawn.structure / 255.0).float()
    cavity = cavity_share(cells(drawn), picture)
    soft = blurred(picture, 2.0)
    crisp = sharpen_wall(soft, cavity)
    rim = (cavity - 0.5).abs() < 0.3
    valve = torch.from_numpy(drawn.labels == STRUCTURES["la"]).float()
    rim &= blurred(valve, 4.0) < 0.05  # leaflets aside
    errors = [float((shown - picture)[rim].abs().mean()) for shown in (soft, crisp)]
    assert errors[1] < 0.85 * errors[0]
    far = (blurred(cavity, 3.0) < 0.01) | (blurred(cavity, 3.0) > 0.99)
    torch.testing.assert_close(crisp[far], soft[far], atol=0.01, rtol=0)


def test_leaflets_and_pictures_without_a_wall_stay(drawn: Rendering) -> None:
    picture = torch.full((1, 128, 128), 0.3)
    cavity = torch.zeros(1, 128, 128)
    cavity[:, 40:90, 50:80] = 1.0
    torch.testing.assert_close(sharpen_wall(picture, cavity), picture, atol=0.002, rtol=0)
    picture = torch.where(cavity > 0, 0.05, 0.4)
    picture[:, 88:92, 50:80] = 0.9
    torch.testing.assert_close(sharpen_wall(picture, cavity)[:, 88:92, 55:75], picture[:, 88:92, 55:75], atol=0.01, rtol=0)


def test_no_cavity_is_none() -> None:
    assert find_cavities(np.zeros((3, 32, 32)), 4.0) is None

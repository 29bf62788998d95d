from dataclasses import replace

import numpy as np
import pytest
import torch

from echogen.phantom.ultrasound import APEX_ROW, DEPTHS, LINES, RADIUS, Probe, Scanner, Scatterers, draw_probe

PLAIN = Probe(gain=0.0, slope=0.0, edge=0.0, haze=-90.0, noise=-90.0, mottle=0.0, speckle=1.0, dynamic_range=60.0)


def scatterers(probe, seed=0):
    scanner = Scanner(probe)
    return scanner, Scatterers(scanner, torch.Generator().manual_seed(seed))


def uniform_picture(probe, level_db=-30.0, blood=0.0, times=(0.0,), seed=0):
    scanner, found = scatterers(probe, seed)
    size = (len(times), DEPTHS * LINES)
    x, y = (axis[None].expand(size) for axis in (scanner.x, scanner.y))
    clock = torch.tensor(times)[:, None]
    with torch.inference_mode():
        picture = found.image(torch.full(size, level_db), torch.full(size, blood), x, y, clock)
    return scanner, picture


def test_the_sector_has_the_canonical_geometry():
    scanner = Scanner(PLAIN)
    inside = scanner.inside.numpy()
    rows, columns = np.nonzero(inside)
    radius = np.hypot(rows - APEX_ROW, columns - 63.5)
    angle = np.arctan2(columns - 63.5, rows - APEX_ROW)
    assert (APEX_ROW, RADIUS) == (6.0, 112.0)
    assert rows.min() == 7
    assert rows.max() == 117
    assert radius.max() <= 112.0
    assert radius.max() > 111.0
    assert abs(angle).max() == pytest.approx(PLAIN.half_angle, abs=0.01)
    np.testing.assert_array_equal(inside, inside[:, ::-1])
    _, picture = uniform_picture(PLAIN)
    assert picture.shape == (1, 2, 128, 128)
    assert not picture[..., ~scanner.inside].any()
    assert (picture[:, 1, scanner.inside] > 0.2).all()


def test_a_point_of_the_beams_lands_on_its_pixel():
    probe = replace(PLAIN, depth_mm=112.0)
    scanner = Scanner(probe)
    spot = torch.zeros(DEPTHS, LINES)
    spot[80, 60] = 1.0
    picture = scanner.scan_convert(spot.reshape(1, 1, -1))[0, 0].numpy()
    row, column = np.unravel_index(picture.argmax(), picture.shape)
    index = 80 * LINES + 60
    assert row - APEX_ROW == pytest.approx(float(scanner.y[index]), abs=1.0)
    assert column - 63.5 == pytest.approx(float(scanner.x[index]), abs=1.0)


def test_pixels_have_their_size_in_mm():
    scanner = Scanner(replace(PLAIN, depth_mm=150.0))
    x, y = scanner.picture_points()
    assert float(torch.hypot(x, y).max()) == pytest.approx(150.0, rel=0.01)
    assert scanner.probe.mm_per_pixel == pytest.approx(150.0 / 112.0)


def test_speckle_has_mean_power_one_and_the_statistics_of_full_development():
    scanner, _ = scatterers(PLAIN)
    power = []
    for seed in range(6):
        _, found = scatterers(PLAIN, seed)
        power.append(found.speckle(scanner.x[None], scanner.y[None], torch.zeros(1, 1)).reshape(DEPTHS, LINES)[20:])
    values = torch.stack(power)
    assert float(values.mean()) == pytest.approx(1.0, abs=0.05)
    assert float(values.std() / values.mean()) == pytest.approx(1.0, abs=0.12)


def test_the_picture_without_speckle_is_the_mean_of_those_with():
    scanner, _ = scatterers(PLAIN)
    both = torch.cat([uniform_picture(PLAIN, seed=seed)[1] for seed in range(12)])[:, :, 20:110]
    inside = scanner.inside[20:110]
    with_speckle, without = both[:, 0, inside], both[:, 1, inside]
    assert float(with_speckle.mean()) == pytest.approx(float(without.mean()), abs=0.01)
    assert float(with_speckle.std()) > 10 * float(without.std())


def widths(probe, rows):
    """Lateral correlation length of the speckle (share left at a lag of two lines) at some depths."""
    scanner, found = scatterers(probe)
    power = found.speckle(scanner.x[None], scanner.y[None], torch.zeros(1, 1)).reshape(DEPTHS, LINES)[rows]
    power = power - power.mean()
    return float((power[:, 2:] * power[:, :-2]).mean() / power.square().mean())


def test_the_point_spread_function_widens_away_from_the_focus():
    probe = replace(PLAIN, focus=0.4, defocus=2.5, lateral=0.9)
    assert widths(probe, slice(105, 128)) > widths(probe, slice(40, 63)) + 0.1


def test_tissue_speckle_decorrelates_slowly_and_blood_at_once():
    probe = replace(PLAIN, decorrelation=0.5)
    scanner, tissue = uniform_picture(probe, times=(0.0, 0.033, 1.0))
    _, blood = uniform_picture(probe, blood=1.0, times=(0.0, 0.033, 1.0))

    def likeness(picture, first, second):
        return float(torch.corrcoef(picture[[first, second], 0][:, scanner.inside])[0, 1])

    assert likeness(tissue, 0, 1) > 0.97
    assert 0.4 < likeness(tissue, 0, 2) < 0.9
    assert abs(likeness(blood, 0, 1)) < 0.1


def test_gain_attenuation_shadows_and_edges_darken_where_they_should():
    _, plain = uniform_picture(PLAIN)

    def grey(rows, columns, **changes):
        return float(uniform_picture(replace(PLAIN, **changes))[1][0, 1, rows, columns].mean())

    deep, shallow, middle, side = slice(100, 110), slice(25, 35), slice(60, 68), slice(108, 114)
    base = float(plain[0, 1, deep, middle].mean())
    assert grey(deep, middle, gain=6.0) == pytest.approx(base + 0.1, abs=0.01)
    assert grey(deep, middle, slope=12.0) < base - 0.15
    assert grey(shallow, middle, slope=12.0) > base - 0.06
    row = slice(84, 90)
    assert grey(row, side, edge=20.0) < grey(row, middle, edge=20.0) - 0.1
    assert grey(deep, middle, shadows=((0.0, 0.1, 12.0),)) < base - 0.15
    assert grey(slice(10, 14), middle, haze=-15.0) > grey(slice(10, 14), middle) + 0.1


def test_drawn_probes_fit_the_heart_and_stay_in_range():
    for seed in range(50):
        probe = draw_probe(np.random.default_rng(seed), heart_length_mm=150.0)
        assert 125.0 <= probe.depth_mm <= 215.0
        assert 0.96 * 150 <= probe.depth_mm <= 1.10 * 150
        assert 0.5 < probe.half_angle < 0.8
        assert 0 < probe.speckle <= 1

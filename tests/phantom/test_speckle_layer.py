import pytest
import torch

from echogen.phantom.speckle import SpeckleLayer, SpeckleStyle
from echogen.phantom.ultrasound import Scanner

FRAMES = 4
TIMES = torch.arange(FRAMES) / 32
STILL = torch.zeros(FRAMES, 2, 128, 128)


@pytest.fixture(scope="module")
def layer():
    return SpeckleLayer(SpeckleStyle(), seed=0)


@pytest.fixture(scope="module")
def sector(layer):
    inside = layer.scanner.inside.clone()
    inside[:20] = False
    return inside


def random_source(seed=0):
    return torch.Generator().manual_seed(seed)


def uniform(level):
    return torch.full((FRAMES, 128, 128), level)


def test_the_same_seeds_give_the_same_frames(layer):
    first = layer(uniform(0.5), STILL, TIMES, random_source())
    again = SpeckleLayer(SpeckleStyle(), seed=0)(uniform(0.5), STILL, TIMES, random_source())
    other = SpeckleLayer(SpeckleStyle(), seed=1)(uniform(0.5), STILL, TIMES, random_source())
    assert torch.equal(first, again)
    assert float((first - other).abs().mean()) > 0.02


@pytest.mark.parametrize("level", [0.35, 0.5, 0.65])
def test_speckle_leaves_the_mean_grey_as_it_was(layer, sector, level):
    frames = layer(uniform(level), STILL, TIMES, random_source())
    assert float(frames[:, sector].mean()) == pytest.approx(level, abs=0.015)
    assert float(frames[:, sector].std()) > 0.03
    assert frames.min() >= 0
    assert frames.max() <= 1


def test_black_stays_black(layer):
    frames = layer(uniform(0.0), STILL, TIMES, random_source())
    assert float(frames.max()) == 0.0


def test_tissue_keeps_its_speckle_and_blood_does_not(layer, sector):
    def likeness(level):
        frames = layer(uniform(level), STILL, TIMES, random_source())[:, sector]
        return float(torch.corrcoef(frames[:2])[0, 1])

    assert likeness(0.5) > 0.95
    assert likeness(0.08) < 0.3


def test_parts_of_a_video_fit_together(layer, sector):
    whole = layer(uniform(0.5), STILL, TIMES, random_source())
    last = layer(uniform(0.5)[2:], STILL[2:], TIMES[2:], random_source(5))
    assert float((whole[2:] - last)[:, sector].abs().mean()) < 0.005


def test_speckle_follows_the_displacement(layer, sector):
    displacement = STILL.clone()
    displacement[:, 1] = 3.0  # tissue now at row r was at row r + 3 in the reference
    still = layer(uniform(0.5), STILL, torch.zeros(FRAMES), random_source())[0]
    moved = layer(uniform(0.5), displacement, torch.zeros(FRAMES), random_source())[0]
    rows, columns = slice(60, 100), slice(44, 84)
    inside = still[63:103, columns].flatten(), moved[rows, columns].flatten()
    in_place = still[rows, columns].flatten(), moved[rows, columns].flatten()
    followed, unmoved = (float(torch.corrcoef(torch.stack(pair))[0, 1]) for pair in (inside, in_place))
    assert followed > 0.6
    assert followed > unmoved + 0.3


def test_strength_scales_the_speckle(sector):
    def spread(strength):
        return float(
            SpeckleLayer(SpeckleStyle(strength=strength), 0)(uniform(0.5), STILL, TIMES, random_source())[:, sector].std()
        )

    assert spread(0.0) == pytest.approx(0.0, abs=1e-6)
    assert spread(0.6) == pytest.approx(2 * spread(0.3), rel=0.05)


def test_the_layer_shares_the_geometry_of_the_phantom(layer):
    assert layer.scanner.probe.mm_per_pixel == 1.0
    assert torch.equal(layer.scanner.inside, Scanner(layer.scanner.probe).inside)


def test_nothing_is_seen_outside_of_the_sector(layer):
    frames = layer(uniform(0.5), STILL, TIMES, random_source())
    assert float(frames[:, ~layer.scanner.inside].max()) == 0
    assert float(frames[:, layer.scanner.inside].mean()) > 0.3


@pytest.mark.parametrize("strength", [0.15, 0.4, 0.8])
def test_speckle_becomes_as_strong_as_in_a_frame_that_is_shown(strength):
    layer = SpeckleLayer(SpeckleStyle(), seed=0)
    structure = (0.3 + 0.2 * torch.sin(torch.arange(128.0) / 9)[None].expand(128, -1)) * layer.scanner.inside
    shown = SpeckleLayer(SpeckleStyle(strength=strength), 5)(structure[None], STILL[:1], TIMES[:1], random_source(7))[0]
    layer.match(shown, structure)
    assert layer.style.strength == pytest.approx(strength, rel=0.2)


def test_too_little_tissue_tells_nothing_of_speckle():
    layer = SpeckleLayer(SpeckleStyle(), seed=0)
    layer.match(torch.rand(128, 128), torch.zeros(128, 128))
    assert layer.style == SpeckleStyle()

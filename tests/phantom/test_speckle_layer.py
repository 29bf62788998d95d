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
        style = SpeckleStyle(strength=strength, mottle=0.0)
        return float(SpeckleLayer(style, 0)(uniform(0.5), STILL, TIMES, random_source())[:, sector].std())

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
    layer.match(shown, structure, STILL[0])
    assert layer.style.strength == pytest.approx(strength, rel=0.2)


@pytest.mark.parametrize("noise", [-56.0, -40.0])
def test_a_noisy_machine_is_known_by_its_fine_grain(noise):
    layer = SpeckleLayer(SpeckleStyle(), seed=0)
    row, column = torch.meshgrid(torch.arange(128.0), torch.arange(128.0), indexing="ij")
    blood = ((row - 62) / 30).square() + ((column - 64) / 25).square() < 1
    structure = torch.where(blood, 0.3, 0.6) * layer.scanner.inside
    made = SpeckleLayer(SpeckleStyle(noise=noise, mottle=0.0), 5)
    frame = made(structure[None], STILL[:1], TIMES[:1], random_source(7), blood[None].float())[0]
    layer.match(frame, structure, STILL[0], blood.float())
    assert layer.style.noise == pytest.approx(noise, abs=4.0)
    assert layer.style.strength == pytest.approx(made.style.strength, rel=0.1)


def test_too_little_tissue_tells_nothing_of_speckle():
    layer = SpeckleLayer(SpeckleStyle(), seed=0)
    layer.match(0.1 * torch.rand(128, 128), torch.zeros(128, 128), STILL[0])
    assert layer.style == SpeckleStyle()


def test_a_seed_draws_a_machine():
    styles = [SpeckleStyle().drawn(seed) for seed in range(40)]
    assert SpeckleStyle().drawn(3) == styles[3]
    strengths = [style.strength for style in styles]
    assert min(strengths) < 0.5 < 0.85 < max(strengths)
    assert len({style.noise for style in styles}) == 40


def test_the_machine_can_leave_black_no_darker_than_its_smoothing_does(sector):
    frames = SpeckleLayer(SpeckleStyle(strength=0.5, mottle=0.0), 0)(uniform(0.4), STILL, TIMES, random_source())[:, sector]
    assert float(frames.min()) == pytest.approx(0.2, abs=0.001)


def shown(layer, level=0.45, seed=5):
    """A picture of tissue around a dark cavity, with speckle of its own and a bright band; its structure lacks the band."""
    row, column = torch.meshgrid(torch.arange(128.0), torch.arange(128.0), indexing="ij")
    cavity = ((row - 62) / 22).square() + ((column - 64) / 12).square() < 1
    structure = torch.where(cavity, 0.05, level) * layer.scanner.inside
    band = 0.12 * torch.exp(-((row - 95) / 3).square()) * layer.scanner.inside
    style = SpeckleStyle(strength=0.5, mottle=0.0)
    frame = SpeckleLayer(style, seed)((structure + band)[None], STILL[:1], TIMES[:1], random_source(7))[0]
    return structure, frame, cavity


def test_a_video_begins_with_the_frame_that_was_given(layer):
    layer = SpeckleLayer(SpeckleStyle(), 0)
    structure, frame, _ = shown(layer)
    layer.match(frame, structure, STILL[0])
    made = layer(structure.expand(FRAMES, -1, -1), STILL, TIMES, random_source())
    torch.testing.assert_close(made[0], frame * layer.scanner.inside, atol=0.01, rtol=0)


@pytest.mark.parametrize("level", [0.06, 0.12])
def test_blood_stays_as_dark_as_the_given_frame_shows_it(level):
    layer = SpeckleLayer(SpeckleStyle(), 1)
    structure, _, cavity = shown(layer)
    structure = torch.where(cavity, level, structure)
    source = SpeckleLayer(SpeckleStyle(strength=0.9, mottle=0.0), 5)
    frame = source(structure[None], STILL[:1], TIMES[:1], random_source(7), cavity[None].float())[0]
    layer.match(frame, structure, STILL[0], cavity.float())
    cavities = cavity.float().expand(FRAMES, -1, -1)
    made = layer(structure.expand(FRAMES, -1, -1), STILL, TIMES, random_source(), cavities)
    for later in made[1:]:
        assert float(later[cavity].mean()) == pytest.approx(float(frame[cavity].mean()), abs=0.018)


def test_the_sector_of_a_given_frame_stays_as_wide_as_it_is():
    layer = SpeckleLayer(SpeckleStyle(), 0)
    row, column = torch.meshgrid(torch.arange(128.0), torch.arange(128.0), indexing="ij")
    narrow = layer.scanner.inside & (torch.atan2((column - 63.5).abs(), row - 6.0) < 0.6)
    frame = torch.where(narrow, 0.5, 0.0)
    # A drawn sector fades at its sides, and does not end at the same angle.
    side = torch.atan2((column - 63.5).abs(), row - 6.0)
    structure = 0.5 * ((0.64 - side) / 0.1).clamp(0.0, 1.0) * layer.scanner.inside
    layer.match(frame, structure, STILL[0])
    later = layer(structure.expand(FRAMES, -1, -1), STILL, TIMES, random_source())[1:]
    assert float(later[:, layer.scanner.inside & ~narrow].max()) == 0.0
    at_the_sides = narrow & (side > 0.57) & (row > 20)
    assert float(later[:, at_the_sides].mean()) == pytest.approx(0.5, rel=0.1)


def test_tissue_takes_what_was_seen_of_it_along_and_blood_does_not():
    layer = SpeckleLayer(SpeckleStyle(decorrelation=0.2), 0)
    structure, frame, cavity = shown(layer)
    layer.match(frame, structure, STILL[0])
    moved = STILL.clone()
    moved[1:, 1] = -4.0  # what is seen at row r now was at row r - 4
    lower = torch.roll(structure, 4, 0)
    made = layer(torch.stack([structure, lower, lower, lower]), moved, TIMES, random_source())[1]
    there, then = (slice(88, 106), slice(44, 84)), (slice(84, 102), slice(44, 84))

    def likeness(a, b):
        return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])

    assert likeness(made[there], frame[then]) > 0.8
    assert likeness(made[there], frame[there]) < 0.6
    inside = torch.roll(cavity, 4, 0) & cavity
    assert likeness(made[inside], frame[inside]) < 0.3


def test_speckle_of_a_given_frame_turns_into_another_but_its_tissue_stays():
    layer = SpeckleLayer(SpeckleStyle(decorrelation=0.5), 0)
    structure, frame, _ = shown(layer)
    layer.match(frame, structure, STILL[0])
    soon, late = (layer(structure.expand(FRAMES, -1, -1), STILL, TIMES + after, random_source())[0] for after in (0.1, 60.0))
    band, beside = (slice(94, 97), slice(44, 84)), (slice(104, 112), slice(44, 84))
    assert float(late[band].mean() - late[beside].mean()) > 0.06

    def grain(picture):
        return (picture[beside] - picture.roll(2, 1)[beside]).flatten()

    def likeness(picture):
        return float(torch.corrcoef(torch.stack([grain(picture), grain(frame)]))[0, 1])

    assert likeness(soon) > 0.9
    assert likeness(late) < 0.5


def test_a_cavity_that_is_known_is_not_taken_for_tissue_however_hazy():
    structure = torch.full((128, 128), 0.4)
    cavity = torch.zeros(128, 128)
    cavity[50:80, 50:78] = 1.0
    layer = SpeckleLayer(SpeckleStyle(mottle=0.0), 0)
    frame = layer(structure[None], STILL[:1], TIMES[:1], random_source(3))[0]
    layer.match(frame, structure, STILL[0], cavity)
    made = layer(structure.expand(FRAMES, -1, -1), STILL, TIMES, random_source(), cavity.expand(FRAMES, -1, -1))

    def likeness(where):
        return float(torch.corrcoef(torch.stack([made[1][where].flatten(), frame[where].flatten()]))[0, 1])

    assert likeness((slice(90, 110), slice(50, 78))) > 0.9
    assert likeness((slice(52, 78), slice(52, 76))) < 0.3

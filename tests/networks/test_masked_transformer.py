from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from echogen.errors import InputError
from echogen.networks.attention import Tokens
from echogen.networks.conditioning import EcgEncoderConfig
from echogen.networks.masked_transformer import MaskedTransformer, MaskedTransformerConfig

TINY = MaskedTransformerConfig(
    vocabulary=10,
    groups=2,
    spatial_positions=4,
    max_latents=5,
    dim=32,
    depth=2,
    heads=2,
    frame_features=3,
    ecg=EcgEncoderConfig(stem_channels=8, dim=16, depth=1, heads=2),
)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def make(**changes) -> MaskedTransformer:
    """A network whose zero-initialised parts are filled, so that every condition has influence."""
    network = MaskedTransformer(replace(TINY, **changes)).eval()
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return network


def batch(latents: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    times = torch.arange(latents).expand(2, -1) * 0.125
    return torch.randint(0, 11, (2, latents, 4, 2)), times, torch.tensor([True, False])


def conditions(**changes):
    given = {
        "ecg": torch.randn(2, 256),
        "ecg_start_s": torch.tensor([-0.5, -0.25]),
        "ef_percent": torch.tensor([35.0, 60.0]),
        "view": torch.tensor([1, 2]),
        "sex": torch.tensor([2, 1]),
        "frame_features": torch.randn(2, 3, 3),
    }
    return given | changes


def test_logits_for_every_token_or_for_those_selected():
    network = make()
    ids, times, first = batch()
    conditioning = network.condition(2, **conditions())
    logits = network(ids, times, first, conditioning)
    assert logits.shape == (2, 3, 4, 2, 10)
    select = torch.rand(2, 3, 4) < 0.5
    torch.testing.assert_close(network(ids, times, first, conditioning, select=select), logits[select])


@pytest.mark.parametrize("name", ["ecg", "ecg_start_s", "ef_percent", "view", "sex", "frame_features"])
def test_each_condition_has_influence_on_its_own_window_only(name):
    network = make()
    ids, times, first = batch()
    given = conditions()
    other = given[name].clone()
    other[1] = {"view": 0, "sex": 0}.get(name, other[1] + 1 if name != "ecg" else torch.randn(256))
    before = network(ids, times, first, network.condition(2, **given))
    after = network(ids, times, first, network.condition(2, **given | {name: other}))
    torch.testing.assert_close(before[0], after[0])
    assert not torch.allclose(before[1], after[1], atol=1e-4)


@pytest.mark.parametrize(("keep", "name"), [("ecg_keep", "ecg"), ("frame_keep", "frame_features")])
def test_a_dropped_condition_has_none(keep, name):
    network = make()
    ids, times, first = batch()
    dropped = {keep: torch.tensor([False, False])}
    given = conditions(**dropped)
    before = network(ids, times, first, network.condition(2, **given))
    after = network(ids, times, first, network.condition(2, **given | {name: torch.randn_like(given[name])}))
    torch.testing.assert_close(before, after)
    absent = {key: value for key, value in given.items() if key not in (keep, name)}
    torch.testing.assert_close(before, network(ids, times, first, network.condition(2, **absent)))


def test_with_no_condition_at_all_the_logits_are_finite():
    network = make()
    ids, times, first = batch()
    assert network(ids, times, first, network.condition(2)).isfinite().all()


def test_only_time_differences_matter():
    network = make()
    ids, times, first = batch()
    given = conditions()
    before = network(ids, times, first, network.condition(2, **given))
    later = given | {"ecg_start_s": given["ecg_start_s"] + 1.5}
    after = network(ids, times + 1.5, first, network.condition(2, **later))
    torch.testing.assert_close(before, after, atol=1e-4, rtol=1e-4)
    unmoved = network(ids, times + 1.5, first, network.condition(2, **given))
    assert not torch.allclose(before, unmoved, atol=1e-3)


def test_the_single_frame_latent_is_marked():
    network = make()
    ids, times, first = batch()
    conditioning = network.condition(2)
    before, after = network(ids, times, first, conditioning), network(ids, times, ~first, conditioning)
    assert not torch.allclose(before, after, atol=1e-4)


def test_context_tokens_may_come_from_outside_without_times():
    network = make(ecg=None, context_dim=12, adaptive_norm=False, frame_features=0, cross_attention_every=1)
    ids, times, first = batch()
    values = torch.randn(2, 3, 12)
    keep = torch.tensor([[True, True, False], [False, False, False]])
    before = network(ids, times, first, network.condition(2, context=Tokens(values, None, keep)))
    values = values.clone()
    values[~keep] = 7.0
    after = network(ids, times, first, network.condition(2, context=Tokens(values, None, keep)))
    torch.testing.assert_close(before, after)
    none = network(ids, times, first, network.condition(2))
    torch.testing.assert_close(before[1], none[1])
    assert not torch.allclose(before[0], none[0], atol=1e-4)


def test_a_window_that_is_too_long_is_refused():
    network = make()
    with pytest.raises(InputError, match="at most 5 x 4"):
        network(*batch(6), network.condition(2))


def test_the_paper_preset_has_the_size_of_table_5():
    config = MaskedTransformerConfig.paper()
    with torch.device("meta"):
        weights = sum(p.numel() for p in MaskedTransformer(config).parameters())
    assert (config.max_latents, config.spatial_positions, config.vocabulary) == (6, 256, 8192)
    assert 30e6 < weights < 40e6  # as published: 36 M


def test_a_tiny_network_learns_what_the_conditions_say():
    network = MaskedTransformer(replace(TINY, groups=1)).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, betas=(0.9, 0.98))
    ids = torch.full((32, 2, 4, 1), TINY.vocabulary)
    times = torch.arange(2).expand(32, -1) * 0.125
    first = torch.ones(32, dtype=torch.bool)

    def toy():
        """Tokens of latent 0 tell the view, of latent 1 the EF; position 3 tells the polarity of the ECG."""
        view, ef, sign = torch.randint(1, 3, (32,)), torch.randint(0, 3, (32,)), torch.randint(0, 2, (32,))
        target = torch.stack((view, 3 + ef), 1)[:, :, None].repeat(1, 1, 4)
        target[:, :, 3] = 6 + sign[:, None]
        ecg = (sign * 2.0 - 1)[:, None] * torch.sin(torch.arange(64) / 4).relu()
        return network.condition(32, ecg=ecg, ef_percent=20.0 + 25 * ef, view=view), target

    for _ in range(150):
        conditioning, target = toy()
        loss = F.cross_entropy(network(ids, times, first, conditioning).flatten(0, -2), target.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    conditioning, target = toy()
    guess = network(ids, times, first, conditioning).argmax(-1).squeeze(-1)
    assert (guess == target).float().mean() > 0.95
    assert all(p.grad is not None for name, p in network.named_parameters() if not name.startswith("frame"))


@pytest.mark.parametrize("local", [(), (0,), (0, 2), (0, 1, 2)])
@pytest.mark.parametrize("asked", [slice(1), slice(1, 3), slice(0, 4)])
def test_asked_latents_are_as_they_are_among_all(local, asked):
    network = make(depth=3, cross_attention_every=0, local_blocks=local)
    ids, times, first = batch(4)
    told = network.condition(2, frame_features=torch.randn(2, 4, 3), ef_percent=torch.tensor([30.0, 60.0]))
    with torch.no_grad():
        whole = network.features(ids, times, first, told)
        torch.testing.assert_close(network.features(ids, times, first, told, asked), whole[:, asked])

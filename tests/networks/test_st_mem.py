"""ST-MEM: tokens lie where their patches do, leads may be absent, and pretraining sees only what it is given."""

import pytest
import torch

from echogen.errors import InputError
from echogen.networks.config import load_network, save_network
from echogen.networks.st_mem import StMem, StMemConfig
from echogen.networks.st_mem_pretraining import StMemPretraining, StMemPretrainingConfig, normalise_patches

SMALL = StMemConfig(seq_len=120, patch_size=10, width=24, depth=2, heads=3, head_dim=8, mlp_dim=40)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return StMem(SMALL).eval()


def ecg(batch=2, leads=12, samples=120):
    return torch.randn(batch, leads, samples, generator=torch.Generator().manual_seed(1))


def test_paper_size():
    with torch.device("meta"):
        network = StMem(StMemConfig.paper())
    # 85.15 M in all, of which the released classifier has 2,307 and the fixed positions 24,576.
    assert sum(p.numel() for p in network.parameters()) == 85_152_921 - 2_307 - 24_576


def test_tokens_lie_at_the_patch_centres(network):
    tokens = network(ecg(), start_s=torch.tensor([0.0, -1.5]))
    assert tokens.values.shape == (2, 12 * 12, 24)
    assert bool(tokens.mask.all())
    times = tokens.times_s.view(2, 12, 12)
    assert times[0, 0, :2].tolist() == pytest.approx([4.5 / 250, 14.5 / 250])
    assert torch.equal(times[0, 0], times[0, 11])
    assert torch.allclose(times[1], times[0] - 1.5)


def test_the_time_on_the_clock_changes_no_value(network):
    assert torch.equal(network(ecg()).values, network(ecg(), start_s=torch.tensor([3.0, 4.0])).values)


def test_absent_leads_need_no_padding(network):
    signal = ecg()
    with torch.no_grad():
        two = network(signal[:, [1, 6]], leads=(1, 6))
        swapped = network(signal[:, [6, 1]], leads=(6, 1))
        misnamed = network(signal[:, [1, 6]], leads=(2, 6))
        single = network(signal[:, 1:2], leads=(1,))
    assert single.values.shape == (2, 12, 24)
    # The order of the rows does not matter, which leads they are does.
    assert torch.allclose(two.values.view(2, 2, 12, 24), swapped.values.view(2, 2, 12, 24).flip(1), atol=1e-5)
    assert not torch.allclose(two.values, misnamed.values, atol=1e-3)
    # Leads see each other.
    assert not torch.allclose(two.values[:, :12], single.values, atol=1e-3)


def test_the_pooled_form_is_the_mean_of_lead_two_before_the_norm(network):
    signal = ecg()
    with torch.no_grad():
        network.norm.weight.uniform_(0.5, 1.5)
        encoded = network.encode(signal)
        expected = torch.nn.functional.layer_norm(encoded[:, 1].mean(1), (24,), network.norm.weight, network.norm.bias)
        assert torch.allclose(network.pooled(signal), expected, atol=1e-6)
        assert torch.allclose(network.pooled(signal.double()), expected, atol=1e-6)
        assert torch.allclose(network(signal).values, network.norm(encoded).flatten(1, 2))


def test_saved_and_loaded(network, tmp_path):
    save_network(network, tmp_path)
    again = load_network(StMem, tmp_path)
    assert again.config == SMALL
    assert torch.equal(again.pooled(ecg()), network.pooled(ecg()))


def test_positions_are_not_trained(network):
    names = {name for name, _ in network.named_parameters()}
    assert "position" not in names
    assert "position" in network.state_dict()
    network.pooled(ecg()).square().sum().backward()
    assert network.lead.grad is not None
    assert bool((network.lead.grad != 0).any())
    assert bool((network.separator.grad != 0).any())


@pytest.mark.parametrize(
    ("signal", "leads", "message"),
    [
        (ecg(samples=110), None, "120"),
        (ecg(leads=2), None, "2 leads"),
        (ecg(leads=2), (0, 1, 2), "2 leads"),
        (ecg(leads=1), (12,), "not lead 12"),
        (ecg(leads=1), (-1,), "not lead -1"),
        (ecg()[0], None, "not"),
    ],
)
def test_an_ecg_that_does_not_fit_is_one_sentence(network, signal, leads, message):
    with pytest.raises(InputError, match=message):
        network(signal, leads=leads)


@pytest.mark.parametrize("wrong", [{"patch_size": 77}, {"heads": 0}, {"rate_hz": -1.0}])
def test_a_config_that_cannot_be_is_one_sentence(wrong):
    with pytest.raises(InputError, match="ST-MEM"):
        StMemConfig(**wrong)


PRETRAINING = StMemPretrainingConfig(
    encoder=SMALL, decoder_width=16, decoder_depth=1, decoder_heads=2, decoder_head_dim=8, decoder_mlp_dim=32
)


def test_three_quarters_of_every_lead_are_hidden():
    torch.manual_seed(3)
    found = StMemPretraining(PRETRAINING)(ecg())
    assert found.patches.shape == (2, 12, 12, 10)
    assert found.hidden.sum(-1).unique().tolist() == [9]
    assert len({tuple(row.tolist()) for row in found.hidden.flatten(0, 1)}) > 12  # each lead by itself
    assert StMemPretrainingConfig().kept_patches == 7


def test_what_is_hidden_is_not_seen_and_what_is_kept_is():
    torch.manual_seed(3)
    network = StMemPretraining(PRETRAINING)
    signal = ecg()
    kept = network.draw_kept(2, 12)
    found = network(signal, kept=kept)
    patches = signal.view(2, 12, 12, 10)
    other = torch.where(found.hidden.unsqueeze(-1), torch.randn_like(patches), patches)
    assert torch.equal(network(other.reshape(2, 12, 120), kept=kept).patches, found.patches)
    other = torch.where(found.hidden.unsqueeze(-1), patches, torch.randn_like(patches))
    again = network(other.reshape(2, 12, 120), kept=kept)
    assert not torch.allclose(again.patches, found.patches, atol=1e-3)


def test_the_loss_is_over_hidden_normalised_patches():
    torch.manual_seed(3)
    network = StMemPretraining(PRETRAINING)
    signal = ecg()
    found = network(signal)
    target = normalise_patches(signal.view(2, 12, 12, 10))
    assert target.mean(-1).abs().max() < 1e-5
    assert target.var(-1).mean() == pytest.approx(1, abs=1e-3)
    expected = (found.patches - target)[found.hidden].square().mean()
    assert found.loss.item() == pytest.approx(expected.item(), rel=1e-5)
    found.loss.backward()
    assert all(weight.grad is not None for weight in network.parameters())


def test_pretraining_takes_fewer_leads():
    torch.manual_seed(3)
    network = StMemPretraining(PRETRAINING)
    assert network(ecg(leads=2), leads=(1, 6)).patches.shape == (2, 2, 12, 10)


@pytest.mark.parametrize("ratio", [0.0, 1.0, -0.5])
def test_a_mask_ratio_that_hides_nothing_or_all_is_one_sentence(ratio):
    with pytest.raises(InputError, match="mask_ratio"):
        StMemPretrainingConfig(encoder=SMALL, mask_ratio=ratio)

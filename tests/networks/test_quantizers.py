import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from echogen.errors import InputError
from echogen.networks.quantizers import FSQ, LFQ, VQ, QuantizerConfig, lfq_entropies, make_quantizer


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def make(kind: str, dim: int = 12, **options):
    options = {"levels": (4, 5, 3), "codebook_size": 64, "codebook_dim": 6, "groups": 2} | options
    return make_quantizer(QuantizerConfig(kind=kind, **options), dim)


@pytest.mark.parametrize("kind", ["fsq", "lfq", "vq"])
@pytest.mark.parametrize("groups", [1, 3])
def test_ids_decode_to_the_values_they_came_from(kind, groups):
    quantizer = make(kind, groups=groups).eval()
    out = quantizer(torch.randn(2, 5, 7, 12))
    assert out.values.shape == (2, 5, 7, 12)
    assert out.ids.shape == (2, 5, 7, groups)
    assert out.ids.dtype == torch.int64
    assert out.ids.min() >= 0
    assert out.ids.max() < quantizer.vocabulary
    assert out.loss == 0
    torch.testing.assert_close(quantizer.decode_ids(out.ids), out.values)


@pytest.mark.parametrize("kind", ["fsq", "lfq", "vq"])
def test_every_code_is_reached_and_codes_quantise_to_themselves(kind):
    quantizer = make(kind, groups=1).eval()
    ids = torch.arange(quantizer.vocabulary).unsqueeze(-1)
    codes = quantizer.codes(ids)
    assert codes.unique(dim=0).shape[0] == quantizer.vocabulary
    if kind == "fsq":  # the input of tanh whose bounded value is the code
        levels = torch.tensor([4, 5, 3])
        reach, offset = (levels - 1) * 1.001 / 2, (levels % 2 == 0) * 0.5
        codes = torch.atanh((codes * (levels // 2) + offset) / reach) - torch.atanh(offset / reach)
    assert torch.equal(quantizer.quantize(codes).ids, ids)


@settings(max_examples=20, deadline=None)
@given(levels=st.lists(st.integers(2, 9), min_size=1, max_size=4))
def test_fsq_takes_exactly_its_levels_and_numbers_them_in_mixed_radix(levels):
    quantizer = make("fsq", levels=tuple(levels), groups=1)
    assert quantizer.vocabulary == math.prod(levels)
    steps = [
        sorted(set(quantizer.quantize(x).values[..., i].detach().flatten().tolist()))
        for i, x in ((i, torch.linspace(-9, 9, 2000).view(-1, 1, 1).expand(-1, 1, len(levels))) for i in range(len(levels)))
    ]
    for level, found in zip(levels, steps, strict=True):
        assert found == pytest.approx([(i - level // 2) / (level // 2) for i in range(level)], abs=1e-6)
    digits = list(itertools.product(*(range(level) for level in reversed(levels))))
    codes = quantizer.codes(torch.arange(quantizer.vocabulary).unsqueeze(-1))[:, 0]
    half = torch.tensor([level // 2 for level in levels])
    assert (codes * half + half).round().int().flip(-1).tolist() == [list(d) for d in digits]


def test_fsq_gradient_passes_the_rounding_and_is_that_of_tanh():
    quantizer = make("fsq", levels=(5, 5), groups=1)
    z = torch.randn(6, 1, 2, requires_grad=True)
    quantizer.quantize(z).values.sum().backward()
    torch.testing.assert_close(z.grad, (1 - torch.tanh(z.detach()) ** 2) * 2.002 / 2)


def test_lfq_gradient_passes_the_sign():
    quantizer = make("lfq", groups=1).eval()
    z = torch.randn(6, 1, 6, requires_grad=True)
    out = quantizer.quantize(z)
    assert torch.equal(out.values.detach(), z.detach().sign())
    assert torch.equal(out.ids, ((z > 0) * 2 ** torch.arange(6)).sum(-1))
    out.values.sum().backward()
    assert torch.equal(z.grad, torch.ones_like(z))


@pytest.mark.parametrize("bits", [1, 2, 5])
def test_lfq_entropies_are_those_of_the_softmax_over_all_codes(bits):
    z = torch.randn(40, 2, bits)
    codes = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=bits)))
    p = (-(z.unsqueeze(-2) - codes).square().sum(-1)).softmax(-1)  # N, groups, codes
    sample = -(p * p.log()).sum(-1).mean()
    mean = p.mean(0)
    batch = -(mean * mean.log()).sum(-1).mean()
    torch.testing.assert_close(lfq_entropies(z), (sample, batch), atol=1e-4, rtol=1e-4)


def test_lfq_loss_adds_commitment_and_entropies_in_training():
    quantizer = make("lfq", commitment_weight=0.5, entropy_weight=0.3, batch_entropy_weight=2.0).train()
    z = torch.randn(10, 2, 6)
    sample, batch = lfq_entropies(z)
    expected = 0.5 * F.mse_loss(z, z.sign()) + 0.3 * (sample - 2 * batch)
    torch.testing.assert_close(quantizer.quantize(z).loss, expected)


def test_vq_takes_the_most_similar_code_and_its_gradient_passes():
    quantizer = make("vq", groups=1).eval()
    z = torch.randn(9, 1, 6, requires_grad=True)
    out = quantizer.quantize(z)
    similarity = F.normalize(z, dim=-1)[:, 0] @ quantizer.codebook[0].T
    assert torch.equal(out.ids[:, 0], similarity.argmax(-1))
    torch.testing.assert_close(out.values[:, 0], quantizer.codebook[0][out.ids[:, 0]])
    weights = torch.randn(9, 1, 6)
    (grad,) = torch.autograd.grad((out.values * weights).sum(), z)
    (expected,) = torch.autograd.grad((F.normalize(z, dim=-1) * weights).sum(), z)
    torch.testing.assert_close(grad, expected)


def test_vq_codebook_follows_the_running_mean_of_its_uses():
    quantizer = make("vq", groups=1, codebook_size=3, codebook_dim=2, ema_decay=0.9).train()
    with torch.no_grad():
        quantizer.codebook.copy_(torch.tensor([[[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]]))
        quantizer.sums.copy_(quantizer.codebook)
    z = torch.tensor([[3.0, 1.0], [2.0, 0.5], [0.0, 5.0]]).view(3, 1, 2)
    unit = F.normalize(z[:, 0], dim=-1)
    loss = quantizer.quantize(z).loss
    old = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    torch.testing.assert_close(loss, 0.25 * F.mse_loss(unit, old))
    torch.testing.assert_close(quantizer.usage, torch.tensor([[0.9 + 0.2, 0.9 + 0.1, 0.9]]))
    sums = 0.9 * torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    sums[0] += 0.1 * (unit[0] + unit[1])
    sums[1] += 0.1 * unit[2]
    torch.testing.assert_close(quantizer.codebook[0], F.normalize(sums, dim=-1))
    before = quantizer.codebook.clone()
    quantizer.eval()(torch.randn(4, 12))
    assert torch.equal(before, quantizer.codebook)


def test_vq_revives_codes_that_are_not_used():
    z = F.normalize(torch.randn(64, 1, 6) + torch.tensor([8.0, 0, 0, 0, 0, 0]), dim=-1)
    used = {}
    for threshold in (0.0, 0.2):
        quantizer = make("vq", groups=1, ema_decay=0.5, dead_code_threshold=threshold).train()
        for _ in range(15):
            ids = quantizer.quantize(z).ids
        used[threshold] = ids.unique().numel()
        assert quantizer.codebook.isfinite().all()
    assert used[0.2] > 2 * used[0.0]


@pytest.mark.parametrize("kind", ["fsq", "lfq", "vq"])
def test_under_autocast_the_ids_are_those_of_float32(kind):
    quantizer = make(kind).eval()
    x = torch.randn(50, 12)
    with torch.autocast("cpu", torch.bfloat16):
        out = quantizer(x)
    assert out.values.dtype == torch.float32
    assert torch.equal(out.ids, quantizer(x).ids)


def test_kinds_and_sizes_are_checked():
    assert [type(make(kind)) for kind in ("fsq", "lfq", "vq")] == [FSQ, LFQ, VQ]
    with pytest.raises(InputError, match="fsq, lfq, vq"):
        QuantizerConfig(kind="rvq")
    with pytest.raises(InputError, match="power of two"):
        QuantizerConfig(kind="lfq", codebook_size=1000)
    with pytest.raises(InputError, match="at least"):
        QuantizerConfig(levels=(8, 1))


def test_nearby_codes_are_a_step_off_in_one_number():
    quantizer = make("fsq", levels=(5, 4, 3), groups=1)
    ids = torch.arange(60).view(1, 60, 1).repeat(8, 1, 1)
    assert torch.equal(quantizer.nearby(ids, torch.zeros(8, 1, 1)), ids)
    near = quantizer.nearby(ids, torch.ones(8, 1, 1))
    levels, basis = torch.tensor([5, 4, 3]), torch.tensor([1, 5, 20])
    off = ((near // basis) % levels - (ids // basis) % levels).abs()
    assert near.min() >= 0
    assert near.max() < 60
    assert set(off.sum(-1).unique().tolist()) == {0, 1}  # at the end of a number's levels there is no step beyond
    assert 0.5 < (off.sum(-1) == 1).float().mean() < 0.9

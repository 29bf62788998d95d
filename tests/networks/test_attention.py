import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from echogen.networks.attention import Block, CrossContext, Tokens, rotary, rotary_pairs, rotate


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def make(**options) -> Block:
    block = Block(32, 4, **options).eval()
    for parameter in block.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return block


@settings(max_examples=20, deadline=None)
@given(a=st.floats(-4, 4), b=st.floats(-4, 4), shift=st.floats(-4, 4))
def test_products_of_rotated_vectors_depend_on_time_differences_only(a, b, shift):
    query, key = torch.randn(2, 1, 1, 1, 16, generator=torch.Generator().manual_seed(0))

    def product(seconds_query, seconds_key):
        left = rotate(query, rotary(torch.tensor([[seconds_query]]), rotary_pairs(16)))
        right = rotate(key, rotary(torch.tensor([[seconds_key]]), rotary_pairs(16)))
        return (left * right).sum()

    torch.testing.assert_close(product(a, b), product(a + shift, b + shift), atol=5e-3, rtol=0)


def test_rotation_keeps_lengths_and_leaves_the_other_dimensions():
    x = torch.randn(2, 5, 3, 16)
    turned = rotate(x, rotary(torch.rand(2, 5), rotary_pairs(16, 0.5)))
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    assert torch.equal(turned[..., 8:], x[..., 8:])
    assert not torch.allclose(turned[..., :8], x[..., :8])


def test_periods_reach_from_a_frame_to_several_beats():
    table = rotary(torch.tensor([[0.0, 4.0, 0.03]]), 8)
    assert table.cos.dtype == torch.float32
    assert table.cos[0, 1, 0] == pytest.approx(1, abs=1e-5)
    assert table.cos[0, 2, -1] == pytest.approx(1, abs=1e-5)
    assert table.cos[0, 2, 0] > 0.99


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("qk_norm", [False, True])
def test_a_plain_block_is_what_its_equations_say(gated, qk_norm):
    block = make(gated_mlp=gated, qk_norm=qk_norm)
    x = torch.randn(2, 6, 32)
    normed = F.layer_norm(x, (32,), block.attention_norm.weight)
    query, key, value = (block.attention.qkv.weight @ normed.mT).mT.view(2, 6, 3, 4, 8).permute(2, 0, 3, 1, 4)
    if qk_norm:
        query, key = (t / (t.square().mean(-1, keepdim=True) + 1e-6).sqrt() for t in (query, key))
    weights = (query @ key.mT / 8**0.5).softmax(-1)
    y = x + (weights @ value).transpose(1, 2).reshape(2, 6, 32) @ block.attention.out.weight.T
    hidden = block.mlp.rise(F.layer_norm(y, (32,), block.mlp_norm.weight))
    hidden = hidden[..., : hidden.shape[-1] // 2] * F.gelu(hidden[..., hidden.shape[-1] // 2 :]) if gated else F.gelu(hidden)
    torch.testing.assert_close(block(x), y + block.mlp.fall(hidden))


def test_a_new_modulated_block_passes_its_input_and_then_follows_the_condition():
    block = Block(32, 4, modulated=True).eval()
    x = torch.randn(2, 3, 5, 32)
    assert torch.equal(block(x, modulation=torch.zeros(2, 3, 1, 192)), x)
    modulation = torch.randn(2, 3, 1, 192)
    out = block(x, modulation=modulation)
    modulation[1, 2] += 1
    other = block(x, modulation=modulation)
    torch.testing.assert_close(out[0], other[0])
    assert not torch.allclose(out[1, 2], other[1, 2])


def context(mask: torch.Tensor, values: torch.Tensor, shift: float = 0.0) -> CrossContext:
    times = torch.linspace(-1, 1, values.shape[1]).expand(2, -1) + shift
    queries = torch.linspace(0, 2, 6).expand(2, -1) + shift
    return CrossContext(Tokens(values, times, mask), rotary(queries, 2), rotary(times, 2))


def test_cross_attention_sees_time_differences_and_unmasked_tokens_only():
    block = make(cross_attention=True)
    x, values = torch.randn(2, 6, 32), torch.randn(2, 4, 32)
    mask = torch.tensor([[True, True, False, False], [False] * 4])
    before = block(x, context=context(mask, values))
    torch.testing.assert_close(before, block(x, context=context(mask, values, shift=1.0)), atol=1e-4, rtol=1e-4)
    changed = values.clone()
    changed[~mask] = 100.0
    torch.testing.assert_close(before, block(x, context=context(mask, changed)))
    changed[0, 0] = -1.0
    after = block(x, context=context(mask, changed))
    assert not torch.allclose(before[0], after[0])
    assert before.isfinite().all()


def test_masks_and_causality():
    block = make()
    x = torch.randn(1, 6, 32)
    changed = x.clone()
    changed[:, 4:] = 0
    torch.testing.assert_close(block(x, causal=True)[:, :4], block(changed, causal=True)[:, :4])
    mask = torch.ones(6, 6, dtype=torch.bool).tril()
    torch.testing.assert_close(block(x, causal=True), block(x, mask=mask))
    assert not torch.allclose(block(x)[:, :4], block(changed)[:, :4])

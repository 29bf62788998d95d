import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from echogen.errors import InputError
from echogen.networks.config import load_network, save_network
from echogen.networks.published import PositionBias, PositionConvolution, PublishedAttention
from echogen.networks.published_discriminator import (
    PublishedDiscriminator,
    PublishedDiscriminatorConfig,
    gradient_penalty,
    hinge_discriminator_loss,
    hinge_generator_loss,
)
from echogen.networks.published_tokenizer import PublishedTokenizer, PublishedTokenizerConfig
from echogen.networks.published_transformer import (
    PublishedCritic,
    PublishedTransformer,
    PublishedTransformerConfig,
    SelfCritic,
    hidden_subset,
    masked_token_loss,
)

TINY = PublishedTokenizerConfig(
    image_size=(16, 24), patch=(8, 4), dim=24, heads=2, head_dim=16, feed_forward=20, spatial_depth=1, temporal_depth=2,
    codebook_size=30, codebook_dim=6,
)  # fmt: skip
WORDS = PublishedTransformerConfig(
    vocabulary=30, max_tokens=40, dim=24, depth=2, heads=3, head_dim=8, feed_forward=20, context_dim=10
)
SHAPE = (3, 2, 6)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def transformer() -> PublishedTransformer:
    return PublishedTransformer(WORDS).eval()


def test_keys_and_values_come_from_the_stream_before_its_norm():
    attention = PublishedAttention(12, heads=2, head_dim=5)
    torch.nn.init.normal_(attention.norm.weight)
    x = torch.randn(3, 7, 12) * 4 + 1
    key, value = (part.view(3, 7, 2, 5) for part in attention.key_value(x).chunk(2, dim=-1))
    query = attention.query(attention.norm(x)).view(3, 7, 2, 5)
    cosine = torch.einsum("bihd,bjhd->bhij", F.normalize(query, dim=-1), F.normalize(key, dim=-1))
    expected = torch.einsum("bhij,bjhd->bihd", (8 * cosine).softmax(-1), value).flatten(2)
    torch.testing.assert_close(attention(x), attention.out(expected), rtol=0, atol=1e-5)


def test_null_keys_stand_beside_the_context():
    attention = PublishedAttention(12, heads=2, head_dim=5, context_dim=9, null_keys=3)
    seen = attention.keys_and_values(torch.randn(4, 2, 9))
    assert seen.key.shape == seen.value.shape == (4, 2, 5, 5)
    torch.testing.assert_close(seen.value[1, :, :3], attention.null[:, :, 1])
    torch.testing.assert_close(seen.key.norm(dim=-1), torch.ones(4, 2, 5))


def test_the_position_convolution_scrambles_the_axes_of_temporal_layers():
    peg = PositionConvolution(6, early=True)
    columns = torch.randn(2 * 4 * 5, 3, 6)  # (batch height width), time
    shape = (2, 3, 4, 5)
    straight = columns.view(2, 4, 5, 3, 6).permute(0, 3, 1, 2, 4)
    expected = peg(straight, shape).permute(0, 2, 3, 1, 4).reshape(columns.shape)
    assert (peg(columns, shape) - expected).abs().max() > 0.1
    as_if = columns.reshape(2, 3, 4, 5, 6).permute(0, 4, 1, 2, 3)
    scrambled = peg.conv(F.pad(as_if, (1, 1, 1, 1, 2, 0))).permute(0, 2, 3, 4, 1).reshape(columns.shape)
    torch.testing.assert_close(peg(columns, shape), scrambled)


def test_an_early_convolution_does_not_see_later_frames():
    x = torch.randn(1, 4, 3, 3, 6)
    later = x.clone()
    later[:, 3] += 1
    changes = [
        (peg(x, (1, 4, 3, 3)) - peg(later, (1, 4, 3, 3))).abs().amax((0, 2, 3, 4)) > 0
        for peg in (PositionConvolution(6, early=True), PositionConvolution(6, early=False))
    ]
    assert changes[0].tolist() == [False, False, False, True]
    assert changes[1].tolist() == [False, False, True, True]


@pytest.mark.parametrize("shape", [(5,), (2, 6), (3, 2, 4)])
def test_the_position_bias_is_that_of_every_pair(shape):
    bias = PositionBias(8, heads=3, axes=len(shape))
    positions = torch.cartesian_prod(*(torch.arange(size) for size in shape)).view(-1, len(shape)).float()
    offsets = positions[:, None] - positions[None, :]
    hidden = F.leaky_relu(bias.first(offsets.sign() * torch.log(offsets.abs() + 1)), 0.1)
    expected = bias.last(F.leaky_relu(bias.second(hidden), 0.1)).permute(2, 0, 1)
    torch.testing.assert_close(bias(*shape), expected, rtol=0, atol=1e-6)
    with torch.no_grad():
        torch.testing.assert_close(bias(*shape), expected, rtol=0, atol=1e-6)


def test_the_position_bias_is_kept_until_weights_or_shape_change():
    bias = PositionBias(8, heads=3, axes=2)
    with torch.inference_mode():
        kept = bias(2, 3)
        assert bias(2, 3) is kept
        assert bias(3, 2).shape == kept.shape
    with torch.no_grad():
        assert torch.equal(bias(2, 3), kept)
        bias.last.weight.data.mul_(2)  # a change that version counters do not see
        changed = bias(2, 3)
        assert not torch.equal(changed, kept)
        assert bias(2, 3) is changed
    assert bias(2, 3).requires_grad
    with torch.no_grad():
        assert bias.double()(2, 3).dtype == torch.float64
    bias.requires_grad_(False)
    with torch.inference_mode():
        kept = bias(2, 3)
    x = torch.ones((), dtype=torch.float64, requires_grad=True)
    (bias(2, 3) * x).sum().backward()
    torch.testing.assert_close(x.grad, kept.sum().clone())


def test_published_sizes():
    with torch.device("meta"):
        tokenizer = PublishedTokenizer(PublishedTokenizerConfig.published())
        transformer = PublishedTransformer(PublishedTransformerConfig.published())
        discriminator = PublishedDiscriminator(PublishedDiscriminatorConfig.published())
    assert PublishedTokenizerConfig.published().feed_forward == int(4 * 512 * 2 / 3) == 1365
    assert tokenizer.latent_shape(11) == (6, 16, 16)
    networks = (tokenizer, transformer, discriminator)
    counts = [sum(weight.numel() for weight in network.parameters() if weight.requires_grad) for network in networks]
    # Counted in the published code, less the context norms of self-attention, which nothing uses.
    assert counts == [51_485_928 - 16 * 512, 36_306_760 - 6 * 512, 20_683_521 - 512]


@pytest.mark.parametrize("frames", [1, 3, 7])
def test_a_video_comes_back_in_its_shape(frames):
    tokenizer = PublishedTokenizer(TINY).eval()
    video = torch.rand(2, 3, frames, 16, 24)
    out = tokenizer(video)
    assert out.reconstruction.shape == (2, frames, 3, 16, 24)
    assert out.ids.shape == (2, (frames + 1) // 2, 12, 1)
    assert torch.equal(tokenizer.tokenize(video), out.ids)
    torch.testing.assert_close(tokenizer.decode_ids(out.ids), out.reconstruction, rtol=0, atol=1e-5)
    assert out.quantizer_loss == 0


def test_pixels_of_a_patch_keep_their_place():
    tokenizer = PublishedTokenizer(TINY)
    video = torch.rand(1, 3, 5, 16, 24)
    first, rest = tokenizer._patches(video[:, :, :1], 1), tokenizer._patches(video[:, :, 1:], 2)
    again = torch.cat((tokenizer._pictures(first, 1), tokenizer._pictures(rest, 2)), dim=1)
    assert torch.equal(again.transpose(1, 2), video)


def test_pixels_are_drawn_in_full_precision():
    tokenizer = PublishedTokenizer(TINY).eval()
    ids = torch.randint(0, 30, (1, 3, 12, 1))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        video = tokenizer.decode_ids(ids)
    assert video.dtype == torch.float32
    assert not torch.equal(video, video.bfloat16().float())


def test_the_first_frame_depends_on_later_ones():
    tokenizer = PublishedTokenizer(TINY).eval()
    video = torch.rand(1, 3, 5, 16, 24)
    assert (tokenizer.encode(video)[:, 0] - tokenizer.encode(video[:, :, :1])[:, 0]).abs().max() > 1e-3


@pytest.mark.parametrize("shape", [(1, 3, 2, 16, 24), (1, 3, 3, 24, 16), (1, 1, 3, 16, 24), (3, 3, 16, 24)])
def test_a_video_that_does_not_fit_is_refused(shape):
    with pytest.raises(InputError, match="The tokenizer takes"):
        PublishedTokenizer(TINY).encode(torch.rand(shape))


def test_gradients_reach_every_weight_of_the_tokenizer():
    tokenizer = PublishedTokenizer(TINY).train()
    before = tokenizer.quantizer.codebook.clone()
    video = torch.rand(2, 3, 5, 16, 24)
    out = tokenizer(video)
    (F.mse_loss(out.reconstruction, video.transpose(1, 2)) + out.quantizer_loss).backward()
    trained = {name: weight for name, weight in tokenizer.named_parameters() if weight.requires_grad}
    assert [name for name, weight in trained.items() if weight.grad is None or not weight.grad.abs().sum() > 0] == []
    assert out.quantizer_loss > 0
    assert not torch.equal(tokenizer.quantizer.codebook, before)


@pytest.mark.parametrize(
    ("kind", "config"), [(PublishedTokenizer, TINY), (PublishedTransformer, WORDS), (PublishedCritic, WORDS)]
)
def test_a_network_is_stored_and_loaded(kind, config, tmp_path):
    network = kind(config)
    save_network(network, tmp_path)
    again = load_network(kind, tmp_path)
    assert again.config == config
    assert all(torch.equal(tensor, network.state_dict()[name]) for name, tensor in again.state_dict().items())


@pytest.mark.parametrize("tokens", [0, 1, 9])  # no context; fewer keys than a head is wide; more
def test_logits_of_chosen_places_are_those_of_all(transformer, tokens, monkeypatch):
    monkeypatch.setattr("echogen.networks.published_transformer.QUERIES", 5)
    ids = torch.randint(0, 31, (2, 36))
    places = torch.stack([torch.randperm(36)[:12] for _ in range(2)])
    rows = torch.arange(2)[:, None]
    with torch.no_grad():
        keys = transformer.encode_context(torch.randn(2, tokens, 10)) if tokens else None
        logits = transformer(ids, SHAPE, keys)
        assert logits.shape == (2, 36, 30)
        chosen = transformer(ids, SHAPE, keys, places=places)
        torch.testing.assert_close(chosen, logits[rows, places], rtol=0, atol=1e-5)
        hidden = torch.rand(2, 36) < 0.5
        masked = transformer(ids, SHAPE, keys, mask=hidden, places=places)
        torch.testing.assert_close(masked, transformer(ids, SHAPE, keys, mask=hidden)[rows, places], rtol=0, atol=1e-5)
        with torch.autocast("cpu", torch.bfloat16):
            coarse = transformer(ids, SHAPE, keys, places=places)
            assert coarse.dtype == torch.bfloat16
            torch.testing.assert_close(coarse.float(), logits[rows, places], rtol=0, atol=0.1)
        torch.testing.assert_close(transformer(ids, SHAPE, keys, places=places), chosen, rtol=0, atol=0)
    torch.testing.assert_close(transformer(ids, SHAPE, keys, places=places), chosen, rtol=0, atol=1e-5)


def test_the_kept_bias_follows_the_weights(transformer):
    ids, places = torch.randint(0, 31, (1, 36)), torch.arange(36)[None]
    with torch.inference_mode():
        before = transformer(ids, SHAPE, places=places)
        transformer.position_bias.last.weight.mul_(3)
        after = transformer(ids, SHAPE, places=places)
        assert not torch.equal(before, after)
        torch.testing.assert_close(after, transformer(ids, SHAPE), rtol=0, atol=1e-5)


def test_the_context_and_hidden_keys_matter(transformer):
    ids = torch.randint(0, 30, (2, 36))
    keys = transformer.encode_context(torch.randn(2, 4, 10))
    logits = transformer(ids, SHAPE, keys)
    assert (logits - transformer(ids, SHAPE)).abs().max() > 1e-2
    all_seen = torch.ones(2, 36, dtype=torch.bool)
    torch.testing.assert_close(transformer(ids, SHAPE, keys, mask=all_seen), logits, rtol=0, atol=1e-5)
    some = transformer(ids, SHAPE, keys, mask=torch.rand(2, 36) < 0.5)
    assert (some - logits).abs().max() > 1e-3
    assert transformer(ids, SHAPE, keys, mask=~all_seen).isfinite().all()


def test_hidden_context_tokens_leave_only_the_null_keys():
    critic = PublishedCritic(WORDS).eval()
    ids = torch.randint(0, 30, (2, 36))
    none = torch.zeros(2, 4, dtype=torch.bool)
    scores = [critic(ids, SHAPE, critic.encode_context(torch.randn(2, 4, 10)), context_mask=none) for _ in range(2)]
    torch.testing.assert_close(scores[0], scores[1], rtol=0, atol=1e-5)
    assert scores[0].shape == (2, 36)


def test_ids_that_do_not_fit_are_refused(transformer):
    with pytest.raises(InputError, match="at most 40 tokens"):
        transformer(torch.zeros(1, 48, dtype=torch.int64), (4, 2, 6))
    with pytest.raises(InputError, match="on a grid of 3 x 2 x 6"):
        transformer(torch.zeros(1, 35, dtype=torch.int64), SHAPE)
    with pytest.raises(InputError, match="no cross-attention"):
        PublishedTransformer(replace(WORDS, context_dim=None)).encode_context(torch.zeros(1, 1, 10))


def test_the_training_loss_reaches_every_weight_and_embeddings_learn_slowly(transformer):
    transformer.train()
    ids, hidden = torch.randint(0, 30, (2, 36)), hidden_subset(torch.rand(2, 36), torch.tensor([0.9, 0.3]))
    context = torch.randn(2, 1, 10)
    loss = masked_token_loss(transformer, ids, SHAPE, context, hidden)
    assert abs(float(loss.detach()) - math.log(30)) < 1
    loss.backward()
    trained = {name: weight for name, weight in transformer.named_parameters() if weight.requires_grad}
    assert [name for name, weight in trained.items() if weight.grad is None or not weight.grad.abs().sum() > 0] == []
    x = transformer._embedded(ids.masked_fill(hidden, 30), SHAPE).detach().requires_grad_()
    keys = transformer.encode_context(context)
    out = transformer.stack(x, (2, *SHAPE), bias=transformer.position_bias(*SHAPE), context=keys)
    F.cross_entropy(transformer.head(out[hidden]), ids[hidden]).backward()
    expected = torch.zeros_like(transformer.position.weight)
    expected[:36] = 0.1 * x.grad.sum(0)
    torch.testing.assert_close(transformer.position.weight.grad, expected, rtol=1e-4, atol=1e-7)


@given(st.integers(1, 60), st.lists(st.floats(0, 1, width=32), min_size=1, max_size=4))
def test_exactly_the_share_asked_is_hidden(tokens, shares):
    hidden = hidden_subset(torch.rand(len(shares), tokens), torch.tensor(shares))
    expected = [max(1, int((torch.tensor(share) * tokens).round())) for share in shares]
    assert hidden.sum(1).tolist() == expected


def test_a_self_critic_scores_by_the_transformers_own_embeddings(transformer):
    critic = SelfCritic(transformer).eval()
    ids = torch.randint(0, 30, (2, 36))
    torch.testing.assert_close(critic(ids, SHAPE), critic.head(transformer.embeddings(ids, SHAPE))[..., 0])


def test_the_penalty_has_a_second_derivative_and_the_losses_their_values():
    config = PublishedDiscriminatorConfig(widths=(8, 12, 12), attention_after=(1,), heads=2, head_dim=4, last_places=24)
    network = PublishedDiscriminator(config)
    images = torch.rand(2, 3, 16, 24, requires_grad=True)
    logits = network(images)
    assert logits.shape == (2,)
    gradient_penalty(images, logits).backward()
    assert network.attention["1"].query.weight.grad.abs().sum() > 0
    direction = torch.ones(6) * 3 / math.sqrt(6)
    points = torch.rand(4, 6, requires_grad=True)
    assert float(gradient_penalty(points, points @ direction, weight=5.0)) == pytest.approx(20, rel=1e-5)
    fake, real = torch.tensor([-2.0, 0.5]), torch.tensor([3.0, 0.0])
    assert float(hinge_discriminator_loss(fake, real)) == pytest.approx((0 + 1.5) / 2 + (0 + 1) / 2)
    assert float(hinge_generator_loss(fake)) == pytest.approx(0.75)

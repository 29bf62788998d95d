from dataclasses import replace

import pytest
import torch

from echogen.errors import InputError
from echogen.networks.quantizers import QuantizerConfig
from echogen.networks.video_tokenizer import VideoTokenizer, VideoTokenizerConfig

TINY = VideoTokenizerConfig(
    image_size=32,
    patch=8,
    time_patch=4,
    dim=32,
    heads=2,
    spatial_depth_encoder=1,
    temporal_depth_encoder=1,
    temporal_depth_decoder=1,
    spatial_depth_decoder=1,
    quantizer=QuantizerConfig(kind="fsq", levels=(5, 5, 4)),
)
SECTOR = (1, 2, 4, 5, 6, 7, 9, 10, 11, 13)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def make(**changes) -> VideoTokenizer:
    return VideoTokenizer(replace(TINY, **changes)).eval()


@pytest.mark.parametrize("smooth", [0, 12])
@pytest.mark.parametrize("active", [None, SECTOR])
@pytest.mark.parametrize("kind", ["fsq", "lfq", "vq"])
def test_a_video_comes_back_in_its_shape_with_one_id_per_patch(smooth, active, kind):
    quantizer = QuantizerConfig(kind=kind, codebook_size=64, codebook_dim=8, groups=2)
    tokenizer = make(smooth_head_channels=smooth, active_patches=active, quantizer=quantizer)
    out = tokenizer(torch.rand(2, 9, 32, 32))
    assert out.reconstruction.shape == (2, 9, 3, 32, 32)
    assert out.ids.shape == (2, 3, tokenizer.config.positions, 2)
    assert out.quantizer_loss.shape == ()


@pytest.mark.parametrize("smooth", [0, 12])
def test_inactive_patches_neither_enter_nor_leave(smooth):
    tokenizer = make(active_patches=SECTOR, smooth_head_channels=smooth)
    video = torch.rand(1, 5, 32, 32)
    other = video.clone()
    outside = torch.ones(16, dtype=torch.bool)
    outside[list(SECTOR)] = False
    outside = outside.view(4, 4).repeat_interleave(8, 0).repeat_interleave(8, 1)
    other[:, :, outside] = 0.5
    out = tokenizer(video).reconstruction
    assert torch.equal(out, tokenizer(other).reconstruction)
    assert (out[..., outside] == 0).all()
    assert (out[..., ~outside] != 0).any(dim=(0, 1, 2)).all()


@pytest.mark.parametrize("window", [None, 2])
def test_later_frames_change_neither_earlier_ids_nor_pixels(window):
    tokenizer = make(time_window=window, smooth_head_channels=12)
    video = torch.rand(1, 17, 32, 32)
    changed = video.clone()
    changed[:, 9:] = torch.rand(1, 8, 32, 32)
    before, after = tokenizer(video), tokenizer(changed)
    assert torch.equal(before.ids[:, :3], after.ids[:, :3])
    assert not torch.equal(before.ids[:, 3:], after.ids[:, 3:])
    torch.testing.assert_close(before.reconstruction[:, :9], after.reconstruction[:, :9])


def test_without_causality_the_future_is_seen():
    tokenizer = make(causal=False)
    video = torch.rand(1, 17, 32, 32)
    changed = video.clone()
    changed[:, 9:] = 0
    assert not torch.allclose(tokenizer.encode(video)[:, :3], tokenizer.encode(changed)[:, :3])


def test_a_lone_first_frame_has_the_ids_it_has_in_a_clip():
    tokenizer = make()
    video = torch.rand(2, 9, 32, 32)
    assert torch.equal(tokenizer.tokenize(video[:, :1]), tokenizer.tokenize(video)[:, :1])


@pytest.mark.parametrize(("start", "length", "frames"), [(0, 1, 1), (0, 2, 5), (1, 2, 8), (3, 1, 4)])
def test_a_crop_gives_the_frames_of_its_latents(start, length, frames):
    tokenizer = make(smooth_head_channels=12)
    video = torch.rand(1, 13, 32, 32)
    out = tokenizer(video, crop=(start, length))
    assert out.reconstruction.shape[1] == frames == video[:, tokenizer.frames(start, length)].shape[1]
    assert out.ids.shape[1] == 4


def test_with_a_time_window_a_stream_decoded_in_pieces_equals_the_whole():
    tokenizer = make(time_window=2, temporal_depth_decoder=2)
    ids = tokenizer.tokenize(torch.rand(1, 25, 32, 32))
    context = tokenizer.config.decoder_context
    assert context == 2
    whole = tokenizer.decode_ids(ids)
    piece = tokenizer.decode_ids(ids[:, 4 - context :], first=False)[:, 4 * context :]
    torch.testing.assert_close(piece, whole[:, tokenizer.frames(4, 3)])


def test_decoding_ids_equals_the_reconstruction():
    tokenizer = make()
    out = tokenizer(torch.rand(1, 9, 32, 32))
    torch.testing.assert_close(tokenizer.decode_ids(out.ids), out.reconstruction)


def test_colour_video_is_taken_channels_first():
    tokenizer = make(channels_in=3)
    assert tokenizer.tokenize(torch.rand(1, 3, 5, 32, 32)).shape == (1, 2, 16, 1)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((1, 8, 32, 32), "multiple of 4"),
        ((1, 9, 32, 24), "32 x 32 pixels"),
        ((1, 3, 9, 32, 32), "dimensions"),
    ],
)
def test_a_video_that_does_not_fit_is_told_why(shape, words):
    with pytest.raises(InputError, match=words):
        make().encode(torch.rand(shape))


@pytest.mark.parametrize(
    "changes",
    [
        {"image_size": 30},
        {"heads": 3},
        {"active_patches": (1, 1)},
        {"active_patches": (0, 16)},
        {"active_patches": ()},
        {"patch": 2, "smooth_head_channels": 8},
        {"noise_channels": 4},
        {"time_window": 2, "causal": False},
    ],
)
def test_an_impossible_architecture_is_refused(changes):
    with pytest.raises(InputError):
        replace(TINY, **changes)


def test_the_crop_must_lie_in_the_video():
    with pytest.raises(InputError, match="crop"):
        make()(torch.rand(1, 5, 32, 32), crop=(1, 2))


def test_the_paper_has_1536_tokens_of_8192():
    config = VideoTokenizerConfig.paper()
    assert (1 + 10 // config.time_patch) * config.positions == 1536
    assert config.quantizer.vocabulary == 8192
    with torch.device("meta"):
        weights = sum(p.numel() for p in VideoTokenizer(config).parameters())
    assert 45e6 < weights < 55e6  # as published, without the networks of its losses: 51 M


def test_every_weight_learns_and_one_clip_is_learned():
    tokenizer = make(smooth_head_channels=12, active_patches=SECTOR).train()
    video = torch.rand(1, 1, 8, 8).repeat_interleave(4, 2).repeat_interleave(4, 3) * torch.linspace(0, 1, 9)[:, None, None]
    target = video[:, :, None].expand(-1, -1, 3, -1, -1) * tokenizer._sector(video)
    optimizer = torch.optim.Adam(tokenizer.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        loss = (tokenizer(video).reconstruction - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]
    assert all(p.grad is not None and p.grad.any() for p in tokenizer.parameters())


@pytest.mark.parametrize("first", [True, False])
def test_a_decoder_with_noise_draws_what_its_generator_says_and_shares_it_within_a_latent(first):
    tokenizer = make(smooth_head_channels=12, noise_channels=3, active_patches=SECTOR)
    features = tokenizer.decode_features(torch.rand(1, 3, len(SECTOR), 32))

    @torch.no_grad()
    def drawn(seed):
        return tokenizer.picture(features, first, torch.Generator().manual_seed(seed))

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.allclose(drawn(1), drawn(2))
    changed = [float(frame) for frame in (drawn(1) - drawn(2)).abs().sum((0, 2, 3, 4))]
    assert len(changed) == (9 if first else 12)
    assert min(changed) > 0
    noise = tokenizer._noise(torch.zeros(1, len(changed), 12, 8, 8), 3, first, None)[0]
    latents = noise.flatten(1).unique(dim=0)
    assert len(latents) == 3
    assert torch.equal(noise[-1], noise[-4])
    assert not torch.equal(noise[-1], noise[-5])

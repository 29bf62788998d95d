import pytest
import torch

from echogen.networks.conditioning import ClipCondition, EcgEncoderConfig, FourierScalar, FrameFeatures, SmallEcgEncoder

CONFIG = EcgEncoderConfig(stem_channels=8, dim=16, depth=2, heads=2)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def test_ecg_tokens_have_the_times_of_their_samples():
    tokens = SmallEcgEncoder(CONFIG)(torch.randn(2, 320), torch.tensor([-1.5, 0.0]))
    assert tokens.values.shape == (2, 20, 16)
    assert tokens.mask.all()
    centre_of_first = (0 + 15) / 2 / 128
    torch.testing.assert_close(tokens.times_s[:, 0], torch.tensor([-1.5 + centre_of_first, centre_of_first]))
    torch.testing.assert_close(tokens.times_s.diff(dim=1), torch.full((2, 19), 0.125))


def test_ecg_tokens_do_not_depend_on_the_start_and_shift_with_the_signal():
    encoder = SmallEcgEncoder(CONFIG).eval()
    signal = torch.randn(1, 320)
    early, late = (encoder(signal, torch.tensor([start])) for start in (0.0, 2.0))
    torch.testing.assert_close(early.values, late.values, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(early.values, encoder(signal.roll(16), torch.zeros(1)).values, atol=1e-3)


def test_an_uneven_ecg_is_padded_and_a_dropped_one_is_masked():
    tokens = SmallEcgEncoder(CONFIG)(torch.randn(2, 300), torch.zeros(2), torch.tensor([True, False]))
    assert tokens.values.shape[1] == 19
    assert tokens.mask.tolist() == [[True] * 19, [False] * 19]


def test_an_unknown_scalar_is_one_learned_vector_and_known_ones_differ():
    encode = FourierScalar(8, scale=100.0)
    out = encode(torch.tensor([torch.nan, 20.0, 21.0, 70.0, torch.nan]))
    assert torch.equal(out[0], encode.null)
    assert torch.equal(out[4], encode.null)
    assert out.isfinite().all()
    assert (out[1] - out[2]).norm() < (out[1] - out[3]).norm()
    out.sum().backward()
    assert all(p.grad.isfinite().all() for p in encode.parameters())


def test_each_clip_label_counts_and_may_be_unknown():
    encode = ClipCondition(8)
    base = (torch.tensor([50.0]), torch.tensor([1]), torch.tensor([1]))
    before = encode(*base)
    for i, other in enumerate((torch.tensor([torch.nan]), torch.tensor([0]), torch.tensor([2]))):
        after = encode(*(other if i == j else value for j, value in enumerate(base)))
        assert not torch.allclose(before, after)
        assert after.isfinite().all()


def test_dropped_frame_features_have_no_influence():
    encode = FrameFeatures(3, 8)
    keep = torch.tensor([True, False])
    features = torch.randn(2, 5, 3)
    features[1] = torch.nan
    out = encode(features, keep)
    assert out.shape == (2, 5, 8)
    assert torch.equal(out[1], encode.null.expand(5, 8))
    assert not torch.allclose(out[0, 0], out[0, 1])
    out.sum().backward()
    assert all(p.grad.isfinite().all() for p in encode.parameters())

"""R(2+1)D: its sizes, its factors, what it looks at, and that it is stored and read again."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from echogen.networks.config import load_network, save_network
from echogen.networks.ef_regressor import EfRegressor, EfRegressorConfig, at_size, middle_width

TINY = EfRegressorConfig(frames=8, size=24, channels=1, widths=(4, 8), blocks=(1, 2), stem_width=5, stem_stride=(2, 2))


@given(st.integers(1, 600), st.integers(1, 600))
def test_both_factors_weigh_at_most_what_a_whole_filter_would(inputs: int, outputs: int) -> None:
    middle = middle_width(inputs, outputs)
    assert middle * (9 * inputs + 3 * outputs) <= 27 * inputs * outputs < (middle + 1) * (9 * inputs + 3 * outputs)


def test_published_sizes_and_the_small_one() -> None:
    with torch.device("meta"):
        published, echonet, small = (
            EfRegressor(config)
            for config in (EfRegressorConfig.published(), EfRegressorConfig.echonet(), EfRegressorConfig.small())
        )
    assert sum(p.numel() for p in published.parameters()) == 31_300_638
    assert {name: p.shape for name, p in echonet.named_parameters()} == {n: p.shape for n, p in published.named_parameters()}
    assert 1e6 < sum(p.numel() for p in small.parameters()) < 2e6
    assert [c.frames / c.fps for c in (published.config, small.config)] == [2.0, 2.0]


def test_one_number_a_video_whatever_else_is_in_the_batch() -> None:
    torch.manual_seed(0)
    network = EfRegressor(TINY).eval()
    videos = torch.rand(3, 8, 24, 24)
    answers = network(videos)
    assert answers.shape == (3,)
    torch.testing.assert_close(answers[1:2], network(videos[1:2]))
    torch.testing.assert_close(answers, network(videos[:, None]))
    assert not torch.allclose(answers, network(videos.flip(1)))  # time has a direction


def test_normalisation_is_per_channel() -> None:
    torch.manual_seed(0)
    plain = EfRegressor(EfRegressorConfig(frames=8, size=16, widths=(4,), blocks=(1,), stem_width=4)).eval()
    config = EfRegressorConfig(
        frames=8, size=16, widths=(4,), blocks=(1,), stem_width=4, mean=(0.1, 0.2, 0.3), std=(0.5, 1.0, 2.0)
    )
    normalised = EfRegressor(config).eval()
    normalised.load_state_dict(plain.state_dict())
    grey = torch.rand(2, 8, 16, 16)
    by_hand = torch.stack([(grey - m) / s for m, s in zip(config.mean, config.std, strict=True)], 1)
    torch.testing.assert_close(normalised(grey), plain(by_hand))


def test_it_is_saved_in_steps_of_8_bits(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = EfRegressor(TINY).eval()
    save_network(network, tmp_path, torch.int8)
    again = load_network(EfRegressor, tmp_path)
    videos = torch.rand(2, 8, 24, 24)
    assert again.config == TINY
    torch.testing.assert_close(again(videos), network(videos), atol=0.5, rtol=0)
    assert again(videos).tolist() == load_network(EfRegressor, tmp_path)(videos).tolist()


def test_resizing_keeps_a_flat_picture_flat() -> None:
    flat = torch.full((1, 2, 128, 128), 0.4)
    torch.testing.assert_close(at_size(flat, 112), torch.full((1, 2, 112, 112), 0.4))
    assert at_size(flat, 128) is flat
    with pytest.raises(RuntimeError):
        EfRegressor(TINY)(torch.rand(1, 3, 8, 24, 24))

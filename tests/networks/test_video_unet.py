"""The video U-Net hears all of its conditions, looks back in time unless frames stand alone, and refuses wrong sizes."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from echogen.errors import InputError
from echogen.networks.config import load_network, save_network
from echogen.networks.video_unet import VideoUnet, VideoUnetConfig
from echogen.networks.video_unet_blocks import PIXELS_AT_ONCE, Attention, OverTime, TimeBias, TimeConv, channels_last

BASE = VideoUnetConfig(
    channels=1, dim=8, widths=(1, 2), blocks=(1, 2), cross_attention=(False, True), heads=2, head_dim=8, middle_heads=2,
    middle_head_dim=8, context=8, ef_latents=4, ef_averages=1, ef_depth=1, stem=(3, 5), groups=4,
)  # fmt: skip
KINDS = {
    "base": BASE,
    "saving": replace(BASE, memory_saving=True, lowres=True),
    "spatial": replace(BASE, lowres=True, middle_attention=False, cross_attention=(False, False)),
    "unit": replace(BASE, unit_queries=True),
}


def network(config: VideoUnetConfig) -> VideoUnet:
    """One in which nothing is silent."""
    torch.manual_seed(0)
    made = VideoUnet(config).eval()
    for weights in made.parameters():
        torch.nn.init.normal_(weights, std=0.3)
    return made


def told(config: VideoUnetConfig, rows: int = 2) -> dict[str, Tensor]:
    torch.manual_seed(1)
    shape = (rows, config.channels, 3, 8, 8)
    inputs = {
        "video": torch.randn(shape), "noise_level": torch.randn(rows), "frame": torch.rand(rows, config.channels, 12, 12),
        "ef": torch.rand(rows),
    }  # fmt: skip
    return inputs | ({"lowres": torch.randn(shape), "lowres_level": torch.rand(rows)} if config.lowres else {})


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_every_input_is_heard_by_its_own_row_alone(kind: str) -> None:
    made, inputs = network(KINDS[kind]), told(KINDS[kind])
    output = made(**inputs)
    assert output.shape == inputs["video"].shape
    for name, value in inputs.items():
        changed = value.clone()
        changed[1] = changed[1].flip(-1) if changed.ndim > 1 else changed[1] + 0.3
        other = made(**(inputs | {name: changed}))
        assert (other[1] - output[1]).abs().max() > 1e-4, name
        torch.testing.assert_close(other[0], output[0], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_an_ef_that_is_not_told_is_not_heard() -> None:
    made, inputs = network(BASE), told(BASE)
    none = made(**(inputs | {"ef": None}))
    keep = torch.tensor([True, False])
    mixed = made(**inputs, keep=keep)
    torch.testing.assert_close(mixed[1], none[1], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(mixed[0], made(**inputs)[0], atol=1e-4, rtol=1e-4)
    zero = inputs | {"ef": torch.zeros(2)}
    published = network(replace(BASE, zero_is_none=True))
    assert (published(**zero) - published(**(zero | {"ef": torch.full((2,), 1e-6)}))).abs().max() > 1e-3
    assert (made(**zero) - made(**(zero | {"ef": torch.full((2,), 1e-6)}))).abs().max() < 1e-3


@torch.no_grad()
def test_time_is_heard_unless_frames_stand_alone() -> None:
    blocks = OverTime(8, 2, 8, unit=False)
    for weights in blocks.parameters():
        torch.nn.init.normal_(weights, std=0.3)
    x = channels_last(torch.randn(1, 8, 5, 4, 4))
    later = x.clone()
    later[:, :, 3:] += 1.0
    one, other = blocks(x), blocks(later)
    torch.testing.assert_close(one[:, :, :3], other[:, :, :3])
    assert (one[:, :, 3:] - other[:, :, 3:]).abs().amax((0, 1, 3, 4)).min() > 1e-3
    made, inputs = network(BASE), told(BASE)
    assert (made(**inputs, still=True) - made(**inputs)).abs().max() > 1e-3


@torch.no_grad()
def test_many_pixels_are_the_same_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    blocks = OverTime(8, 2, 8, unit=False)
    torch.nn.init.ones_(blocks.attention.out_norm.weight)
    x = channels_last(torch.randn(2, 8, 3, 6, 6))
    whole = blocks(x)
    assert x.shape[3] * x.shape[4] < PIXELS_AT_ONCE
    monkeypatch.setattr("echogen.networks.video_unet_blocks.PIXELS_AT_ONCE", 7)
    torch.testing.assert_close(blocks(x), whole, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_attention_is_the_textbook_one() -> None:
    torch.manual_seed(0)
    made = Attention(6, 2, 4, unit=False)
    tokens = torch.randn(3, 5, 6)
    bias = TimeBias(6, 2)(5)
    x = made.norm(tokens)
    keys = torch.cat((made.nothing.view(1, 1, 8).expand(3, 1, 8), made.key_value(x)), 1)
    key, value = keys.chunk(2, -1)
    heads = []
    for head in range(2):
        query = made.query(x)[..., 4 * head : 4 * head + 4]
        heads.append(((query @ key.transpose(1, 2)) / 2 + bias[head]).softmax(-1) @ value)
    torch.testing.assert_close(made(tokens, bias), made.out_norm(made.out(torch.cat(heads, -1))))
    assert torch.isinf(bias[:, 0, 2:]).all()
    assert torch.isfinite(bias[:, :, 0]).all()
    torch.testing.assert_close(bias[0, 2, 1:3], bias[0, 4, 3:5])  # by distance alone


@torch.no_grad()
def test_a_new_network_passes_frames_through_time_as_they_are() -> None:
    x = torch.randn(2, 4, 5, 3, 3)
    torch.testing.assert_close(TimeConv(4)(x), x)
    inputs = told(BASE)
    assert float(VideoUnet(BASE)(**inputs).abs().max()) == 0


def test_a_folder_keeps_it(tmp_path: Path) -> None:
    made, inputs = network(KINDS["saving"]), told(KINDS["saving"])
    save_network(made, tmp_path)
    again = load_network(VideoUnet, tmp_path)
    assert again.config == made.config
    with torch.no_grad():
        assert torch.equal(again(**inputs), made(**inputs))


def test_wrong_sizes_are_one_sentence() -> None:
    inputs = told(BASE)
    with pytest.raises(InputError, match="7 x 7 pixels cannot be used; their sides must divide by 2"):
        network(BASE)(**(inputs | {"video": torch.randn(2, 1, 3, 7, 7)}))
    with pytest.raises(InputError, match="Only a stage after the first"):
        network(KINDS["saving"])(**inputs)
    with pytest.raises(InputError, match="for each level"):
        replace(BASE, blocks=(1,))
    with pytest.raises(InputError, match="multiple of the 4 groups"):
        replace(BASE, dim=6)

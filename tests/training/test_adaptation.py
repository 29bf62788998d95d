"""An adapter learns its clips, leaves its base alone, and is the same after saving, in our hands and in peft's."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from echogen import InputError, write
from echogen.networks.adapters import (
    ADAPTER_CONFIG_FILE,
    ADAPTER_FACTS_FILE,
    ADAPTER_WEIGHTS_FILE,
    add_adapter,
    load_adapter,
    network_hash,
    restore_weights,
)
from echogen.networks.quantizers import QuantizerConfig
from echogen.networks.video_tokenizer import VideoTokenizer, VideoTokenizerConfig
from echogen.records import Cine
from echogen.training.adaptation import (
    Adapted,
    AdapterClip,
    AdapterPlan,
    adapt,
    check_tokenizer,
    read_clip,
    reconstruct,
    reconstruction_error,
    save_adapter,
    smoothed,
)

PLAN = AdapterPlan(steps=40, latents=4, rank=4, learning_rate=1e-2)
FACTS = {"base": "tiny", "clips": [], "held_out": []}


def tiny(seed: int = 0) -> VideoTokenizer:
    torch.manual_seed(seed)
    return VideoTokenizer(
        VideoTokenizerConfig(
            dim=32, heads=2, spatial_depth_encoder=1, temporal_depth_encoder=1, temporal_depth_decoder=1, spatial_depth_decoder=1,
            image_size=64, patch=16, quantizer=QuantizerConfig(levels=(5, 5, 5)),
        )
    ).eval()  # fmt: skip


def beating_disc(frames: int, period: float = 12.0, size: int = 64) -> np.ndarray:
    """A dark disc that grows and shrinks in a grey fan of the canonical geometry, with noise that stands still."""
    unit = size / 128
    down, across = np.indices((size, size)) + 0.5 - np.array([6 * unit, size / 2])[:, None, None]
    fan = (np.hypot(down, across) < 111 * unit) & (np.abs(np.arctan2(across, down)) < 0.7)
    noise = np.random.default_rng(0).normal(0, 12, (size, size))
    radius = (24 + 8 * np.cos(2 * np.pi * np.arange(frames) / period)[:, None, None]) * unit
    grey = np.where(np.hypot(down - 60 * unit, across) < radius, 40, 120) + noise
    return (np.clip(grey, 5, 255) * fan).astype(np.uint8)


def clip(frames: int = 33, period: float = 12.0) -> AdapterClip:
    pictures = beating_disc(frames, period)
    return AdapterClip(pictures, smoothed(pictures), {"frames": frames})


@pytest.fixture(scope="module")
def base() -> VideoTokenizer:
    return tiny()


@pytest.fixture(scope="module")
def adapted(base: VideoTokenizer) -> Adapted:
    pytest.importorskip("peft")
    return adapt(base, [clip(33), clip(25, 15.0)], PLAN)


@pytest.fixture
def folder(adapted: Adapted, base: VideoTokenizer, tmp_path: Path) -> Path:
    save_adapter(tmp_path / "clinic", adapted, base, FACTS)
    return tmp_path / "clinic"


def test_the_target_keeps_the_sector_and_loses_the_noise() -> None:
    flat = np.zeros((3, 64, 64), np.uint8)
    flat[:, 10:50, 12:52] = 100
    np.testing.assert_array_equal(smoothed(flat), flat)
    noisy = beating_disc(8)
    still = smoothed(noisy)
    inside = np.zeros((64, 64), bool)
    inside[50:56, 24:40] = True
    assert still[:, inside].std() < 0.5 * noisy[:, inside].std()
    assert not still[:, noisy.max(0) == 0][:, :20].any()


def test_an_adapter_learns_its_clips_and_a_first_frame_too(adapted: Adapted, base: VideoTokenizer) -> None:
    assert adapted.after.mse < 0.5 * adapted.before.mse
    assert adapted.after.mae < adapted.before.mae
    unseen = clip(17, 9.0)
    before, after = (reconstruction_error(network, [unseen])[0] for network in (base, adapted.tokenizer))
    assert after.mse < before.mse
    first = unseen.frames[:1]
    errors = [
        np.square(reconstruct(network, first)[0] - unseen.target[:1] / 255.0).mean() for network in (base, adapted.tokenizer)
    ]
    assert errors[1] < errors[0]


def test_the_base_and_the_codes_stand_still(adapted: Adapted, base: VideoTokenizer) -> None:
    fresh = tiny()
    assert network_hash(base) == network_hash(fresh)
    assert all(torch.equal(one, other) for one, other in zip(base.parameters(), fresh.parameters(), strict=True))
    changed = {name for name, weight in adapted.tokenizer.named_parameters() if "lora" in name}
    assert changed
    assert not any(name.startswith("quantizer.") for name in changed)


def test_a_saved_adapter_draws_the_same_and_can_be_taken_off(adapted: Adapted, base: VideoTokenizer, folder: Path) -> None:
    network = copy.deepcopy(base)
    before = add_adapter(network, load_adapter(folder))
    video = torch.from_numpy(clip(17).frames)[None].float() / 255.0
    with torch.no_grad():
        torch.testing.assert_close(network.encode(video), adapted.tokenizer.encode(video), atol=1e-4, rtol=1e-4)
    restore_weights(network, before)
    assert all(torch.equal(one, other) for one, other in zip(network.parameters(), base.parameters(), strict=True))
    facts = json.loads((folder / ADAPTER_FACTS_FILE).read_text())
    assert facts["network_hash"] == network_hash(base)
    assert facts["after"]["mse"] == adapted.after.mse < facts["before"]["mse"]


def test_peft_reads_the_folder_and_means_the_same(base: VideoTokenizer, folder: Path) -> None:
    from peft import PeftModel

    ours, theirs = copy.deepcopy(base), copy.deepcopy(base)
    add_adapter(ours, load_adapter(folder))
    merged = PeftModel.from_pretrained(theirs, str(folder)).merge_and_unload()
    expected = merged.state_dict()
    for name, weight in ours.state_dict().items():
        torch.testing.assert_close(weight, expected[name], atol=1e-6, rtol=1e-5)


def test_the_decoder_alone_keeps_every_id(base: VideoTokenizer) -> None:
    pytest.importorskip("peft")
    decoder = AdapterPlan(steps=8, latents=4, rank=4, learning_rate=1e-2, decoder_only=True)
    one, two = (adapt(base, [clip()], decoder) for _ in range(2))
    assert one.same_ids == 1.0
    assert one.after.mse < one.before.mse
    assert one.after == two.after  # the seed decides


def test_an_adapter_of_another_base_is_refused(folder: Path) -> None:
    other = tiny(1)
    before = network_hash(other)
    with pytest.raises(InputError, match="made for other weights"):
        add_adapter(other, load_adapter(folder))
    assert network_hash(other) == before


@pytest.mark.parametrize("damage", ["weights cut", "no weights", "no facts", "another kind", "factors differ"])
def test_a_damaged_adapter_is_refused(folder: Path, damage: str) -> None:
    weights, config = folder / ADAPTER_WEIGHTS_FILE, folder / ADAPTER_CONFIG_FILE
    if damage == "weights cut":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif damage == "no weights":
        weights.unlink()
    elif damage == "no facts":
        (folder / ADAPTER_FACTS_FILE).write_text("{}")
    elif damage == "another kind":
        config.write_text(json.dumps({**json.loads(config.read_text()), "use_dora": True}))
    else:
        from safetensors.torch import load_file, save_file

        tensors = load_file(weights)
        name = next(name for name in tensors if ".lora_A." in name)
        save_file({**tensors, name: tensors[name][:1].clone()}, weights)
    with pytest.raises(InputError):
        load_adapter(folder)


def test_a_clip_comes_in_the_tokenizers_rate_and_a_short_one_is_refused(tmp_path: Path) -> None:
    network = tiny()
    pictures = beating_disc(40, size=128)
    write(Cine(pictures, np.arange(40) / 16.0), tmp_path / "slow.npz")
    slow = read_clip(tmp_path / "slow.npz", network)
    assert slow.frames.shape == slow.target.shape == (80, 64, 64)
    assert slow.facts["fps"] == pytest.approx(16.0)
    assert "slow" not in json.dumps(slow.facts)
    assert read_clip(tmp_path / "slow.npz", network, 32.0).facts["fps"] == pytest.approx(32.0)
    write(Cine(pictures[:6], np.arange(6) / 16.0), tmp_path / "short.npz")
    with pytest.raises(InputError, match="too short"):
        read_clip(tmp_path / "short.npz", network)


def test_another_kind_of_tokenizer_is_refused() -> None:
    with pytest.raises(InputError, match="own video tokenizer"):
        check_tokenizer(None)

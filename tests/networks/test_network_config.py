import json
from dataclasses import replace

import pytest
import torch

from echogen.errors import InputError
from echogen.networks.config import config_from_dict, config_to_dict, load_config, load_network, save_network
from echogen.networks.masked_transformer import MaskedTransformer, MaskedTransformerConfig
from echogen.networks.quantizers import QuantizerConfig
from echogen.networks.video_tokenizer import ENCODING_PARTS, VideoTokenizer, VideoTokenizerConfig

CONFIG = VideoTokenizerConfig(
    image_size=32, patch=8, dim=16, heads=2, active_patches=(1, 2, 5), quantizer=QuantizerConfig(kind="vq", codebook_size=32)
)


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        VideoTokenizerConfig.paper(),
        MaskedTransformerConfig.paper(),
        MaskedTransformerConfig(vocabulary=240, frame_features=5),
    ],
)
def test_a_config_survives_json(config):
    assert config_from_dict(type(config), json.loads(json.dumps(config_to_dict(config)))) == config


@pytest.mark.parametrize(("dtype", "exact"), [(None, True), (torch.bfloat16, False)])
def test_a_saved_network_gives_the_same_output(tmp_path, dtype, exact):
    torch.manual_seed(0)
    network = VideoTokenizer(CONFIG).eval()
    save_network(network, tmp_path / "tokenizer", dtype)
    again = load_network(VideoTokenizer, tmp_path / "tokenizer")
    assert again.config == CONFIG == load_config(VideoTokenizer, tmp_path / "tokenizer")
    assert not again.training
    assert all(p.dtype == torch.float32 for p in again.parameters())
    for name, tensor in network.state_dict().items():
        stored = again.state_dict()[name]
        assert torch.equal(stored, tensor) if exact else torch.allclose(stored, tensor, rtol=1e-2, atol=1e-6)
    assert sorted(p.name for p in (tmp_path / "tokenizer").iterdir()) == ["config.json", "model.safetensors"]


def test_bfloat16_halves_the_file(tmp_path):
    network = VideoTokenizer(replace(CONFIG, dim=64))
    save_network(network, tmp_path / "a")
    save_network(network, tmp_path / "b", torch.bfloat16)
    size_a, size_b = ((tmp_path / name / "model.safetensors").stat().st_size for name in "ab")
    assert size_b < 0.6 * size_a


@pytest.mark.parametrize("most", [127, 31])
def test_int8_quarters_the_file_and_errs_by_half_a_step(most, tmp_path):
    network = VideoTokenizer(replace(CONFIG, dim=64))
    save_network(network, tmp_path / "a")
    save_network(network, tmp_path / "b", torch.int8, most=most)
    size_a, size_b = ((tmp_path / name / "model.safetensors").stat().st_size for name in "ab")
    assert size_b < 0.35 * size_a
    again = load_network(VideoTokenizer, tmp_path / "b").state_dict()
    for name, tensor in network.state_dict().items():
        row = tensor.flatten(1).abs().amax(1, keepdim=True) if tensor.ndim > 1 else tensor.abs()
        assert ((again[name] - tensor).flatten(1 if tensor.ndim > 1 else 0).abs() <= row / (2 * most - 1) + 1e-9).all(), name


def test_what_encodes_can_stay_exact(tmp_path):
    network = VideoTokenizer(replace(CONFIG, dim=64)).bfloat16().float().eval()
    save_network(network, tmp_path, torch.int8, exact=ENCODING_PARTS)
    again = load_network(VideoTokenizer, tmp_path)
    changed = {name for name, tensor in network.state_dict().items() if not torch.equal(again.state_dict()[name], tensor)}
    assert changed
    assert not any(name.startswith(ENCODING_PARTS) for name in changed)
    video = torch.rand(1, 5, CONFIG.image_size, CONFIG.image_size)
    assert torch.equal(network.tokenize(video), again.tokenize(video))


@pytest.fixture
def saved(tmp_path):
    save_network(VideoTokenizer(CONFIG), tmp_path)
    return tmp_path


def refused(folder, words, cls=VideoTokenizer):
    with pytest.raises(InputError, match=words) as caught:
        load_network(cls, folder)
    assert str(caught.value).endswith(".")


def test_missing_files_are_named(saved):
    refused(saved / "nowhere", "no network")
    (saved / "model.safetensors").unlink()
    refused(saved, "cannot be read")


def test_damaged_files_are_named(saved):
    weights = saved / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    refused(saved, "whole safetensors")
    (saved / "config.json").write_text("{")
    refused(saved, "not valid JSON")


def test_another_network_is_refused(saved):
    refused(saved, "MaskedTransformer", cls=MaskedTransformer)


def test_weights_that_do_not_fit_are_refused(saved):
    path = saved / "config.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps(document | {"dim": 32}))
    refused(saved, "do not fit")
    path.write_text(json.dumps(document | {"temporal_depth_decoder": 3}))
    refused(saved, "do not fit")
    path.write_text(json.dumps(document | {"spirals": 3}))
    refused(saved, "no setting spirals")
    path.write_text(json.dumps(document | {"heads": 5}))
    refused(saved, "heads")


def test_a_required_field_must_be_there():
    with pytest.raises(InputError, match="vocabulary"):
        config_from_dict(MaskedTransformerConfig, {"dim": 32})

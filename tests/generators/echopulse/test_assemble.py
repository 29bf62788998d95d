"""Training runs become a generator's folder: the default system, or the paper's with an encoder; misfits are refused first."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from echogen import Ecg, InputError
from echogen.generators import EchoPulse, EchoPulsePaper, Generator
from echogen.generators.echopulse.assemble import PREFIX, assemble, main
from echogen.networks.config import save_network
from echogen.networks.masked_transformer import MaskedTransformer, MaskedTransformerConfig
from echogen.networks.quantizers import QuantizerConfig
from echogen.networks.st_mem import StMem, StMemConfig
from echogen.networks.token_critic import make_critic
from echogen.networks.video_tokenizer import VideoTokenizer, VideoTokenizerConfig
from echogen.training.tasks.echopulse_transformer import EchoPulseTransformerOptions

TOKENIZER = VideoTokenizerConfig(
    image_size=32, channels_in=3, channels_out=3, patch=16, time_patch=2, dim=16, heads=2, spatial_depth_encoder=1,
    temporal_depth_encoder=1, temporal_depth_decoder=1, spatial_depth_decoder=1, quantizer=QuantizerConfig(levels=(5, 5)),
)  # fmt: skip
TRANSFORMER = MaskedTransformerConfig(
    vocabulary=25, spatial_positions=4, max_latents=6, dim=16, depth=1, heads=2, cross_attention_every=1, adaptive_norm=False,
    ecg=None, context_dim=12,
)  # fmt: skip
ST_MEM = StMemConfig(seq_len=500, patch_size=50, width=12, depth=1, heads=2, head_dim=6, mlp_dim=24)


def leave(folder: Path, recipe: dict[str, Any] | None = None, **made: nn.Module) -> Path:
    """A training run that left these networks."""
    for name, network in made.items():
        save_network(network, folder / "weights" / name, torch.bfloat16)
    if recipe is not None:
        (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """What a tokenizer, a transformer and an ST-MEM of the paper left."""
    torch.manual_seed(0)
    leave(tmp_path / "tokenizer", tokenizer=VideoTokenizer(TOKENIZER))
    recipe = {"task": "echopulse-transformer", "data": {"frames": 7, "frame_step": 2, "leads": ["I", "II"]}, "options": {}}
    leave(tmp_path / "transformer", recipe, transformer=MaskedTransformer(TRANSFORMER))
    leave(tmp_path / "ecg", st_mem=StMem(ST_MEM))
    return tmp_path


def joined(runs: Path, **options: Any) -> Generator:
    options = {"ecg_encoder": runs / "ecg"} | options
    assemble(runs / "tokenizer", runs / "transformer", runs / "made", **options)
    return Generator.from_pretrained(runs / "made", device="cpu")


def test_the_paper_s_runs_become_a_generator_with_the_settings_they_learned_under(runs: Path, ecg: Ecg) -> None:
    generator = joined(runs)
    assert isinstance(generator, EchoPulsePaper)
    config = generator.config
    assert (config.fps, config.frames, config.leads, config.order) == (16.0, 7, ("I", "II"), "confidence")
    assert config.prime == 3
    assert generator.takes == {"ecg", "reference"}
    assert generator(ecg, seconds=1.0, steps=2).frames.shape == (16, 32, 32)


@pytest.mark.parametrize(("prefix", "time_patch", "prime"), [(1, 2, 1), (3, 2, 5), (9, 2, 5), (2, 3, 4), (2, 6, 1)])
def test_a_window_begins_with_as_many_frames_as_were_given_in_training(
    runs: Path, ecg: Ecg, prefix: int, time_patch: int, prime: int
) -> None:
    leave(runs / "tokenizer", tokenizer=VideoTokenizer(replace(TOKENIZER, time_patch=time_patch)))
    leave(runs / "transformer", {"data": {"frames": 7}, "options": {"prefix": prefix}})
    generator = joined(runs)
    assert isinstance(generator, EchoPulsePaper)
    assert generator.config.prime == prime
    assert len(generator(ecg, seconds=1.0, steps=1).frames) == 11


def test_what_a_recipe_leaves_out_is_as_in_training(runs: Path) -> None:
    assert EchoPulseTransformerOptions().prefix == PREFIX
    leave(runs / "transformer", {})
    generator = joined(runs)
    assert isinstance(generator, EchoPulsePaper)
    assert (generator.config.frames, generator.config.prime) == (11, 3)


def test_an_st_mem_s_own_folder_will_do(runs: Path) -> None:
    assert isinstance(joined(runs, ecg_encoder=runs / "ecg" / "weights" / "st_mem"), EchoPulsePaper)


@pytest.mark.parametrize("kind", ["token", "self"])
def test_a_critic_is_taken_along_and_orders_the_tokens(runs: Path, ecg: Ecg, kind: str) -> None:
    critic = make_critic(kind, MaskedTransformer(TRANSFORMER))
    assert critic is not None
    leave(runs / "transformer", critic=critic)
    generator = joined(runs)
    assert isinstance(generator, EchoPulsePaper)
    assert type(generator.critic) is type(critic)
    assert generator.config.order == "critic"
    assert generator(ecg, seconds=0.5, steps=2).frames.shape[0] == 8


def test_a_network_with_adaptive_norm_takes_ef_view_and_sex(runs: Path) -> None:
    leave(runs / "transformer", transformer=MaskedTransformer(replace(TRANSFORMER, adaptive_norm=True)))
    assert joined(runs).takes == {"ecg", "reference", "ef_percent", "view", "sex"}


def test_a_text_encoder_is_named_in_the_folder(runs: Path) -> None:
    transformers, tokenizers = pytest.importorskip("transformers"), pytest.importorskip("tokenizers")
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"<pad>": 0, "<unk>": 1, "percent": 2}, "<unk>"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    t5 = runs / "t5"
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", unk_token="<unk>").save_pretrained(t5)
    config = transformers.T5Config(vocab_size=3, d_model=12, d_kv=6, d_ff=16, num_layers=1, num_heads=2)
    transformers.T5EncoderModel(config).save_pretrained(t5)
    with pytest.raises(InputError, match="learned from an ECG"):
        joined(runs, ecg_encoder=None, text_encoder=str(t5))
    leave(runs / "transformer", {"data": {}, "options": {"condition": "text"}})
    generator = joined(runs, ecg_encoder=None, text_encoder=str(t5))
    assert generator.takes == {"text", "ef_percent", "reference"}
    assert generator(None, seconds=0.5, steps=1, ef_percent=30.0).frames.shape[0] == 5
    with pytest.raises(InputError, match="learned from a text"):
        joined(runs)


@pytest.mark.parametrize(
    ("sizes", "match"),
    [
        ({"vocabulary": 24}, "makes 25 codes but the transformer expects 24"),
        ({"spatial_positions": 64}, "4 tokens a latent frame"),
        ({"max_latents": 3}, "at most 3 latent frames, but a window has 4"),
        ({"context_dim": 768}, "width 12 but the transformer expects 768"),
    ],
)
def test_a_misfit_is_one_sentence_and_leaves_nothing(runs: Path, sizes: dict[str, int], match: str) -> None:
    leave(runs / "transformer", transformer=MaskedTransformer(replace(TRANSFORMER, **sizes)))
    with pytest.raises(InputError, match=match):
        joined(runs)
    assert not (runs / "made").exists()


def test_what_is_missing_is_one_sentence(runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="give --ecg-encoder or --text-encoder"):
        joined(runs, ecg_encoder=None)
    with pytest.raises(InputError, match="not both"):
        joined(runs, text_encoder="t5")
    with pytest.raises(InputError, match="no network in"):
        joined(runs, ecg_encoder=runs / "nowhere")
    monkeypatch.setattr(sys, "argv", ["assemble", str(runs / "none"), str(runs / "transformer"), "-o", str(runs / "made")])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert "There is no network in" in capsys.readouterr().err


@pytest.fixture
def phantom(tmp_path: Path, tiny: EchoPulse) -> Path:
    """What the runs of the default system left."""
    leave(tmp_path / "tokenizer", tokenizer=tiny.tokenizer)
    wide = MaskedTransformer(replace(tiny.transformer.config, max_latents=17))
    leave(tmp_path / "transformer", transformer=wide)
    return tmp_path


def test_the_default_system_is_joined_as_ever(phantom: Path, ecg: Ecg) -> None:
    generator = joined(phantom, ecg_encoder=None)
    assert isinstance(generator, EchoPulse)
    assert generator.critic is None
    assert generator.config.order == "confidence"
    assert (phantom / "made" / "transformer" / "model.safetensors").stat().st_size < 0.7 * (
        phantom / "transformer" / "weights" / "transformer" / "model.safetensors"
    ).stat().st_size
    assert np.ptp(generator(ecg, seconds=0.3, steps=1).frames) > 0


def test_the_default_system_takes_its_critic_and_refuses_misfits(phantom: Path, tiny: EchoPulse) -> None:
    critic = make_critic("self", tiny.transformer)
    assert critic is not None
    leave(phantom / "transformer", critic=critic)
    generator = joined(phantom, ecg_encoder=None)
    assert isinstance(generator, EchoPulse)
    assert generator.critic is not None
    assert generator.config.order == "critic"
    leave(phantom / "transformer", transformer=tiny.transformer)
    with pytest.raises(InputError, match="at most 9 latent frames, but a window has 17"):
        joined(phantom, ecg_encoder=None)
    leave(phantom / "ecg", st_mem=StMem(ST_MEM))
    with pytest.raises(InputError, match="sees 1 channels but draws 3"):
        joined(phantom)
    noisy = replace(tiny.tokenizer.config, smooth_head_channels=4, noise_channels=2)
    leave(phantom / "tokenizer", tokenizer=VideoTokenizer(noisy))
    with pytest.raises(InputError, match="a generator does not give it"):
        joined(phantom, ecg_encoder=None)

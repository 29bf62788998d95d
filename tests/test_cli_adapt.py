"""`echogen adapt` and `generate --adapter`: made, listed, switched, merged, and refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from echogen import read_cine, write
from echogen.datasets.clip_store import FPS, draw_recording
from echogen.ecg_window.features import FEATURES
from echogen.generators import EchoPulse, EchoPulseConfig
from echogen.networks.conditioning import EcgEncoderConfig
from echogen.networks.masked_transformer import MaskedTransformer, MaskedTransformerConfig
from echogen.networks.quantizers import QuantizerConfig
from echogen.networks.video_tokenizer import VideoTokenizer, VideoTokenizerConfig
from echogen.phantom.simulate import render
from echogen.records import Cine

Run = Callable[..., Any]

pytest.importorskip("peft")


def save_model(folder: Path, seed: int) -> None:
    torch.manual_seed(seed)
    tokenizer = VideoTokenizer(
        VideoTokenizerConfig(
            dim=32, heads=2, spatial_depth_encoder=1, temporal_depth_encoder=1, temporal_depth_decoder=1, spatial_depth_decoder=1,
            time_window=3, quantizer=QuantizerConfig(levels=(5, 5)), patch=32, smooth_head_channels=4,
        )
    )  # fmt: skip
    transformer = MaskedTransformer(
        MaskedTransformerConfig(
            vocabulary=25, spatial_positions=16, max_latents=9, dim=32, depth=1, heads=2, frame_features=4 * FEATURES,
            ecg=EcgEncoderConfig(dim=32, depth=1, heads=2),
        )
    )  # fmt: skip
    config = EchoPulseConfig(latents=9, prefix=3, decode_context=4, steps=2)
    EchoPulse(config, tokenizer, transformer, torch.device("cpu")).save_pretrained(folder)


@pytest.fixture(scope="module")
def beat() -> Cine:
    heart, _ = draw_recording(7, 1.0)
    times = np.arange(24) / FPS
    return Cine(render(heart, times, 7).frames, times)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory, beat: Cine) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("clips")
    paths = {"one": folder / "one.npz", "two": folder / "two.mp4", "short": folder / "short.npz", "dark": folder / "dark.npz"}
    write(beat, paths["one"])
    write(beat, paths["two"])
    write(Cine(beat.frames[:5], beat.times_s[:5]), paths["short"])
    write(Cine(np.zeros_like(beat.frames), beat.times_s), paths["dark"])
    return paths


@pytest.fixture
def model(tmp_path: Path) -> Path:
    save_model(tmp_path / "tiny", 0)
    return tmp_path / "tiny"


def test_an_adapter_is_made_listed_switched_and_merged(
    echogen: Run, tmp_path: Path, model: Path, clips: dict[str, Path], dicom_ecg_path: Path
) -> None:
    assert "no adapters" in echogen("adapt", "--list", "--model", model).out
    made = echogen(
        "adapt", clips["one"], "--held-out", clips["two"], "--model", model, "--steps", 12, "-o", model / "adapters" / "clinic"
    )
    assert made.code == 0, made.err
    assert "1 held-out clip MSE" in made.out
    folder = model / "adapters" / "clinic"
    assert {path.name for path in folder.iterdir()} == {"adapter_config.json", "adapter_model.safetensors", "echogen.json"}
    facts = json.loads((folder / "echogen.json").read_text())
    assert (facts["base"], len(facts["clips"]), facts["plan"]["steps"]) == ("tiny", 1, 12)
    assert facts["after"]["mse"] < facts["before"]["mse"]
    assert set(facts["held_out_before"]) == set(facts["held_out_after"]) == {"mse", "mae"}
    assert echogen("adapt", "--list", "--model", model).out.startswith("clinic: 1 clip")

    merged = echogen("adapt", "--merge", "clinic", "--model", model, "-o", tmp_path / "merged")
    assert merged.code == 0, merged.err
    asked = {
        "base": ("--model", model),
        "named": ("--model", model, "--adapter", "clinic"),
        "folder": ("--model", model, "--adapter", folder),
        "merged": ("--model", tmp_path / "merged"),
    }
    for name, more in asked.items():
        outcome = echogen("generate", dicom_ecg_path, "-o", tmp_path / f"{name}.npz", "--seconds", 1, *more)
        assert outcome.code == 0, outcome.err
    frames = {name: read_cine(tmp_path / f"{name}.npz").frames for name in asked}
    assert (frames["base"] != frames["named"]).any()
    np.testing.assert_array_equal(frames["named"], frames["folder"])
    np.testing.assert_array_equal(frames["named"], frames["merged"])
    documents = {name: json.loads((tmp_path / f"{name}.json").read_text()) for name in asked}
    assert [documents[name]["adapter"] for name in asked] == [None, "clinic", "clinic", None]
    assert documents["named"]["adapter_hash"]
    assert documents["base"]["weights_hash"] == documents["named"]["weights_hash"] != documents["merged"]["weights_hash"]

    save_model(tmp_path / "other", 1)
    refused = echogen("generate", "-o", tmp_path / "no.npz", "--model", tmp_path / "other", "--adapter", folder, "--seconds", 1)
    assert refused.code == 2
    assert "made for other weights" in refused.err
    assert not (tmp_path / "no.npz").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("short",), "too short"),
        (("dark",), "does not look like an echocardiogram"),
        (("one", "--held-out", "one"), "at once"),
        (("one", "--list"), "one of the three"),
        ((), "one of the three"),
        (("missing",), "There is no file"),
        (("--merge", "nothing"), "no adapter 'nothing'"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    echogen: Run, tmp_path: Path, model: Path, clips: dict[str, Path], arguments: tuple[str, ...], says: str
) -> None:
    words = [clips.get(word, tmp_path / word if word == "missing" else word) for word in arguments]
    outcome = echogen("adapt", *words, "--model", model, "--steps", 1, "-o", tmp_path / "new")
    assert outcome.code == 2
    assert says in outcome.err
    assert outcome.err.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_an_output_that_exists_is_left_alone(echogen: Run, tmp_path: Path, model: Path, clips: dict[str, Path]) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "notes.txt").write_text("mine")
    outcome = echogen("adapt", clips["one"], "--model", model, "-o", tmp_path / "taken")
    assert outcome.code == 2
    assert [path.name for path in (tmp_path / "taken").iterdir()] == ["notes.txt"]

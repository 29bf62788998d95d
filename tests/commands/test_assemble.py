"""`echogen assemble`: training runs of tiny networks become generators that make video."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from echogen import Ecg, Generator
from echogen.generators import EchoDiffusion, EchoPulse, EchoPulseConfig
from echogen.generators.echodiffusion.cascade import Stage
from echogen.networks.config import save_network
from echogen.networks.masked_transformer import MaskedTransformer
from echogen.networks.video_unet import VideoUnet, VideoUnetConfig
from echogen.records import Cine
from echogen.samplers.edm import Edm

Run = Callable[..., Any]

BASE = VideoUnetConfig(
    channels=1, dim=8, widths=(1, 2), blocks=(1, 1), cross_attention=(False, True), heads=2, head_dim=8, middle_heads=2,
    middle_head_dim=8, context=8, ef_latents=4, ef_averages=1, ef_depth=1, stem=(3, 5), groups=4,
)  # fmt: skip


def leave(run: Path, name: str, network: torch.nn.Module) -> Path:
    """A training run that left this network."""
    save_network(network, run / "weights" / name)
    return run


@pytest.fixture
def runs(tmp_path: Path, tiny: EchoPulse) -> Path:
    """What the tokenizer and the transformer of a tiny ECHOPulse left."""
    leave(tmp_path / "tokenizer", "tokenizer", tiny.tokenizer)
    wide = MaskedTransformer(replace(tiny.transformer.config, max_latents=EchoPulseConfig.latents))
    leave(tmp_path / "transformer", "transformer", wide)
    return tmp_path


def test_a_tokenizer_and_a_transformer_become_a_generator_and_take_a_student(echogen: Run, runs: Path, ecg: Ecg) -> None:
    made = echogen("assemble", runs / "transformer", runs / "tokenizer", "-o", runs / "made")
    assert made.code == 0, made.err
    assert "echogen calibrate" in made.out
    assert Generator.from_pretrained(runs / "made", "cpu")(ecg, seconds=0.5).frames.shape == (16, 128, 128)
    leave(runs / "student", "few-steps", Generator.from_pretrained(runs / "made", "cpu").transformer)
    made = echogen("assemble", runs / "student", "-o", runs / "made", "--steps", "3", "--live-steps", "2")
    assert made.code == 0, made.err
    settings = json.loads((runs / "made" / "generator.json").read_text())
    assert (settings["steps"], settings["live"]["steps"]) == (3, 2)
    assert Generator.from_pretrained(runs / "made", "cpu")(ecg, seconds=0.5).frames.shape == (16, 128, 128)


def test_stages_become_a_cascade(echogen: Run, tmp_path: Path) -> None:
    stages = ((Stage(8, 4, 3, 2.0), BASE, 8.0), (Stage(16, 8, 3, 2.0), replace(BASE, lowres=True, memory_saving=True), 16.0))
    for number, (stage, config, fps) in enumerate(stages):
        run = leave(tmp_path / f"stage-{number}", "video-unet", VideoUnet(config))
        said = {"stage": asdict(stage), "fps": fps, "edm": asdict(Edm())}
        (run / "weights" / "video-unet" / "stage.json").write_text(json.dumps(said))
    made = echogen(
        "assemble",
        tmp_path / "stage-0",
        tmp_path / "stage-1",
        "-o",
        tmp_path / "made",
        "--steps",
        "2,1",
        "--guidance",
        "2",
        "--int8",
    )
    assert made.code == 0, made.err
    generator = Generator.from_pretrained(tmp_path / "made", "cpu")
    assert isinstance(generator, EchoDiffusion)
    assert generator.config.cascade.steps == (2, 1)
    image = Cine(np.full((1, 16, 16), 90, np.uint8), np.zeros(1))
    assert generator(None, seconds=0.5, reference=image, ef_percent=50).frames.shape == (8, 16, 16)


def test_a_generator_gets_more_codes(echogen: Run, tiny: EchoPulse, tmp_path: Path) -> None:
    tiny.save_pretrained(tmp_path / "tiny")
    made = echogen("assemble", tmp_path / "tiny", "--levels", "5,5,3", "-o", tmp_path / "grown")
    assert made.code == 0, made.err
    assert json.loads((tmp_path / "grown" / "transformer" / "config.json").read_text())["vocabulary"] == 75
    refused = echogen("assemble", tmp_path / "tiny", "--levels", "4,5", "-o", tmp_path / "other")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere"], "nowhere"),
        (["tokenizer"], "tokenizer make no generator"),
        (["tokenizer", "transformer", "transformer"], "make no generator"),
        (["tokenizer", "transformer", "--guidance", "2"], "leave it out"),
        (["tokenizer", "transformer", "--live-steps", "2"], "leave it out"),
        (["tokenizer", "transformer", "--steps", "two"], "--steps"),
        (["tokenizer", "transformer", "--levels", "5"], "--levels"),
        (["tokenizer", "transformer", "--ecg-encoder", "nowhere", "--text-encoder", "t5"], "not both"),
    ],
)
def test_mistakes_write_nothing(echogen: Run, runs: Path, arguments: list[str], says: str) -> None:
    places = [str(runs / word) if word in ("tokenizer", "transformer") else word for word in arguments]
    outcome = echogen("assemble", *places, "-o", runs / "made")
    assert outcome.code == 2
    assert says in outcome.err
    assert outcome.err.count("\n") == 1
    assert not (runs / "made").exists()

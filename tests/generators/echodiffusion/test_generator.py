"""EchoDiffusion: the cascades of the paper, clips from one frame and an EF."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from echogen.errors import InputError
from echogen.generators import EchoDiffusion, EchoDiffusionConfig, Generator
from echogen.generators.echodiffusion.cascade import (
    Cascade,
    CascadeConfig,
    Stage,
    frames_per_second,
    paper_cascade,
    published_cascade,
)
from echogen.networks.video_unet import VideoUnet, VideoUnetConfig
from echogen.records import Cine, Ecg

BASE = VideoUnetConfig(
    channels=1, dim=8, widths=(1, 2), blocks=(1, 1), cross_attention=(False, True), heads=2, head_dim=8, middle_heads=2,
    middle_head_dim=8, context=8, ef_latents=4, ef_averages=1, ef_depth=1, stem=(3, 5), groups=4,
)  # fmt: skip
SAVING = replace(BASE, lowres=True, memory_saving=True)
STAGES = (Stage(8, 4, 3, 2.0), Stage(16, 8, 3, 2.0))


def network(config: VideoUnetConfig, seed: int = 0) -> VideoUnet:
    """A network in which nothing is zero, so that all of it is heard."""
    torch.manual_seed(seed)
    made = VideoUnet(config)
    for name, weights in made.named_parameters():
        if name.startswith("out.") or "out_norm" in name:
            torch.nn.init.normal_(weights, std=0.3)
    return made


@pytest.fixture(scope="module")
def tiny() -> EchoDiffusion:
    config = EchoDiffusionConfig(CascadeConfig(STAGES, guidance=2.0, dtype="float32"), fps=16.0)
    return EchoDiffusion(config, [network(BASE), network(SAVING, 1)], torch.device("cpu"))


@pytest.fixture(scope="module")
def image() -> Cine:
    return Cine(np.random.default_rng(0).integers(0, 255, (1, 16, 16), dtype=np.uint8), np.zeros(1))


def test_the_table_of_the_paper() -> None:
    rows = {
        name: [(s.size, s.frames, s.steps, s.churn) for s in paper_cascade(name)[0].stages] for name in ("1SCM", "2SCM", "4SCM")
    }
    assert rows == {
        "1SCM": [(112, 16, 64, 160)],
        "2SCM": [(56, 16, 32, 80), (112, 64, 64, 160)],
        "4SCM": [(56, 16, 32, 40), (56, 32, 32, 80), (56, 64, 32, 160), (112, 64, 64, 160)],
    }
    assert [frames_per_second(paper_cascade(name)[0]) for name in rows] == [8, 32, 32]
    for name in rows:
        with torch.device("meta"):
            Cascade(paper_cascade(name)[0], [VideoUnet(config) for config in paper_cascade(name)[1]])
        published, paper = published_cascade(name), paper_cascade(name)
        assert published[0].stages == paper[0].stages
        assert (published[0].told, paper[0].told) == ("level", "log_snr")
    with pytest.raises(InputError, match="no cascade '3SCM'; use one of 1SCM, 2SCM, 4SCM"):
        paper_cascade("3SCM")


def test_a_clip_is_deterministic_and_hears_its_conditions(tiny: EchoDiffusion, image: Cine) -> None:
    clip = tiny(None, seconds=0.5, reference=image, ef_percent=40, seed=3)
    assert (clip.frames.shape, clip.fps) == ((8, 16, 16), 16.0)
    assert clip.frames.std() > 1
    (part,) = tiny.stream(None, seconds=0.5, reference=image, ef_percent=40, seed=3)
    np.testing.assert_array_equal(part.frames, clip.frames)
    other = replace(image, frames=255 - image.frames)
    for changed in (
        {"seed": 4}, {"ef_percent": 70}, {"ef_percent": None}, {"reference": other}, {"guidance": 1.0}, {"steps": 2},
    ):  # fmt: skip
        asked: dict[str, Any] = {"seconds": 0.5, "reference": image, "ef_percent": 40, "seed": 3}
        assert (tiny(None, **(asked | changed)).frames != clip.frames).any(), changed
    short = tiny(None, seconds=0.25, reference=image, ef_percent=40, seed=3)
    np.testing.assert_array_equal(short.frames, clip.frames[:4])


def test_a_folder_makes_the_same_clip(tiny: EchoDiffusion, image: Cine, tmp_path: Path) -> None:
    tiny.save_pretrained(tmp_path / "tiny")
    again = Generator.from_pretrained(tmp_path / "tiny", "cpu")
    assert isinstance(again, EchoDiffusion)
    assert again.config == tiny.config
    asked: dict[str, Any] = {"seconds": 0.5, "reference": image, "ef_percent": 40, "steps": 2}
    np.testing.assert_array_equal(again(None, **asked).frames, tiny(None, **asked).frames)


def test_steps_are_those_of_the_few_step_solver(tiny: EchoDiffusion, image: Cine) -> None:
    frame = torch.rand(1, 1, 16, 16)
    for steps, calls in ((None, 2 * (2 * 3 - 1)), (4, 2 * 4)):
        seen: list[int] = []
        videos = tiny.cascade.sample(
            frame,
            None,
            lambda shape: torch.ones(tuple(shape)),
            steps=steps,
            watch=lambda index, *_, seen=seen: seen.append(index),
        )
        assert len(seen) == calls
        assert seen == sorted(seen)
        assert [tuple(video.shape) for video in videos] == [(1, 1, 4, 8, 8), (1, 1, 8, 16, 16)]
        assert all(0 <= float(video.min()) <= float(video.max()) <= 1 for video in videos)


def test_progress_comes_to_its_end(tiny: EchoDiffusion, image: Cine) -> None:
    for steps, calls in ((None, 2 * (2 * 3 - 1)), (4, 2 * 4)):
        told: list[tuple[float, float]] = []
        tiny(None, seconds=0.5, reference=image, steps=steps, progress=lambda *done, told=told: told.append(done))
        assert len(told) == calls
        assert [done for done, _ in told] == sorted(done for done, _ in told)
        assert told[-1] == pytest.approx((0.5, 0.5))


def test_a_larger_frame_is_made_smaller_and_a_wrong_one_refused(tiny: EchoDiffusion, image: Cine, ecg: Ecg) -> None:
    large = replace(image, frames=np.kron(image.frames, np.ones((1, 2, 2), np.uint8)))
    assert tiny(None, seconds=0.5, reference=large, ef_percent=40, steps=1).frames.shape == (8, 16, 16)
    for wrong in (np.zeros((1, 16, 20), np.uint8), np.zeros((1, 12, 12), np.uint8)):
        with pytest.raises(InputError, match="square and of at least 16 x 16 pixels"):
            tiny(None, seconds=0.5, frames=replace(image, frames=wrong), ef_percent=40)
    with pytest.raises(InputError, match="needs one frame of the heart"):
        tiny(None, seconds=0.5, ef_percent=40)
    with pytest.raises(InputError, match=r"makes clips of 0\.5 s, not of 2"):
        tiny(None, seconds=2, reference=image, ef_percent=40)
    with pytest.raises(InputError, match="does not take the condition ecg"):
        tiny(ecg, seconds=0.5, reference=image)
    with pytest.raises(InputError, match="between 0 and 100 %, not 130"):
        tiny(None, seconds=0.5, reference=image, ef_percent=130)


def test_wrong_cascades_are_one_sentence() -> None:
    def stages(*rows: tuple[int, int]) -> tuple[Stage, ...]:
        return tuple(Stage(size, frames, 3, 0.0) for size, frames in rows)

    with pytest.raises(InputError, match="wrong order: stage 1 makes 8 frames of 16 pixels, stage 2 only 8 of 8"):
        CascadeConfig(stages((16, 8), (8, 8)))
    with pytest.raises(InputError, match="Stage 2 cannot make 10 frames of the 4 of stage 1"):
        CascadeConfig(stages((8, 4), (8, 10)))
    with pytest.raises(InputError, match="at least one stage"):
        CascadeConfig(())
    with pytest.raises(InputError, match="resize of a cascade must be trilinear or nearest, not 'cubic'"):
        CascadeConfig(STAGES, resize="cubic")
    with pytest.raises(InputError, match="positive size"):
        Stage(0, 4, 3, 1.0)
    config = CascadeConfig(STAGES)
    with pytest.raises(InputError, match="2 stages needs as many networks, not 1"):
        Cascade(config, [network(BASE)])
    with pytest.raises(InputError, match="wrong order: the network of stage 1 takes the video of a stage before"):
        Cascade(config, [network(SAVING), network(BASE)])
    with pytest.raises(InputError, match="wrong order: the network of stage 2 takes no smaller video"):
        Cascade(config, [network(BASE), network(BASE)])
    with pytest.raises(InputError, match="Stage 1 makes frames of 9 pixels, but its network needs a multiple of 2"):
        Cascade(CascadeConfig(stages((9, 4))), [network(BASE)])

"""Videos by which EchoDiffusion is calibrated: those of the first stage alone, many hearts at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from echogen.arrays import ByteArray, Floats
from echogen.calibration.fit import FIRST_SEED, GIVEN_PERCENT
from echogen.datasets.held_out import HeldOut, held_out
from echogen.generators.base import ef_to_give
from echogen.generators.echodiffusion.cascade import Cascade, resized
from echogen.generators.echodiffusion.generator import EchoDiffusion, EchoDiffusionConfig
from echogen.measurement.plain_values import measured_ef_percent
from echogen.networks.ef_regressor import at_size
from echogen.records import Cine
from echogen.samplers.edm import random_normal

#: Hearts in one batch: their videos at all EFs fit into 2 GB.
HEARTS_AT_ONCE = 20
#: Seconds of heart that are simulated, enough for one end-diastole at 40 bpm.
HEART_S = 2.0
#: Pixels a side at which the segmenter measures a small video.
MEASURED_SIZE = 128


def first_stage(generator: EchoDiffusion) -> tuple[Cascade, int]:
    """The first stage as a cascade of its own, sampled by Heun's solver unless steps are given, and its usual number of steps."""
    config = generator.config.cascade
    cascade = Cascade(replace(config, stages=config.stages[:1], steps=None, guided_stages=None), generator.cascade.networks[:1])
    return cascade, config.steps[0] if config.steps else config.stages[0].steps


def small_videos(
    cascade: Cascade,
    config: EchoDiffusionConfig,
    cases: Sequence[HeldOut],
    asked_percent: Sequence[float],
    steps: int | None,
    guidance: float | None = None,
) -> Tensor:
    """Videos of a first stage (hearts x EFs asked, C, T, size, size), each heart shown by its first end-diastolic frame.

    config: whose calibration of the EF holds. steps, guidance: as of `Cascade.sample`.
    """
    pictures = []
    for case in cases:
        ends = case.heart.clock.ed_s
        place = round(float(ends[ends >= 0][0]) * case.cine.fps)
        pictures.append(case.cine.frames[min(place, len(case.cine.frames) - 1)])
    frames = at_size(torch.from_numpy(np.stack(pictures))[:, None].float() / 255.0, cascade.config.stages[0].size)
    channels = cascade.networks[0].config.channels
    shown = frames.expand(-1, channels, -1, -1).repeat_interleave(len(asked_percent), 0)
    given = [ef_to_give(each, config.ef_calibration) / 100.0 for each in asked_percent]
    ef = torch.tensor(given, dtype=torch.float32).repeat(len(cases))
    normal = random_normal(torch.Generator().manual_seed(0), cascade.device)
    return cascade.sample(shown, ef, normal, steps=steps, guidance=guidance)[-1]


def small_video_efs(videos: Tensor, config: EchoDiffusionConfig) -> Floats:
    """EF in % that the segmenter measures in small videos (n, C, T, H, W); nan where it measures none."""
    frames = config.cascade.stages[-1].frames
    times = np.arange(frames) / config.fps
    return np.array([measured_ef_percent(Cine(_enlarged(video, frames), times)) for video in videos])


def _enlarged(video: Tensor, frames: int) -> ByteArray:
    """(C, T, H, W) in 0..1 -> (frames, MEASURED_SIZE, MEASURED_SIZE), interpolated."""
    grey = resized(video.mean(0)[None, None], frames, MEASURED_SIZE, "trilinear")[0, 0]
    found: ByteArray = (grey * 255.0 + 0.5).to(torch.uint8).numpy()
    return found


def measured_efs(generator: EchoDiffusion, first: int, hearts: int) -> Floats:
    """EF in % (hearts, EFs given) of the videos of hearts number `first` and on."""
    cases = [held_out(FIRST_SEED + index, HEART_S) for index in range(first, first + hearts)]
    cascade, steps = first_stage(generator)
    videos = small_videos(cascade, generator.config, cases, GIVEN_PERCENT, steps)
    return small_video_efs(videos, generator.config).reshape(hearts, len(GIVEN_PERCENT))

"""A clip through a tokenizer: what its codes keep, and how much of the picture's speckle is as it should be."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from echogen.datasets.held_out import HeldOut
from echogen.generators import EchoPulse
from echogen.generators.echopulse.frame_renderer import MOTION_SCALE
from echogen.measurement import measure
from echogen.measurement.reading import Reading
from echogen.measurement.shipped import load_segmenter
from echogen.metrics.heart.timing import match_beats
from echogen.metrics.pictures.likeness import mse
from echogen.metrics.pictures.speckle import SpeckleStatistics, speckle_statistics
from echogen.networks.video_tokenizer import VideoTokenizer
from echogen.phantom.speckle import SpeckleLayer
from echogen.records import STRUCTURES, ByteArray, Cine

#: Frames that are looked at for speckle: steps long enough for it to differ, or neighbours, which tell how steady it is.
EVERY, NEIGHBOURS = 8, 17


@torch.inference_mode()
def codes(tokenizer: VideoTokenizer, case: HeldOut) -> Tensor:
    """The ids of a clip, (1, latents, positions, groups)."""
    with torch.autocast("cpu", torch.bfloat16):
        return tokenizer.tokenize(torch.from_numpy(case.cine.frames)[None].float() / 255.0)


@torch.inference_mode()
def decoded(tokenizer: VideoTokenizer, ids: Tensor, seed: int = 0) -> Tensor:
    """(T, channels, H, W) of ids; seed: of a decoder that draws from noise."""
    with torch.autocast("cpu", torch.bfloat16):
        features = tokenizer.decode_features(tokenizer.quantizer.decode_ids(ids))
        return tokenizer.picture(features, random=torch.Generator().manual_seed(seed))[0].float()


def with_speckle(model: EchoPulse, drawn: Tensor, case: HeldOut) -> ByteArray:
    """What the generator shows of a decoded clip: its structure with speckle that moves with the tissue."""
    layer = SpeckleLayer(model.config.speckle, case.seed)
    times = torch.tensor(case.cine.times_s)
    picture = drawn[:, 0].clamp(0, 1)
    return as_bytes(layer(picture, drawn[:, 1:3] * MOTION_SCALE, times, torch.Generator().manual_seed(case.seed)))


def as_bytes(picture: Tensor) -> ByteArray:
    """Grey values of 0..1 as frames."""
    return np.asarray((picture.clamp(0, 1) * 255 + 0.5).byte().numpy())


def ef_shifts(again: Reading, raw: Reading) -> list[float]:
    """By how many points the EF of each beat that both readings show differs."""
    es_again, es_raw = (np.array([beat.es_s for beat in reading.beats]) for reading in (again, raw))
    pairs = match_beats(es_again, es_raw).pairs
    return [again.beat_ef_percent[one] - raw.beat_ef_percent[other] for one, other in pairs]


@dataclass
class Redrawn:
    """Of clips drawn again: squared errors without and with speckle, its figures, EF shifts, CPU seconds of 64 frames."""

    plain: list[float] = field(default_factory=list)
    error: list[float] = field(default_factory=list)
    speckle: list[SpeckleStatistics] = field(default_factory=list)
    steady: list[float] = field(default_factory=list)
    shifts: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)

    def add(self, frames: ByteArray, case: HeldOut, cpu_s: float = np.nan, plain: float = np.nan) -> None:
        """Take in a clip that was drawn again; cpu_s: of all of it. plain: its error before speckle was added."""
        self.plain.append(plain)
        tissue = case.drawn.labels == STRUCTURES["myocardium"]
        self.error.append(mse(frames, case.cine.frames))
        self.speckle.append(speckle_statistics(frames[::EVERY], tissue[::EVERY]))
        self.steady.append(speckle_statistics(frames[:NEIGHBOURS], tissue[:NEIGHBOURS]).frame_correlation)
        raw, again = (measure(Cine(f, case.cine.times_s), load_segmenter()) for f in (case.cine.frames, frames))
        self.shifts += ef_shifts(again, raw)
        self.cpu_s.append(64 * cpu_s / len(frames))

    def cells(self) -> list[str]:
        """As `HEADER` names them."""
        found = [np.nanmean([getattr(s, name) for s in self.speckle]) for name in ("axial_px", "lateral_px", "contrast")]
        axial, lateral, contrast = map(float, found)
        plain, error, cpu = np.mean(self.plain), np.mean(self.error), np.mean(self.cpu_s)
        return [
            f"{plain:.1e}" if np.isfinite(plain) else "",
            f"{error:.1e}" if error else "",
            f"{axial:.1f}, {lateral:.1f}",
            f"{contrast:.2f}",
            f"{np.nanmean(self.steady):.2f}",
            f"{np.nanmean(np.abs(self.shifts)):.1f}" if error and self.shifts else "",
            f"{cpu:.2f}" if np.isfinite(cpu) else "",
        ]


HEADER = [
    "MSE without speckle",
    "with speckle",
    "speckle axial, lateral, px",
    "contrast",
    "from frame to frame",
    "EF shift, points",
    "CPU s per 64 frames",
]


def redraw(told: Redrawn, tokenizer: VideoTokenizer, model: EchoPulse, case: HeldOut, own_speckle: bool) -> ByteArray:
    """A clip's codes drawn by a tokenizer, and told of; without speckle of its own the generator's is added."""
    ids = codes(tokenizer, case)
    began = time.process_time()
    drawn = decoded(tokenizer, ids, case.seed)
    frames = as_bytes(drawn[:, 0]) if own_speckle else with_speckle(model, drawn, case)
    cpu_s = time.process_time() - began
    plain = np.nan if own_speckle else mse(drawn[:, 0].clamp(0, 1).numpy(), case.drawn.structure / 255.0)
    told.add(frames, case, cpu_s, plain)
    return frames

"""EchoDiffusion: clips of fixed length from one frame and an ejection fraction, by a cascade of diffusion models.

Source: Reynaud et al., "Feature-conditioned cascaded video diffusion models", MICCAI 2023.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from echogen.errors import InputError
from echogen.generators.base import Context, Generator, ef_to_give
from echogen.generators.echodiffusion.cascade import Cascade, CascadeConfig, WatchStage
from echogen.generators.pictures import as_frames
from echogen.generators.random_seeds import mixed_seed
from echogen.generators.sampling import Sampling, Span
from echogen.generators.settings_file import write_settings
from echogen.generators.video_generator import GeneratedVideo, Progress
from echogen.networks.config import config_from_dict, load_network, save_network
from echogen.networks.video_unet import VideoUnet
from echogen.records import Cine, Conditions, Ecg
from echogen.samplers.edm import random_normal


@dataclass(frozen=True)
class EchoDiffusionConfig:
    """Settings that generator.json holds beside the system's name.

    cascade: the stages and their sampling.
    fps: frame rate of the last stage in Hz.
    ef_range: lowest and highest EF that may be asked for, in %.
    ef_calibration: pairs (EF given to the networks, EF of their clips) in %, by which an EF asked for is translated.
    Raises `InputError` for a frame rate that is not positive.
    """

    cascade: CascadeConfig
    fps: float = 32.0
    ef_range: tuple[float, float] = (0.0, 100.0)
    ef_calibration: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        if self.fps <= 0:
            raise InputError(f"A generator needs a positive frame rate, not {self.fps}.")


class EchoDiffusion(Generator):
    """A cascade of video diffusion models: the heart of a reference frame, beating with an ejection fraction, without an ECG.

    A clip is as long as the cascade makes it (the paper's: 2 s), or shorter where less is asked for. Sampling steps: None takes
    each stage's own of Heun's solver, a number so many of the few-step solver in every stage.
    """

    system = "echodiffusion"
    takes = frozenset({"reference", "ef_percent"})
    ecg_past_s = ecg_future_s = 0.0
    needs_reference = True

    def __init__(self, config: EchoDiffusionConfig, networks: Sequence[VideoUnet], device: torch.device) -> None:
        """Put the networks of all stages to work; raises `InputError` where networks and stages do not belong together."""
        self.config = config
        self.device = device
        self.cascade = Cascade(config.cascade, [network.to(device).eval() for network in networks])
        self.native_fps = config.fps
        self.longest_s = self.window_s
        self.ef_range = config.ef_range
        self.name, self.weights_hash = self.system, ""
        self._progress: Progress | None = None

    @classmethod
    def from_folder(cls, folder: Path, settings: dict[str, Any], device: torch.device) -> Self:
        """Make the generator of a folder; see `Generator.from_folder`."""
        config = config_from_dict(EchoDiffusionConfig, settings)
        stages = range(1, len(config.cascade.stages) + 1)
        return cls(config, [load_network(VideoUnet, folder / f"stage-{number}") for number in stages], device)

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype | None = None) -> None:
        """Write generator.json and the networks, stage-1 and on, into a folder; dtype: as of `save_network`."""
        folder = Path(folder)
        for number, network in enumerate(self.cascade.networks, start=1):
            save_network(network, folder / f"stage-{number}", dtype)
        write_settings(folder, self.system, self.config)

    @property
    def window_s(self) -> float:
        """Duration of a clip, in s."""
        return self.config.cascade.stages[-1].frames / self.config.fps

    def make(
        self, ecg: Ecg | None, conditions: Conditions, sampling: Sampling, span: Span, progress: Progress | None = None
    ) -> GeneratedVideo:
        """Make the clip; progress is called after each call of a network."""
        self._progress = progress
        try:
            return super().make(ecg, conditions, sampling, span)
        finally:
            self._progress = None

    def _watch(self, steps: int | None) -> WatchStage | None:
        """Report every call of a network to `progress`, weighted by the pixels of its stage."""
        progress, seconds = self._progress, self.window_s
        if progress is None:
            return None
        pixels = [stage.frames * stage.size**2 for stage in self.config.cascade.stages]
        total = float(np.dot(pixels, self.cascade.network_calls(steps)))
        done = 0.0

        def watch(index: int, *call: Any) -> None:
            nonlocal done
            done += pixels[index]
            progress(seconds * done / total, seconds)

        return watch

    def window(self, conditions: Conditions, context: Context, sampling: Sampling) -> tuple[Cine, Context]:
        """Make the clip. Raises `InputError` without a frame, or for one that is not square or smaller than the clip's frames."""
        frame = self._frame(conditions.reference)
        ef = None
        if conditions.ef_percent is not None:
            given = ef_to_give(conditions.ef_percent, self.config.ef_calibration)
            ef = torch.tensor([given / 100.0], dtype=torch.float32, device=self.device)
        seed = mixed_seed(sampling.seed, context.index)
        normal = random_normal(torch.Generator().manual_seed(seed), self.device)
        watch = self._watch(sampling.steps)
        video = self.cascade.sample(frame, ef, normal, guidance=sampling.guidance, steps=sampling.steps, watch=watch)[-1][0]
        # Echo is grey; the mean does not depend on the order of the colours.
        frames = as_frames(video.mean(0))
        times = context.next_s + np.arange(len(frames)) / self.native_fps
        view = None if conditions.reference is None else conditions.reference.view
        return Cine(frames, times, view=view), Context(context.index + 1, context.next_s + len(times) / self.native_fps)

    def _frame(self, reference: Cine | None) -> Tensor:
        """Reference frame (1, channels, size, size) in 0..1, smoothed where the clip's are smaller."""
        size = self.config.cascade.stages[-1].size
        if reference is None:
            raise InputError(f"The generator {self.name} needs one frame of the heart to show; give an image.")
        height, width = reference.frames.shape[1:]
        if height != width or height < size:
            raise InputError(
                f"The frame must be square and of at least {size} x {size} pixels, but this one has {height} x {width}; "
                "crop it to its sector first."
            )
        grey = torch.from_numpy(reference.frames[:1]).to(self.device).float()[None] / 255.0
        if height != size:
            grey = F.interpolate(grey, (size, size), mode="bilinear", antialias=True)
        return grey.expand(-1, self.cascade.networks[0].config.channels, -1, -1)

"""EchoDiffusion: clips of fixed length from one frame and an ejection fraction, by a cascade of diffusion models.

Source: Reynaud et al., "Feature-conditioned cascaded video diffusion models", MICCAI 2023.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from echogen.errors import InputError
from echogen.generators.base import GENERATOR_FILE, Context, Generator, Sampling, ef_to_give
from echogen.generators.echodiffusion.cascade import Cascade, CascadeConfig, WatchStage
from echogen.networks.config import config_from_dict, load_network, save_network
from echogen.networks.video_unet import VideoUnet
from echogen.records import Cine, Conditions, Ecg
from echogen.samplers.edm import drawn


@dataclass(frozen=True)
class EchoDiffusionConfig:
    """What generator.json holds beside the system's name.

    fps: of the last frames in Hz. ef_range: what may be asked for in %. ef_calibration: see `ef_to_give`.
    """

    cascade: CascadeConfig
    fps: float = 32.0
    ef_range: tuple[float, float] = (0.0, 100.0)
    ef_calibration: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        if self.fps <= 0:
            raise InputError(f"A generator needs a positive frame rate, not {self.fps}.")


class EchoDiffusion(Generator):
    """A heart shown by one frame, beating with the ejection fraction that is asked for; it hears no ECG.

    A clip is as long as the cascade makes it (the paper's: 2 s), or shorter where less is asked for. Sampling steps: None takes
    each stage's own of Heun's solver, a number so many of the few-step solver in every stage.
    """

    system = "echodiffusion"
    takes = frozenset({"frames", "ef_percent"})
    ecg_past_s = ecg_future_s = 0.0
    needs_frame = True

    def __init__(self, config: EchoDiffusionConfig, networks: Sequence[VideoUnet], device: torch.device) -> None:
        """Raises `InputError` when networks and stages do not belong together."""
        self.config = config
        self.device = device
        self.cascade = Cascade(config.cascade, [network.to(device).eval() for network in networks])
        self.native_fps = config.fps
        self.longest_s = self.window_s
        self.ef_range = config.ef_range
        self.name, self.weights_hash = self.system, ""
        self._progress: Callable[[float, float], None] | None = None

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
        text = json.dumps({"system": self.system, **asdict(self.config)}, indent=2) + "\n"
        (folder / GENERATOR_FILE).write_text(text, encoding="utf-8")

    @property
    def window_s(self) -> float:
        """The length of a clip."""
        return self.config.cascade.stages[-1].frames / self.config.fps

    def stream(self, ecg: Ecg | Iterable[Ecg] | None, *, seconds: float | None = None, **asked: Any) -> Iterator[Cine]:
        """The clip as one part; see `Generator.stream`. Raises `InputError` for one that is longer than the cascade makes it."""
        if seconds is not None and seconds > self.longest_s + 0.5 / self.native_fps:
            raise InputError(
                f"The generator {self.name} makes clips of {self.longest_s:g} s, not of {seconds:g}; ask for at most that."
            )
        yield from super().stream(ecg, seconds=seconds, **asked)

    def __call__(self, ecg: Ecg | None, *, progress: Callable[[float, float], None] | None = None, **asked: Any) -> Cine:
        """The clip; see `Generator.__call__`. progress is called after each look of a network."""
        self._progress = progress
        try:
            return super().__call__(ecg, **asked)
        finally:
            self._progress = None

    def _watch(self, steps: int | None) -> WatchStage | None:
        """Tells `progress` of every look, each weighing as much as its stage has pixels."""
        progress, seconds = self._progress, self.window_s
        if progress is None:
            return None
        pixels = [stage.frames * stage.size**2 for stage in self.config.cascade.stages]
        total = float(np.dot(pixels, self.cascade.looks(steps)))
        done = 0.0

        def watch(index: int, *look: Any) -> None:
            nonlocal done
            done += pixels[index]
            progress(seconds * done / total, seconds)

        return watch

    def window(self, conditions: Conditions, context: Context, sampling: Sampling) -> tuple[Cine, Context]:
        """The clip. Raises `InputError` without a frame, or for one that is not square or smaller than the clip's frames."""
        frame = self._frame(conditions.frames)
        told = conditions.ef_percent
        ef = None
        if told is not None:
            given = ef_to_give(told, self.config.ef_calibration)
            ef = torch.tensor([given / 100.0], dtype=torch.float32, device=self.device)
        seed = np.random.SeedSequence([sampling.seed, context.index]).generate_state(1, np.uint64)[0] >> 1
        normal = drawn(torch.Generator().manual_seed(int(seed)), self.device)
        watch = self._watch(sampling.steps)
        video = self.cascade.sample(frame, ef, normal, guidance=sampling.guidance, steps=sampling.steps, watch=watch)[-1][0]
        # Echo is grey; the mean does not depend on the order of the colours.
        frames = (video.mean(0) * 255.0 + 0.5).to(torch.uint8).cpu().numpy()
        times = context.next_s + np.arange(len(frames)) / self.native_fps
        return Cine(frames, times), Context(context.index + 1, context.next_s + len(times) / self.native_fps)

    def _frame(self, frames: Cine | None) -> Tensor:
        """A frame as (1, channels, size, size) in 0..1, smoothed where the clip's are smaller."""
        size = self.config.cascade.stages[-1].size
        if frames is None:
            raise InputError(f"The generator {self.name} needs one frame of the heart to show; give an image.")
        height, width = frames.frames.shape[1:]
        if height != width or height < size:
            raise InputError(
                f"The frame must be square and of at least {size} x {size} pixels, but this one has {height} x {width}; "
                "crop it to its sector first."
            )
        grey = torch.from_numpy(frames.frames[:1]).to(self.device).float()[None] / 255.0
        if height != size:
            grey = F.interpolate(grey, (size, size), mode="bilinear", antialias=True)
        return grey.expand(-1, self.cascade.networks[0].config.channels, -1, -1)

"""Finer video: a stage of EchoDiffusion's family doubles the frame rate or the size of any cine, and of any generator's video.

Source: the temporal and spatial super-resolution stages (TSR, SSR) of Reynaud et al., MICCAI 2023, and Ho et al., 2022. Here a
frame is drawn from the one or two it lies at or between, so that parts of a video fit without a seam, and a network draws only
what interpolation (in time along the motion of the tissue) lacks.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from echogen.errors import InputError
from echogen.generators.base import SHIPPED, hash_weights, pick_device
from echogen.generators.precision import DTYPES
from echogen.generators.sampling import Sampling, Span
from echogen.generators.video_generator import GeneratedVideo, Progress, VideoGenerator
from echogen.generators.wrappers.motion import motion_between, moved
from echogen.generators.wrappers.wrapper import Wrapper
from echogen.networks.config import config_from_dict, load_network, save_network
from echogen.networks.video_unet import VideoUnet
from echogen.records import Cine, Conditions, Ecg
from echogen.samplers.edm import Denoiser, Edm, Normal, Predict, add_noise, log_snr, multistep, random_normal

REFINER_FILE, NETWORK = "refiner.json", "video-unet"
REFINEMENTS = ("2x-time", "2x-space")
#: Brings what interpolation hides to about unit size.
DETAIL = 10.0


class Seen(NamedTuple):
    """What a stage sees of the coarse video: its interpolation, and what that hides; grey in 0..1.

    lowres: (B, 1, 1, H, W), a video of one frame each, which the stage adds to. hidden: (B, 1, H, W), `DETAIL` times the
    difference of the frames before and after, both moved to the time between, or of the coarse pixels and their interpolation.
    """

    lowres: Tensor
    hidden: Tensor


def between(before: Tensor, after: Tensor) -> Seen:
    """For the frame half-way between two others (B, 1, H, W) of even sides."""
    motion = motion_between(before, after)
    before, after = moved(before, -0.5 * motion), moved(after, 0.5 * motion)
    return Seen((0.5 * (before + after))[:, :, None], DETAIL * (after - before))


def enlarged(frames: Tensor) -> Seen:
    """For frames (B, 1, H, W) with twice the sides."""
    smooth = F.interpolate(frames, scale_factor=2.0, mode="bilinear", align_corners=False)
    return Seen(smooth[:, :, None], DETAIL * (F.interpolate(frames, scale_factor=2.0, mode="nearest") - smooth))


def look(network: VideoUnet, seen: Seen, noise: Tensor, level: Tensor) -> Predict:
    """What a network predicts of noisy frames (B, 1, 1, H, W) that stand alone; sides are even.

    noise: standard normal like `Seen.lowres`, put on it at a level (B,). The network works at half the sides: 2 x 2 places are
    its channels.
    """
    lowres = folded(add_noise(seen.lowres * 2.0 - 1.0, level, noise))
    hidden = F.pixel_unshuffle(seen.hidden, 2)

    def predict(noisy: Tensor, sigma: Tensor) -> Tensor:
        small: Tensor = network(folded(noisy), sigma, hidden, lowres=lowres, lowres_level=log_snr(level))
        return F.pixel_shuffle(small[:, :, 0], 2)[:, :, None]

    return predict


def folded(video: Tensor) -> Tensor:
    """(B, 1, 1, H, W) -> (B, 4, 1, H / 2, W / 2)."""
    return F.pixel_unshuffle(video[:, :, 0], 2)[:, :, None]


@dataclass(frozen=True)
class RefinerConfig:
    """refine: one of `REFINEMENTS`. edm: the diffusion, of the difference to `Seen.lowres` where grey spans -1..1.

    steps: of the few-step solver; one draws the mean of all that could be, without noise, more draw one of them. dtype: what the
    network multiplies in, "bfloat16" or "float32".
    """

    refine: str
    edm: Edm = field(default_factory=Edm)
    steps: int = 1
    dtype: str = "bfloat16"

    def __post_init__(self) -> None:
        for name, value, known in (("refinement", self.refine, REFINEMENTS), ("dtype", self.dtype, DTYPES)):
            if value not in known:
                raise InputError(f"The {name} must be {' or '.join(known)}, not {value!r}.")
        if self.steps < 1:
            raise InputError(f"A refinement takes at least one step, not {self.steps}.")


def check_network(network: VideoUnet) -> None:
    """Raises `InputError` for a network that cannot be a refiner's."""
    if not network.config.lowres or network.config.channels != 4 or network.config.over_time:
        raise InputError(
            "A refinement needs a network with lowres, four channels (2 x 2 places) and nothing over time; "
            "set network.channels=4 and network.over_time=false."
        )


class Refiner:
    """Doubles the frame rate or the size of a cine; of any length and size, frame by frame."""

    def __init__(self, config: RefinerConfig, network: VideoUnet, device: str | torch.device = "cpu") -> None:
        """Raises `InputError` for a network that takes no smaller video or has not a channel for each of 2 x 2 places."""
        check_network(network)
        self.config, self.device = config, torch.device(device)
        self.network = network.to(self.device).eval()
        self.name, self.weights_hash = config.refine, ""

    @classmethod
    def from_pretrained(cls, name_or_dir: str | Path, device: str | torch.device = "auto") -> Self:
        """A shipped refiner by name ("refine-2x-time", "refine-2x-space"), or one from a folder that `save_pretrained` wrote.

        Raises `InputError` when there is none or its files are damaged.
        """
        folder = Path(name_or_dir)
        if not (folder / REFINER_FILE).is_file():
            shipped = sorted(path.parent.name for path in SHIPPED.glob(f"*/{REFINER_FILE}"))
            if str(name_or_dir) not in shipped:
                known = ", ".join(shipped) or "none"
                raise InputError(
                    f"There is no refiner {str(name_or_dir)!r}; give a folder with {REFINER_FILE} or one of: {known}."
                )
            folder = SHIPPED / str(name_or_dir)
        try:
            settings = json.loads((folder / REFINER_FILE).read_text(encoding="utf-8"))
            config = config_from_dict(RefinerConfig, settings)
        except (ValueError, TypeError, AttributeError) as error:
            raise InputError(f"{folder / REFINER_FILE} is damaged; get the refiner's folder again.") from error
        refiner = cls(config, load_network(VideoUnet, folder / NETWORK), pick_device(device))
        refiner.name, refiner.weights_hash = folder.name, hash_weights(folder)
        return refiner

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype | None = None) -> None:
        """Write refiner.json and the network into a folder; dtype: as of `save_network`."""
        save_network(self.network, Path(folder) / NETWORK, dtype)
        (Path(folder) / REFINER_FILE).write_text(json.dumps(asdict(self.config), indent=2) + "\n", encoding="utf-8")

    def fps(self, fps: float) -> float:
        """The frame rate that a cine of this rate gets."""
        return 2.0 * fps if self.config.refine == "2x-time" else fps

    def __call__(
        self,
        cine: Cine,
        *,
        steps: int | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> Cine:
        """The finer cine.

        2x-time: n frames become 2 n - 1; those of the cine stay as they are, one is added half-way between each two. 2x-space:
        twice the sides, half the mm per pixel. steps: see `RefinerConfig`. seed: of the noise, alike in all frames.
        progress(seconds made, seconds in all) is called after each frame.
        """
        parts: list[Cine] = []
        for part in self.stream(_one_by_one(cine), steps=steps, seed=seed):
            parts.append(part)
            if progress:
                progress(float(part.times_s[-1] - cine.times_s[0]), max(float(cine.times_s[-1] - cine.times_s[0]), 1e-9))
        return Cine.join(parts)

    def stream(self, parts: Iterable[Cine], *, steps: int | None = None, seed: int = 0) -> Iterator[Cine]:
        """The parts of a video one after the other, finer; the same frames as of a call, in constant memory.

        With 2x-time a part begins with the frame between it and the part before.
        """
        last: tuple[NDArray[np.uint8], float] | None = None
        for part in parts:
            if self.config.refine == "2x-space":
                frames = [self._drawn(enlarged, steps, seed, frame) for frame in part.frames]
                size = part.mm_per_pixel and part.mm_per_pixel / 2.0
                yield replace(part, frames=np.stack(frames), mm_per_pixel=size)
                continue
            pictures, times = [], []
            for frame, time_s in zip(part.frames, part.times_s, strict=True):
                if last is not None:
                    pictures.append(self._drawn(between, steps, seed, last[0], frame))
                    times.append(0.5 * (last[1] + float(time_s)))
                pictures.append(frame)
                times.append(float(time_s))
                last = frame, float(time_s)
            yield replace(part, frames=np.stack(pictures), times_s=np.array(times))

    def _drawn(self, look: Callable[..., Seen], steps: int | None, seed: int, *frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """One frame that a stage draws after a look at one or two (H, W). Alone, so that it does not depend on what is around."""
        height, width = frames[0].shape
        multiple = 2 * self.network.config.shrinks
        pad = (0, -width % multiple, 0, -height % multiple)
        grey = (torch.tensor(frame, device=self.device)[None, None].float() / 255.0 for frame in frames)
        seen = look(*(F.pad(picture, pad, mode="replicate") for picture in grey))
        refined = self.draw(seen, steps, seed)[0, 0, 0]
        scale = refined.shape[0] // (height + pad[3])
        kept = refined[: scale * height, : scale * width]
        return (kept * 255.0 + 0.5).to(torch.uint8).cpu().numpy()

    @torch.no_grad()
    def draw(self, seen: Seen, steps: int | None = None, seed: int = 0) -> Tensor:
        """Fine frames (B, 1, 1, H, W) in 0..1; every row begins with the same noise."""
        edm, dtype = self.config.edm, DTYPES[self.config.dtype]
        normal = random_normal(torch.Generator().manual_seed(seed), self.device)
        still, level = torch.zeros_like(seen.lowres), torch.zeros(len(seen.lowres), device=self.device)

        rows, steps = len(seen.lowres), self.config.steps if steps is None else steps
        with torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32):
            denoiser = Denoiser(look(self.network, seen, still, level), edm)
            shared: Normal = lambda shape: normal((1, *shape[1:])).expand(rows, *shape[1:])  # noqa: E731
            difference = denoiser(still, edm.sigma_max) if steps == 1 else multistep(denoiser, still.shape, steps, edm, shared)
        return (seen.lowres + 0.5 * difference).clamp(0.0, 1.0)


def _one_by_one(cine: Cine) -> Iterator[Cine]:
    for index in range(len(cine.frames)):
        yield replace(cine, frames=cine.frames[index : index + 1], times_s=cine.times_s[index : index + 1])


class Refined(Wrapper):
    """Wrapper that gives a generator's video twice the frame rate or the size; a call and a stream give the same frames.

    refiner: draws the finer video.
    native_fps: frames per second of the finer video.
    """

    def __init__(self, generator: VideoGenerator, refiner: Refiner) -> None:
        super().__init__(generator)
        self.refiner = refiner
        self.native_fps = refiner.fps(generator.native_fps)

    def parts(self, ecg: Ecg | Iterable[Ecg] | None, conditions: Conditions, sampling: Sampling, span: Span) -> Iterator[Cine]:
        """Yield parts of the video, finer."""
        return self.refiner.stream(self.generator.parts(ecg, conditions, sampling, span), seed=sampling.seed)

    def make(
        self, ecg: Ecg | None, conditions: Conditions, sampling: Sampling, span: Span, progress: Progress | None = None
    ) -> GeneratedVideo:
        """Make a video and refine it, with the note "refined": every refinement so far, and the hash of its weights."""
        video = self.generator.make(ecg, conditions, sampling, span, progress)
        note = {"refine": self.refiner.config.refine, "weights_hash": self.refiner.weights_hash}
        notes = {**video.notes, "refined": [*video.notes.get("refined", ()), note]}
        return replace(video, cine=self.refiner(video.cine, seed=sampling.seed, progress=progress), notes=notes)

"""Refinement: twice the frame rate or the size of any cine, or of any generator's video, by a diffusion network.

Source: the temporal and spatial super-resolution stages (TSR, SSR) of Reynaud et al., "Feature-conditioned cascaded video
diffusion models", MICCAI 2023, and of Ho et al., "Imagen Video", 2022. Here each new frame is drawn from one frame (size) or two
(frame rate), so that parts of a video fit without a seam, and the network draws only the difference to an interpolation, which
in time follows the motion of the tissue.
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
from echogen.generators.wrappers.motion import motion_between, shifted_frames
from echogen.generators.wrappers.wrapper import Wrapper
from echogen.networks.config import config_from_dict, load_network, save_network
from echogen.networks.video_unet import VideoUnet
from echogen.records import Cine, Conditions, Ecg
from echogen.samplers.edm import Denoiser, Edm, Normal, Predict, add_noise, log_snr, multistep, random_normal

#: File of a refiner's settings in its folder.
REFINER_FILE = "refiner.json"
#: Folder of a refiner's network in its folder.
NETWORK = "video-unet"
#: Kinds of refinement, in the order in which they are put after each other.
REFINEMENTS = ("2x-time", "2x-space")
#: Scale that brings the lost detail to about unit size, as networks expect their inputs.
DETAIL_SCALE = 10.0


class RefinerInput(NamedTuple):
    """The coarse video as a refiner's network is given it: its interpolation, and the detail that interpolating loses.

    lowres: (B, 1, 1, H, W) interpolated frames in 0..1, each a video of one frame, to which the network's difference is added.
    hidden: (B, 1, H, W) lost detail times `DETAIL_SCALE`: the frame after less the one before, both moved to the time half-way,
    or the coarse pixels less their interpolation.
    """

    lowres: Tensor
    hidden: Tensor


def halfway_input(before: Tensor, after: Tensor) -> RefinerInput:
    """Return the input for the frame half-way between two others, (B, 1, H, W) of even sides in 0..1."""
    motion = motion_between(before, after)
    before, after = shifted_frames(before, -0.5 * motion), shifted_frames(after, 0.5 * motion)
    return RefinerInput((0.5 * (before + after))[:, :, None], DETAIL_SCALE * (after - before))


def double_size_input(frames: Tensor) -> RefinerInput:
    """Return the input for frames of twice the sides of these, (B, 1, H, W) in 0..1."""
    smooth = F.interpolate(frames, scale_factor=2.0, mode="bilinear", align_corners=False)
    return RefinerInput(smooth[:, :, None], DETAIL_SCALE * (F.interpolate(frames, scale_factor=2.0, mode="nearest") - smooth))


def frame_predictor(network: VideoUnet, coarse: RefinerInput, noise: Tensor, level: Tensor) -> Predict:
    """Return a function from noisy frames (B, 1, 1, H, W) of even sides, and their sigma, to the network's prediction.

    noise: standard normal, of the shape of `RefinerInput.lowres`, to which it is added.
    level: (B,) of that noise, 0..1.
    The network works at half the sides, with 2 x 2 places as its channels.
    """
    lowres = places_to_channels(add_noise(coarse.lowres * 2.0 - 1.0, level, noise))
    hidden = F.pixel_unshuffle(coarse.hidden, 2)

    def predict(noisy: Tensor, sigma: Tensor) -> Tensor:
        small: Tensor = network(places_to_channels(noisy), sigma, hidden, lowres=lowres, lowres_level=log_snr(level))
        return F.pixel_shuffle(small[:, :, 0], 2)[:, :, None]

    return predict


def places_to_channels(video: Tensor) -> Tensor:
    """Turn 2 x 2 places into channels: (B, 1, 1, H, W) -> (B, 4, 1, H / 2, W / 2)."""
    return F.pixel_unshuffle(video[:, :, 0], 2)[:, :, None]


@dataclass(frozen=True)
class RefinerConfig:
    """Settings of a refiner, the content of refiner.json.

    refine: kind of refinement, one of `REFINEMENTS`.
    edm: diffusion of the difference to `RefinerInput.lowres`, where grey spans -1..1.
    steps: of the few-step solver; one step draws the mean of all possible frames, without noise, more steps draw one of them.
    dtype: number type of the matrix products, "bfloat16" or "float32".
    Raises `InputError` for values that are not known.
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
    """Raise `InputError` for a network that cannot be a refiner's."""
    if not network.config.lowres or network.config.channels != 4 or network.config.over_time:
        raise InputError(
            "A refinement needs a network with lowres, four channels (2 x 2 places) and nothing over time; "
            "set network.channels=4 and network.over_time=false."
        )


class Refiner:
    """Network that doubles the frame rate or the size of a cine of any length and size, frame by frame.

    name: of the folder or the kind of refinement.
    weights_hash: the first 16 hex digits of the SHA-256 over the weights; empty for one made in memory.
    """

    def __init__(self, config: RefinerConfig, network: VideoUnet, device: str | torch.device = "cpu") -> None:
        """Put a network to work on a device. Raises `InputError` for a network that cannot be a refiner's."""
        check_network(network)
        self.config, self.device = config, torch.device(device)
        self.network = network.to(self.device).eval()
        self.name, self.weights_hash = config.refine, ""

    @classmethod
    def from_pretrained(cls, name_or_dir: str | Path, device: str | torch.device = "auto") -> Self:
        """Load a shipped refiner by name, such as "refine-2x-time", or one from a folder that `save_pretrained` wrote.

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
        """Write refiner.json and the network into a folder; dtype: number type of the file, see `save_network`."""
        save_network(self.network, Path(folder) / NETWORK, dtype)
        (Path(folder) / REFINER_FILE).write_text(json.dumps(asdict(self.config), indent=2) + "\n", encoding="utf-8")

    def fps(self, fps: float) -> float:
        """Return the frame rate that a cine of this rate gets, in frames per second."""
        return 2.0 * fps if self.config.refine == "2x-time" else fps

    def __call__(
        self,
        cine: Cine,
        *,
        steps: int | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> Cine:
        """Refine a cine.

        2x-time: n frames become 2 n - 1; those of the cine stay as they are, one is added half-way between each two. 2x-space:
        twice the sides, half the mm per pixel. steps: see `RefinerConfig`. seed: of the noise, the same in all frames.
        progress: called as progress(seconds made, seconds in all) after each frame.
        """
        parts: list[Cine] = []
        for part in self.stream(_one_by_one(cine), steps=steps, seed=seed):
            parts.append(part)
            if progress:
                progress(float(part.times_s[-1] - cine.times_s[0]), max(float(cine.times_s[-1] - cine.times_s[0]), 1e-9))
        return Cine.join(parts)

    def stream(self, parts: Iterable[Cine], *, steps: int | None = None, seed: int = 0) -> Iterator[Cine]:
        """Yield the parts of a video one after the other, finer: the same frames as of a call, in constant memory.

        With 2x-time a part begins with the frame between it and the part before.
        """
        last: tuple[NDArray[np.uint8], float] | None = None
        for part in parts:
            if self.config.refine == "2x-space":
                frames = [self._refined_frame(double_size_input, steps, seed, frame) for frame in part.frames]
                size = part.mm_per_pixel and part.mm_per_pixel / 2.0
                yield replace(part, frames=np.stack(frames), mm_per_pixel=size)
                continue
            pictures, times = [], []
            for frame, time_s in zip(part.frames, part.times_s, strict=True):
                if last is not None:
                    pictures.append(self._refined_frame(halfway_input, steps, seed, last[0], frame))
                    times.append(0.5 * (last[1] + float(time_s)))
                pictures.append(frame)
                times.append(float(time_s))
                last = frame, float(time_s)
            yield replace(part, frames=np.stack(pictures), times_s=np.array(times))

    def _refined_frame(
        self, input_of: Callable[..., RefinerInput], steps: int | None, seed: int, *frames: NDArray[np.uint8]
    ) -> NDArray[np.uint8]:
        """Draw one frame from one or two coarse ones (H, W); alone, so that it does not depend on the frames around."""
        height, width = frames[0].shape
        multiple = 2 * self.network.config.shrinks
        pad = (0, -width % multiple, 0, -height % multiple)
        grey = (torch.tensor(frame, device=self.device)[None, None].float() / 255.0 for frame in frames)
        coarse = input_of(*(F.pad(picture, pad, mode="replicate") for picture in grey))
        refined = self.draw(coarse, steps, seed)[0, 0, 0]
        scale = refined.shape[0] // (height + pad[3])
        kept = refined[: scale * height, : scale * width]
        return (kept * 255.0 + 0.5).to(torch.uint8).cpu().numpy()

    @torch.no_grad()
    def draw(self, coarse: RefinerInput, steps: int | None = None, seed: int = 0) -> Tensor:
        """Draw fine frames (B, 1, 1, H, W) in 0..1; every row begins with the same noise."""
        edm, dtype = self.config.edm, DTYPES[self.config.dtype]
        normal = random_normal(torch.Generator().manual_seed(seed), self.device)
        still, level = torch.zeros_like(coarse.lowres), torch.zeros(len(coarse.lowres), device=self.device)

        rows, steps = len(coarse.lowres), self.config.steps if steps is None else steps
        with torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32):
            denoiser = Denoiser(frame_predictor(self.network, coarse, still, level), edm)
            shared: Normal = lambda shape: normal((1, *shape[1:])).expand(rows, *shape[1:])  # noqa: E731
            difference = denoiser(still, edm.sigma_max) if steps == 1 else multistep(denoiser, still.shape, steps, edm, shared)
        return (coarse.lowres + 0.5 * difference).clamp(0.0, 1.0)


def _one_by_one(cine: Cine) -> Iterator[Cine]:
    """Yield every frame as a part of its own."""
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

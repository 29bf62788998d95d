"""LoRA domain transfer: a video tokenizer learns the look of a handful of recorded clips.

A recorded clip has no rendering without speckle and no known displacement of its tissue. So the picture's target is the frame
itself, smoothed inside the sector (Gaussian of `SMOOTH_PX`), and the same change over four frames as in training; displacement
has no target: its channels are held where the unchanged tokenizer draws them. The codebook is fixed. Windows start at random
frames, half of them are drawn from their first frame on and half as if mid-stream, so that both ways to begin keep working.
Source: ECHOPulse (ICLR 2025), section 3.1 and Table 1; Hu et al., LoRA, 2021.
"""

from __future__ import annotations

import copy
import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn

from echogen.arrays import ByteArray
from echogen.cine import read_cine, resample_frames, to_sector
from echogen.errors import InputError
from echogen.networks.adapters import network_hash
from echogen.networks.video_tokenizer import VideoTokenizer
from echogen.training.lora import save_changes, with_changes
from echogen.training.trainer import bf16_is_native

#: Sigma in pixels of the Gaussian that makes a target of a frame: it removes speckle and keeps walls.
SMOOTH_PX = 1.6
#: Fewest latent frames of a window beside the first: less holds hardly any motion.
LEAST_LATENTS = 4
#: Latent frames beside the first on which the error is measured at a time, as many as a generator draws.
MEASURED_LATENTS = 16
#: Prefixes of the names of the decoder's linear maps.
_DECODER = ("temporal_decoder.", "spatial_decoder.", "head_first", "head_group")
#: Share of the steps over which the learning rate rises.
_WARMUP_SHARE = 0.1


@dataclass(frozen=True)
class AdapterClip:
    """Clip in the tokenizer's geometry and frame rate.

    frames: Frames (frames, size, size), uint8.
    target: Frames that are to be drawn (frames, size, size), uint8.
    facts: Hash, length and frame rate of the file.
    """

    frames: ByteArray
    target: ByteArray
    facts: dict[str, Any]


@dataclass(frozen=True)
class AdapterPlan:
    """Settings of an adaptation. Few clips are soon learned by heart; more steps then make other clips of the same look worse.

    steps: Number of optimizer steps.
    batch_size: Windows a step.
    latents: Latent frames of a window beside the first.
    rank: Rank of the changes.
    learning_rate: Highest learning rate of AdamW.
    change: Weight of the squared error of the picture's change over 4 frames.
    motion: Weight of the squared error of the displacement.
    crop_share: Share of the steps in which windows are decoded as if in mid-stream.
    decoder_only: Change the decoder alone: ids keep their meaning, so that a transformer trained on them goes on fitting, but
        the encoder does not learn to see the new pictures.
    seed: Seed of the changes and of the batches.
    """

    steps: int = 150
    batch_size: int = 2
    latents: int = 8
    rank: int = 16
    learning_rate: float = 5e-4
    change: float = 1.0
    motion: float = 0.1
    crop_share: float = 0.5
    decoder_only: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or not 1 <= self.rank <= 256:
            raise InputError("An adapter needs at least one step and a rank from 1 to 256.")


class Errors(NamedTuple):
    """Errors of the drawn picture against the clips' targets, in grey values on a 0..1 scale.

    mse: Mean squared error.
    mae: Mean absolute error.
    """

    mse: float
    mae: float


@dataclass(frozen=True)
class Adapted:
    """Adapted copy of a tokenizer, and what became of its errors.

    tokenizer: The adapted tokenizer.
    model: Wrapper of the tokenizer by peft.
    plan: Settings of the adaptation.
    before: Errors of the unchanged tokenizer.
    after: Errors of the adapted tokenizer.
    same_ids: Share of the clips' ids that stayed as they were.
    seconds: Wall time in s.
    """

    tokenizer: VideoTokenizer
    model: Any
    plan: AdapterPlan
    before: Errors
    after: Errors
    same_ids: float
    seconds: float


def check_tokenizer(network: object) -> VideoTokenizer:
    """Give back a network that can be adapted; raises `InputError` for another."""
    if not isinstance(network, VideoTokenizer):
        raise InputError("Only a generator with echogen's own video tokenizer can be adapted; this one has another.")
    return network


def read_clip(path: Path, tokenizer: VideoTokenizer, rate_hz: float | None = None) -> AdapterClip:
    """Read an echo video file in the tokenizer's geometry and frame rate, and make its target.

    rate_hz: frames per second of the file, instead of what it states.
    The facts name the file by its content, not by its name, which may hold a patient's. Raises `InputError` for a file that is
    no echo video or is too short.
    """
    config = tokenizer.config
    cine = read_cine(path, fps=rate_hz)
    try:
        frames, _ = to_sector(cine.frames, config.image_size)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    fps = config.time_patch / config.seconds_per_latent
    resampled = resample_frames(replace(cine, frames=frames, mm_per_pixel=None), fps).frames
    least = 1 + LEAST_LATENTS * config.time_patch
    if len(resampled) < least:
        raise InputError(
            f"{path} lasts {len(resampled) / fps:.2f} s, too short to learn from; give clips of at least {least / fps:.2f} s."
        )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    facts = {"sha256": digest, "frames": len(cine.frames), "seconds": cine.duration_s, "fps": cine.fps}
    return AdapterClip(resampled, smoothed(resampled), facts)


def smoothed(frames: ByteArray, sigma_px: float = SMOOTH_PX) -> ByteArray:
    """Smooth frames (frames, height, width) inside the sector, whose edges stay as sharp as they are."""
    sector = ndimage.binary_fill_holes(ndimage.binary_closing(frames.max(0) > 2, iterations=3)).astype(np.float32)
    weight = np.maximum(ndimage.gaussian_filter(sector, sigma_px), 1e-3)
    result = np.empty_like(frames)
    for index, frame in enumerate(frames):
        mean = ndimage.gaussian_filter(frame * sector, sigma_px) / weight
        result[index] = np.rint(np.clip(mean * sector, 0.0, 255.0))
    return result


def adapt(
    tokenizer: VideoTokenizer,
    clips: Sequence[AdapterClip],
    plan: AdapterPlan,
    progress: Callable[[float, float], None] | None = None,
) -> Adapted:
    """Train low-rank changes of a tokenizer's linear maps on clips; the tokenizer itself stays as it is.

    progress(steps done, steps in all) is called after each step. Needs `peft`. Raises `InputError` when the loss is lost.
    """
    began = time.monotonic()
    device = next(tokenizer.parameters()).device
    tokenizer = tokenizer.eval()
    before, ids = reconstruction_error(tokenizer, clips)
    names = [name for name, part in tokenizer.named_modules() if isinstance(part, nn.Linear)]
    names = [name for name in names if not name.startswith("quantizer.")]
    if plan.decoder_only:
        names = [name for name in names if name.startswith(_DECODER)]
    learner = copy.deepcopy(tokenizer)
    model = with_changes(learner, names, plan.rank, plan.seed)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=plan.learning_rate, betas=(0.9, 0.99), weight_decay=0.0)
    rng = np.random.default_rng(plan.seed)
    for step in range(plan.steps):
        frames, target = _batch(clips, plan, tokenizer.config.time_patch, rng)
        with _precision(device):
            loss = _loss(learner, tokenizer, frames.to(device), target.to(device), plan, rng)
        if not math.isfinite(loss.item()):
            raise InputError(f"The loss is no longer a number after {step} steps; take fewer --steps or a smaller --rank.")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        for group in optimizer.param_groups:
            group["lr"] = plan.learning_rate * _rate(step / plan.steps)
        optimizer.step()
        if progress:
            progress(step + 1, plan.steps)
    after, new_ids = reconstruction_error(learner, clips)
    same = float((ids == new_ids).float().mean())
    return Adapted(learner, model, plan, before, after, same, time.monotonic() - began)


def save_adapter(folder: Path, adapted: Adapted, base: VideoTokenizer, facts: dict[str, Any]) -> None:
    """Write an adapter's folder, as `networks.adapters` reads it; facts: further content of echogen.json."""
    document = {
        **facts,
        "network": "tokenizer",
        "network_hash": network_hash(base),
        "target": f"frames smoothed with a Gaussian of {SMOOTH_PX} px inside the sector; displacement as the base draws it",
        "before": adapted.before._asdict(),
        "after": adapted.after._asdict(),
        "same_ids": adapted.same_ids,
        "plan": asdict(adapted.plan),
        "seconds": round(adapted.seconds, 1),
    }
    save_changes(folder, adapted.model, document)


@torch.inference_mode()
def reconstruction_error(tokenizer: VideoTokenizer, clips: Sequence[AdapterClip]) -> tuple[Errors, Tensor]:
    """Errors of the drawn pictures over all pixels of the clips' targets, and all ids in order (flat)."""
    squared = absolute = 0.0
    pixels, ids = 0, []
    for clip in clips:
        for part in _parts(len(clip.frames), tokenizer.config.time_patch):
            picture, own = reconstruct(tokenizer, clip.frames[part])
            error = picture - clip.target[part].astype(np.float64) / 255.0
            squared, absolute, pixels = squared + np.square(error).sum(), absolute + np.abs(error).sum(), pixels + error.size
            ids.append(own.flatten())
    return Errors(float(squared / pixels), float(absolute / pixels)), torch.cat(ids)


@torch.inference_mode()
def reconstruct(tokenizer: VideoTokenizer, frames: ByteArray) -> tuple[NDArray[np.float64], Tensor]:
    """Draw uint8 frames (frames, size, size), 1 + a multiple of time_patch, by a tokenizer: pictures in 0..1, and ids."""
    device = next(tokenizer.parameters()).device
    video = _as_video(torch.from_numpy(np.ascontiguousarray(frames))[None].to(device), tokenizer)
    with _precision(device):
        ids = tokenizer.tokenize(video)
        drawn = tokenizer.decode_ids(ids)[0, :, : tokenizer.config.channels_in].float()
    return drawn.mean(1).clamp(0.0, 1.0).double().cpu().numpy(), ids.cpu()


def _parts(frames: int, time_patch: int) -> Iterator[slice]:
    """Consecutive pieces of a clip of 1 + a multiple of time_patch frames; fewer than time_patch frames are left over."""
    longest, start = 1 + MEASURED_LATENTS * time_patch, 0
    while start < frames:
        length = min(longest, 1 + (frames - start - 1) // time_patch * time_patch)
        yield slice(start, start + length)
        start += length if length == longest else frames


def _batch(clips: Sequence[AdapterClip], plan: AdapterPlan, time_patch: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Random windows of random clips and their targets: uint8 (batch, frames, size, size)."""
    shortest = min(len(clip.frames) for clip in clips)
    length = 1 + min(plan.latents, (shortest - 1) // time_patch) * time_patch
    windows = []
    for _ in range(plan.batch_size):
        clip = clips[int(rng.integers(len(clips)))]
        start = int(rng.integers(len(clip.frames) - length + 1))
        windows.append((clip.frames[start : start + length], clip.target[start : start + length]))
    frames, target = (np.stack(arrays) for arrays in zip(*windows, strict=True))
    return torch.from_numpy(frames), torch.from_numpy(target)


def _loss(
    learner: VideoTokenizer, base: VideoTokenizer, frames: Tensor, target: Tensor, plan: AdapterPlan, rng: np.random.Generator
) -> Tensor:
    """Squared error of the picture and of its change over 4 frames, and of the displacement against the unchanged tokenizer's."""
    config = base.config
    video = _as_video(frames, base)
    latents = 1 + (frames.shape[1] - 1) // config.time_patch
    crop = None
    if rng.random() < plan.crop_share:
        start = int(rng.integers(1, latents // 2 + 1))
        crop = (start, latents - start)
    decoded_frames = slice(0, frames.shape[1]) if crop is None else base.frames(*crop)
    picture, movement = learner(video, crop).reconstruction.float().tensor_split([config.channels_in], dim=2)
    error = picture - target[:, decoded_frames, None].float() / 255.0
    loss = error.square().mean() + plan.change * (error[:, 4:] - error[:, :-4]).square().mean()
    if movement.shape[2]:
        with torch.no_grad():
            known = base(video, crop).reconstruction[:, :, config.channels_in :].float()
        loss = loss + plan.motion * (movement - known).square().mean()
    return loss


def _as_video(frames: Tensor, tokenizer: VideoTokenizer) -> Tensor:
    """Video in [0, 1], alike in each of the tokenizer's channels, of uint8 frames (batch, frames, size, size)."""
    video, channels = frames.float() / 255.0, tokenizer.config.channels_in
    return video if channels == 1 else video[:, None].expand(-1, channels, -1, -1, -1)


def _rate(share_done: float) -> float:
    """Learning rate over the plan's: linear warm-up, times half a cosine over the share of the steps that is done."""
    return min(1.0, (share_done + 1e-2) / _WARMUP_SHARE) * 0.5 * (1.0 + math.cos(math.pi * share_done))


def _precision(device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=bf16_is_native(device))

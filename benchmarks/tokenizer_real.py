"""Error of the tokenizer on recorded echo: python benchmarks/tokenizer_real.py -> docs/tokenizer.md (ECHOPulse, Table 1).

Adapted to 1, 4 and 16 clips of patients of $ECHOGEN_TEST_DATA/real and judged on other patients; nothing of it is kept.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from common import DOCS, arguments
from echogen.arrays import ByteArray
from echogen.benchmark.markdown import table, write_section
from echogen.cine import read_cine, resample_frames, to_sector
from echogen.errors import InputError
from echogen.generators import Generator
from echogen.networks.video_tokenizer import VideoTokenizer
from echogen.records import Cine
from echogen.training.adaptation import AdapterClip, AdapterPlan, adapt, check_tokenizer, reconstruct

#: Patients that are learned from at most; the others of the folder are judged.
MOST_LEARNED = 16
COUNTS = (1, 4, MOST_LEARNED)
#: Most frames of a clip that are judged, and frames per second of files that do not state them (the error does not depend on it).
MOST_FRAMES, ANY_FPS = 65, 25.0
#: Frames per second of the clips of patients.
CLIP_FPS = 8.0
#: Errors in ECHOPulse's Table 1: of the tokenizer as it was trained on natural video, and after domain transfer.
PUBLISHED = ("5.02e-03", "2.89e-03")

#: Sigma in pixels of a blur whose error stands beside those of the tokenizers.
BLUR_PX = 1.6

Clips = list[AdapterClip]
Drawn = NDArray[np.float64]
Shown = Callable[[ByteArray, int], ByteArray]


def as_it_is(frames: ByteArray, size: int) -> ByteArray:
    """Frames of at most this size in the middle of a black picture of it: no pixel is resampled."""
    top, left = (size - frames.shape[1]) // 2, (size - frames.shape[2]) // 2
    picture = np.zeros((len(frames), size, size), np.uint8)
    picture[:, top : top + frames.shape[1], left : left + frames.shape[2]] = frames
    return picture


def canonical(frames: ByteArray, size: int) -> ByteArray:
    """Frames in the canonical picture of their sector."""
    return to_sector(frames, size)[0]


def grey_cine(path: Path, fps: float | None) -> Cine:
    """A file as a cine; fps: of files that do not state it rightly, else `ANY_FPS` where it is missing."""
    if path.suffix != ".npz":
        unstated = path.suffix in (".gif", ".gz")
        return read_cine(path, fps=fps or (ANY_FPS if unstated else None))
    with np.load(path, allow_pickle=False) as stored:
        frames = stored["frames"]
    frames = frames if frames.ndim == 3 else frames.mean(-1).astype(np.uint8)
    return Cine(frames, np.arange(len(frames)) / (fps or ANY_FPS))


def clips(paths: Sequence[Path], tokenizer: VideoTokenizer, shown: Shown, fps: float | None = None) -> Clips:
    """Clips whose target is the raw frame, at the tokenizer's rate, of whole groups; without those that show no sector."""
    found = []
    group = tokenizer.config.time_patch
    for path in paths:
        frames = resample_frames(grey_cine(path, fps), group / tokenizer.config.seconds_per_latent).frames
        length = 1 + (min(len(frames), MOST_FRAMES) - 1) // group * group
        try:
            picture = shown(frames[:length], tokenizer.config.image_size)
        except InputError:
            continue
        found.append(AdapterClip(picture, picture, {}))
    return found


def blurred(frames: ByteArray) -> Drawn:
    """Frames through a Gaussian of `BLUR_PX`."""
    return ndimage.gaussian_filter(frames / 255.0, (0, BLUR_PX, BLUR_PX))


def errors(draw: Callable[[ByteArray], Drawn], judged: Clips, side: int, every: int = 1) -> tuple[float, float]:
    """Mean over clips of the squared and of the absolute error over the middle side x side pixels, grey 0..1.

    every: Distance between frames that are judged, so that they are recorded ones and not interpolated.
    """
    found = []
    for clip in judged:
        cut = (clip.frames.shape[-1] - side) // 2
        error = (draw(clip.frames) - clip.target / 255.0)[::every, cut : cut + side, cut : cut + side]
        found.append((np.square(error).mean(), np.abs(error).mean()))
    mse, mae = np.mean(found, axis=0)
    return float(mse), float(mae)


def drawing(*tokenizers: VideoTokenizer) -> list[Callable[[ByteArray], Drawn]]:
    """Functions that draw frames by each tokenizer."""
    return [lambda frames, network=tokenizer: reconstruct(network, frames)[0] for tokenizer in tokenizers]  # type: ignore[misc]


def main() -> None:
    options = arguments(__doc__ or "", steps=AdapterPlan.steps, longer=600)
    at = os.environ.get("ECHOGEN_TEST_DATA")
    if not at:
        raise SystemExit("Set ECHOGEN_TEST_DATA to the folder of real recordings.")
    torch.set_num_threads(1)
    base = check_tokenizer(Generator.from_pretrained(options.model).adaptable)
    patients = sorted((Path(at) / "real/echodiffusion_gif").glob("*.gif"))
    cines = sorted((Path(at) / "real/cines").iterdir())
    learned, judged = patients[:MOST_LEARNED], patients[MOST_LEARNED:]
    rows: list[list[str]] = []

    small_clips, large_clips = clips(judged, base, as_it_is, CLIP_FPS), clips(judged, base, canonical, CLIP_FPS)
    other_clips = clips(cines, base, canonical)

    def judge(name: str, small: Callable[[ByteArray], Drawn], large: Callable[[ByteArray], Drawn]) -> None:
        """Add the line of what draws frames as they are, and of what draws canonical pictures."""
        every = round(base.config.time_patch / base.config.seconds_per_latent / CLIP_FPS)
        figures = [
            errors(small, small_clips, 112, every),
            errors(large, large_clips, 128, every),
            errors(large, other_clips, 128),
        ]
        rows.append(
            [name, *(f"{value:.2e}" if place == 0 else f"{value:.4f}" for pair in figures for place, value in enumerate(pair))]
        )
        print(" | ".join(rows[-1]), flush=True)

    judge(f"no tokenizer, a Gaussian of {BLUR_PX} pixels", blurred, blurred)
    judge("as shipped", *drawing(base, base))
    plan = AdapterPlan(steps=options.steps)
    for count, steps in [*((count, options.steps) for count in COUNTS), (MOST_LEARNED, options.longer)]:
        adapted = [
            adapt(base, clips(learned[:count], base, shown, CLIP_FPS), replace(plan, steps=steps)).tokenizer
            for shown in (as_it_is, canonical)
        ]
        judge(f"adapted to {count} clip{'s' * (count > 1)}, {steps} steps", *drawing(*adapted))
    head = ["tokenizer", "112 px: MSE", "MAE", "128 px: MSE", "MAE", "128 px, other sources: MSE", "MAE"]
    text = (
        f"Tokenizer of {options.model}, which draws 52 codes of 10 bits each 4 frames, against raw frames, speckle and "
        f"noise included; "
        f"errors over all pixels, grey 0 to 1, mean over clips. Learned from: clips of {MOST_LEARNED} patients of 112 x "
        f"112 pixels (16 "
        f"frames at 8 a second, brought to the tokenizer's 32; errors are those of the recorded frames alone); judged: "
        f"{len(small_clips)} other patients of the same kind as they are (112 px) and in the canonical picture (128 px), "
        f"and {len(other_clips)} cines of other sources. Adapted: low-rank changes towards raw frames, as `echogen adapt` "
        f"makes them towards smoothed ones. ECHOPulse's Table 1 has MSE {PUBLISHED[0]} before and {PUBLISHED[1]} after "
        f"domain transfer, on "
        "other data of 128 px with about five times as many bits. Command: `python benchmarks/tokenizer_real.py`.\n\n"
    ) + table(head, rows)
    print(text)
    write_section(DOCS / "tokenizer.md", "Recorded echo", text)


if __name__ == "__main__":
    main()

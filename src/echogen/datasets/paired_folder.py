"""A folder of echo videos with an ECG each, laid out as the published ECHOPulse trainer reads it.

FOLDER/**/video/NAME.mp4   the echo video
FOLDER/**/ekg/NAME.pkl     a pickled numpy array in mV, (leads, samples) or (samples,); its sampling rate is not stored

Without a folder `video`, the pickle lies beside the video. Pickles are read by `restricted_pickle`, which runs nothing.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from echogen.arrays import ByteArray
from echogen.cine.reading import read_cine
from echogen.cine.video import open_video
from echogen.cine.writing import write
from echogen.datasets.clip_store import ECG_BEFORE_S, ECG_RATE_HZ, draw_recording
from echogen.ecg.restricted_pickle import read_array_pickle
from echogen.errors import InputError
from echogen.phantom.simulate import render
from echogen.records import Cine, FloatArray

VIDEO_SUFFIXES = (".mp4", ".avi", ".gif")
VIDEO, ECG = "video", "ekg"


@dataclass(frozen=True)
class PairedClip:
    """frames (frames, height, width) uint8 grey; times_s (frames,); ecg_mv (leads, samples) float32, None where not asked for."""

    frames: ByteArray
    times_s: NDArray[np.float64]
    ecg_mv: FloatArray | None


def ecg_path(video: str | Path, root: str | Path = "") -> Path:
    """Path of a video's ECG: under `ekg` where the video is under `video` (below `root` or anywhere), else beside it.

    The first of these that exists is given, or the first one.
    """
    video = Path(video)
    below = Path(video).relative_to(root) if root else video

    def moved(path: Path) -> Path:
        return Path(*(ECG if part == VIDEO else part for part in path.parts)).with_suffix(".pkl")

    places = [Path(root) / moved(below), moved(video.absolute()), video.with_suffix(".pkl")]
    return next((place for place in places if place.is_file()), places[0])


def read_ecg_pickle(path: str | Path) -> FloatArray:
    """The ECG (leads, samples) float32 in a pickle; one stored as (samples, leads), with more rows than columns, is turned.

    Raises `InputError` for anything but a finite array of one or two dimensions; see `restricted_pickle`.
    """
    values = read_array_pickle(path)
    if values.ndim not in (1, 2) or 0 in values.shape or values.dtype.kind == "b":
        raise InputError(f"The ECG in {path} must be an array of leads x samples, not of shape {values.shape}.")
    signal = np.atleast_2d(values).astype(np.float32)
    signal = np.ascontiguousarray(signal.T if signal.shape[0] > signal.shape[1] else signal)
    if not np.isfinite(signal).all():
        raise InputError(f"The ECG in {path} contains values that are not finite numbers.")
    return signal


class PairedFolder:
    """The clips of such a folder by index, in the order of their names.

    folder: searched with all folders below it for .mp4, .avi and .gif files. ecg: whether every video needs its pickle.
    least_frames: the fewest frames that a video may have (checked by what its header promises, and again when it is read).
    Raises `InputError` for a folder without videos, a missing pickle or a video that is too short.
    """

    def __init__(self, folder: str | Path, *, ecg: bool = True, least_frames: int = 1) -> None:
        self.folder, self.ecg, self.least_frames = Path(folder), ecg, least_frames
        self.videos = sorted(path for path in self.folder.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file())
        if not self.videos:
            raise InputError(
                f"There are no echo videos ({', '.join(VIDEO_SUFFIXES)}) in {folder}; name the folder that holds them."
            )
        for video in self.videos:
            if ecg and not (place := ecg_path(video, self.folder)).is_file():
                raise InputError(f"The video {video} has no ECG; put its array into {place}.")
            promised = _promised_frames(video)
            if promised:
                self._check(video, promised)

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, index: int) -> PairedClip:
        """The clip of an index; raises `InputError` where a file is damaged or the video too short."""
        video = self.videos[index]
        cine = read_cine(video)
        self._check(video, len(cine.frames))
        signal = read_ecg_pickle(ecg_path(video, self.folder)) if self.ecg else None
        return PairedClip(cine.frames, cine.times_s, signal)

    def _check(self, video: Path, frames: int) -> None:
        if frames < self.least_frames:
            raise InputError(
                f"The video {video} has {frames} frames, but {self.least_frames} are needed; take it out of the folder."
            )


def _promised_frames(video: Path) -> int:
    """Number of frames in a video's header; 0 where it states none or is not read."""
    import av

    try:
        with open_video(video) as container:
            return container.streams.video[0].frames if container.streams.video else 0
    except (av.FFmpegError, OSError, ValueError):
        return 0


def window(frames: ByteArray, count: int, step: int, rng: np.random.Generator) -> ByteArray:
    """`count` frames, each `step` after the one before, from a random start that leaves room for them."""
    room = len(frames) - (count - 1) * step
    start = int(rng.integers(room))
    return frames[start : start + (count - 1) * step + 1 : step]


def resize(frames: ByteArray, size: int) -> ByteArray:
    """Frames (..., height, width) as (..., size, size), each direction scaled by itself; smooth (linear, antialiased)."""
    if frames.shape[-2:] == (size, size):
        return frames
    flat = frames.reshape(-1, *frames.shape[-2:])
    small = [np.asarray(Image.fromarray(frame).resize((size, size), Image.Resampling.BILINEAR)) for frame in flat]
    return np.stack(small).reshape(*frames.shape[:-2], size, size)


def change_contrast(frames: ByteArray, limits: Sequence[float], rng: np.random.Generator) -> ByteArray:
    """Stretch a clip's grey values about their mean by one random factor between the limits; (1, 1) leaves it as it is.

    The published trainer draws from (0.6, 1.4), about each frame's own mean; one mean for the clip keeps it from flickering.
    """
    low, high = limits
    factor = float(rng.uniform(low, high))
    if low == high == 1.0:
        return frames
    mean = float(frames.mean())
    return np.clip((frames - mean) * factor + mean, 0, 255).round().astype(np.uint8)


def write_pair(folder: str | Path, name: str, cine: Cine, ecg_mv: NDArray[np.floating]) -> Path:
    """Write one clip in the layout: FOLDER/video/NAME.mp4 and FOLDER/ekg/NAME.pkl; gives the video's path."""
    folder = Path(folder)
    for part in (VIDEO, ECG):
        (folder / part).mkdir(parents=True, exist_ok=True)
    video = folder / VIDEO / f"{name}.mp4"
    write(cine, video)
    (folder / ECG / f"{name}.pkl").write_bytes(pickle.dumps(np.asarray(ecg_mv)))
    return video


def write_phantom_pairs(
    folder: str | Path, clips: int, *, frames: int = 64, fps: float = 32.0, size: int = 128, seed: int = 0
) -> None:
    """Write simulated clips (size x size pixels) with their 12-lead ECGs in the layout, so that nothing but code is needed.

    Clip i shows the heart of seed + i; its ECG is that of `clip_store.draw_recording`, cut to begin and end with the video.
    """
    for clip in range(clips):
        times = np.arange(frames) / fps
        heart, ecg = draw_recording(seed + clip, frames / fps)
        first = round(ECG_BEFORE_S * ECG_RATE_HZ)
        signal = ecg[:, first : first + round(frames / fps * ECG_RATE_HZ)]
        drawn = resize(render(heart, times, seed + clip).frames, size)
        write_pair(folder, f"phantom_{seed + clip:06d}", Cine(drawn, times, view=heart.anatomy.view), signal)

"""Folders of echo videos, each with an ECG, in the layout of the published ECHOPulse trainer.

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

#: Suffixes of the videos.
VIDEO_SUFFIXES = (".mp4", ".avi", ".gif")
#: Names of the folders of videos and of pickled ECGs.
VIDEO, ECG = "video", "ekg"


@dataclass(frozen=True)
class PairedClip:
    """One clip of a folder of pairs.

    frames: Grey frames (frames, height, width) uint8.
    times_s: Times of the frames in s.
    ecg_mv: ECG (leads, samples) in mV; None where the folder is read without ECGs.
    """

    frames: ByteArray
    times_s: NDArray[np.float64]
    ecg_mv: FloatArray | None


def ecg_path(video: str | Path, root: str | Path = "") -> Path:
    """Path of a video's ECG: under `ekg` where the video is under `video` (below `root` or anywhere), else beside the video.

    The result is the first of these paths that exists, or the first one where none exists.
    """
    video = Path(video)
    below = Path(video).relative_to(root) if root else video

    def moved(path: Path) -> Path:
        return Path(*(ECG if part == VIDEO else part for part in path.parts)).with_suffix(".pkl")

    places = [Path(root) / moved(below), moved(video.absolute()), video.with_suffix(".pkl")]
    return next((place for place in places if place.is_file()), places[0])


def read_ecg_pickle(path: str | Path) -> FloatArray:
    """Read the ECG (leads, samples) float32 in mV of a pickle; an array (samples, leads), with more rows than columns, is turned.

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
    """Clips of a folder of pairs by index, in the order of their names.

    folder: Folder that is searched, with all folders below it, for .mp4, .avi and .gif files.
    ecg: True demands a pickled ECG for every video and reads it.
    least_frames: Least number of frames of a video, checked by its header, and again when it is read.
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
        """Read the clip with this index; raises `InputError` where a file is damaged or the video too short."""
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
    """Number of frames that a video's header states; 0 without one or for an unreadable file."""
    import av

    try:
        with open_video(video) as container:
            return container.streams.video[0].frames if container.streams.video else 0
    except (av.FFmpegError, OSError, ValueError):
        return 0


def window(frames: ByteArray, count: int, step: int, rng: np.random.Generator) -> ByteArray:
    """Cut `count` frames out of a clip, each `step` frames after the last, from a random start that leaves room for them."""
    room = len(frames) - (count - 1) * step
    start = int(rng.integers(room))
    return frames[start : start + (count - 1) * step + 1 : step]


def resize(frames: ByteArray, size: int) -> ByteArray:
    """Resize frames (..., height, width) to (..., size, size), each direction by its own factor, linear and antialiased."""
    if frames.shape[-2:] == (size, size):
        return frames
    flat = frames.reshape(-1, *frames.shape[-2:])
    small = [np.asarray(Image.fromarray(frame).resize((size, size), Image.Resampling.BILINEAR)) for frame in flat]
    return np.stack(small).reshape(*frames.shape[:-2], size, size)


def change_contrast(frames: ByteArray, limits: Sequence[float], rng: np.random.Generator) -> ByteArray:
    """Stretch a clip's grey values about their mean by one random factor between the limits; (1, 1) changes nothing.

    The published trainer draws from (0.6, 1.4), about each frame's own mean; one mean for the clip keeps it from flickering.
    """
    low, high = limits
    factor = float(rng.uniform(low, high))
    if low == high == 1.0:
        return frames
    mean = float(frames.mean())
    return np.clip((frames - mean) * factor + mean, 0, 255).round().astype(np.uint8)


def write_pair(folder: str | Path, name: str, cine: Cine, ecg_mv: NDArray[np.floating]) -> Path:
    """Write one clip as FOLDER/video/NAME.mp4 and FOLDER/ekg/NAME.pkl; return the path of the video."""
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
    """Write simulated clips with their 12-lead ECGs as a folder of pairs, to try the layout without any recorded data.

    folder: Folder of the pairs, made if missing.
    clips: Number of clips.
    frames: Number of frames of a clip.
    fps: Frames per second.
    size: Rows and columns in pixels.
    seed: Seed of the heart in the first clip; those of the next clips count on.

    The ECG is that of `clip_store.draw_recording`, cut to begin and end with the video.
    """
    for clip in range(clips):
        times = np.arange(frames) / fps
        heart, ecg = draw_recording(seed + clip, frames / fps)
        first = round(ECG_BEFORE_S * ECG_RATE_HZ)
        signal = ecg[:, first : first + round(frames / fps * ECG_RATE_HZ)]
        drawn = resize(render(heart, times, seed + clip).frames, size)
        write_pair(folder, f"phantom_{seed + clip:06d}", Cine(drawn, times, view=heart.anatomy.view), signal)

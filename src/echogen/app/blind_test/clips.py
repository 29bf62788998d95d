"""The videos of a blind test: picked from two folders and made alike in length, size, frame rate, encoding and bytes."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from echogen.app.blind_test.session import BlindTest, ChosenClip, Plan, new_key
from echogen.arrays import ByteArray
from echogen.cine.sector import to_sector
from echogen.cine.strip import resize_smoothly
from echogen.cine.timing import resample_frames
from echogen.cine.writing import write
from echogen.errors import InputError
from echogen.metrics.evaluation.clips import Clip, ClipFile, find_clips
from echogen.records import Cine

Progress = Callable[[float, float], None]

FASTEST_FPS = 60.0
#: A clip may be this much too short, since time stamps are rounded.
_TOLERANCE_S = 1e-3
#: Frame rates that differ by less than this share count as equal.
_SAME_RATE = 0.02


@dataclass(frozen=True)
class _Picked:
    clip: ChosenClip
    fps: float
    rows: int


def set_up(plan: Plan, progress: Progress) -> tuple[BlindTest, list[str]]:
    """Pick the clips of a test at random, as the seed says, and their common frame rate: that of the slowest, 60 Hz at most.

    Clips that are too short, damaged or show no sector are passed over. Returns the test, and sentences about what was passed
    over and how the two kinds differ in a way that a reader might notice.
    Raises `InputError` for a folder that holds too few clips.
    """
    real, notes = _pick(plan, True, progress)
    generated, more = _pick(plan, False, progress)
    notes += more
    fps = round(min(FASTEST_FPS, *(picked.fps for picked in real + generated)), 6)
    rates, rows = ([float(np.median([getattr(p, what) for p in kind])) for kind in (real, generated)] for what in ("fps", "rows"))
    if abs(rates[0] / rates[1] - 1) > _SAME_RATE:
        notes.append(
            f"Real clips have {rates[0]:.4g} frames per second and generated ones {rates[1]:.4g}; all are shown at {fps:.4g}, "
            "and a careful reader may notice the interpolation."
        )
    if rows[0] != rows[1]:
        notes.append(
            f"Real pictures have {rows[0]:.0f} rows and generated ones {rows[1]:.0f}; all are shown with {plan.size}, "
            "and a careful reader may notice which were enlarged."
        )
    return BlindTest(plan, tuple(picked.clip for picked in real + generated), fps, new_key()), notes


def _pick(plan: Plan, real: bool, progress: Progress) -> tuple[list[_Picked], list[str]]:
    folder, kind = (plan.real, "real") if real else (plan.generated, "generated")
    files, wanted = find_clips(folder, plan.fps if real else None), plan.clips // 2
    random = np.random.default_rng([plan.seed, int(real)])
    picked: list[_Picked] = []
    passed_over: list[str] = []
    for name in map(str, random.permutation(sorted(files))):
        try:
            cine, rows = _pictures(files[name], plan)
            starts = _possible_starts(cine, plan.seconds)
            if not starts:
                raise InputError(f"{files[name].video.name} lasts {cine.duration_s:.2f} s, less than {plan.seconds:g} s.")
        except InputError as error:
            passed_over.append(str(error))
            continue
        # Real clips begin anywhere in a beat, so generated ones may not all begin with its first frame.
        first = int(random.integers(starts))
        picked.append(_Picked(ChosenClip(name, real, str(files[name].video), first), cine.fps, rows))
        progress(len(picked) + (0 if real else wanted), 2 * plan.clips)
        if len(picked) == wanted:
            break
    if len(picked) < wanted:
        why = f"; of another it is said: {passed_over[0]}" if passed_over else "."
        raise InputError(
            f"{len(picked)} {kind} clips in {folder} can be shown for {plan.seconds:g} s and {wanted} are needed, "
            f"so ask for fewer (-n) or shorter (--seconds) clips{why}"
        )
    notes = [f"{len(passed_over)} {kind} clips were passed over; of one it is said: {passed_over[0]}"] if passed_over else []
    return picked, notes


def _pictures(file: ClipFile, plan: Plan) -> tuple[Cine, int]:
    """The whole clip, (frames, size, size), and how many rows it had."""
    cine = Clip(file).cine
    try:
        frames = _letterboxed(cine.frames, plan.size) if plan.whole else to_sector(cine.frames, plan.size)[0]
    except InputError as error:
        raise InputError(f"{file.video.name} cannot be shown: {error}") from error
    return replace(cine, frames=frames), cine.frames.shape[1]


def _letterboxed(frames: ByteArray, size: int) -> ByteArray:
    """Whole pictures, scaled to fit the middle of a black square."""
    rows, columns = frames.shape[1:]
    scale = size / max(rows, columns)
    height, width = max(1, round(rows * scale)), max(1, round(columns * scale))
    top, left = (size - height) // 2, (size - width) // 2
    boxed = np.zeros((len(frames), size, size), dtype=np.uint8)
    for target, frame in zip(boxed, frames, strict=True):
        target[top : top + height, left : left + width] = resize_smoothly(frame, width, height)
    return boxed


def _possible_starts(cine: Cine, seconds: float) -> int:
    """Number of first frames that have so many seconds of video after them."""
    if len(cine.times_s) < 2:
        return 0
    end = cine.times_s[0] + cine.duration_s
    return int((end - cine.times_s >= seconds - _TOLERANCE_S).sum())


def encoded_clips(test: BlindTest, progress: Progress) -> tuple[bytes, ...]:
    """The clips of a test as H.264 MP4, in the order of `test.clips`: equal in size, length, frame rate and number of bytes.

    Raises `InputError` for a clip that is no longer there.
    """
    videos = []
    with tempfile.TemporaryDirectory() as folder:
        for index, clip in enumerate(test.clips):
            video = Path(clip.video)
            if not video.is_file():
                raise InputError(f"The clip {video} of this blind test is no longer there; put it back or start a new test.")
            cine = _pictures(ClipFile(clip.name, video, None, test.plan.fps if clip.real else None), test.plan)[0]
            if clip.first_frame >= _possible_starts(cine, test.plan.seconds):
                raise InputError(f"The clip {video} has changed since this blind test was set up; start a new test.")
            target = Path(folder) / "clip.mp4"
            write(_cut(cine, clip.first_frame, test.plan.seconds, test.fps), target)
            videos.append(target.read_bytes())
            progress(len(test.clips) + index + 1, 2 * len(test.clips))
    return _padded(videos)


def _cut(cine: Cine, first_frame: int, seconds: float, fps: float) -> Cine:
    rest = replace(cine, frames=cine.frames[first_frame:], times_s=cine.times_s[first_frame:] - cine.times_s[first_frame])
    count = int(seconds * fps + 1e-6)
    shown = resample_frames(rest, fps).frames[:count]
    return Cine(shown, np.arange(count) / fps)


def _padded(videos: Sequence[bytes]) -> tuple[bytes, ...]:
    """MP4 files made equally long by a `free` box at their end (ISO 14496-12, 8.1.2), for smooth pictures take fewer bytes."""
    longest = max(map(len, videos)) + 8
    return tuple(video + struct.pack(">I4s", longest - len(video), b"free") + bytes(longest - len(video) - 8) for video in videos)

"""Decoding video files (MP4, MOV, AVI, Matroska) with PyAV: upright frames with square pixels, and their times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from echogen.arrays import ByteArray
from echogen.cine.limits import check_size, cut_short
from echogen.cine.stored import with_square_pixels
from echogen.cine.timing import ASK_FOR_RATE, steady_times
from echogen.errors import InputError
from echogen.records import Cine, SecondsArray

#: Containers that are recognised: other formats can name further files, or addresses on a network.
_CONTAINERS = {"format_whitelist": "avi,mov,matroska", "protocol_whitelist": "file"}
#: FFmpeg's number of the colour range 0..255.
_FULL_RANGE = 2
#: Pixel formats whose first plane is the luminance in bytes, limited to 16..235 unless stated, and those of 0..255.
_Y_PLANE_FORMATS = ("yuv420p", "yuv422p", "yuv444p", "yuv411p", "yuv440p", "nv12")
_FULL_RANGE_FORMATS = ("yuvj420p", "yuvj422p", "yuvj444p", "yuvj411p", "yuvj440p", "gray")
#: Luminance 16..235 of limited-range video, as grey 0..255.
_FULL_FROM_LIMITED = np.clip((np.arange(256) - 16) * (255.0 / 219.0), 0, 255).round().astype(np.uint8)
#: Frames that edit lists and sloppy headers cost; more is missing data.
_SLOPPY = 2
#: Pixels more unequal than this are a fault of the header.
_MOST_UNEQUAL = 4.0


@dataclass
class _Track:
    """State of a video track while it is decoded.

    frames: converted pictures. stamps: ticks, None where a frame has no time stamp. tick_s: length of a tick in s. rate:
    average frames per second that the file states, or None. promised: number of frames that the header states, 0 if none.
    end_s: when the track ends by the header, 0 if unknown. aspect: width / height of a pixel. matrix: (a, b, c, d) of the display
    matrix, None if upright.
    """

    frames: list[ByteArray] = field(default_factory=list)
    stamps: list[int | None] = field(default_factory=list)
    tick_s: float = 0.0
    rate: float | None = None
    promised: int = 0
    end_s: float = 0.0
    aspect: float = 1.0
    matrix: tuple[int, int, int, int] | None = None


def open_video(path: Path) -> Any:
    """The container of a video file, of PyAV; raises what that raises. No other file and no address is opened."""
    import av

    # The whole path: what comes before a colon in a bare name would be taken for a protocol.
    return av.open(str(path.absolute()), options=_CONTAINERS)


def read_video(path: Path, fps: float | None, first_only: bool = False) -> Cine:
    """The grey cine of a video file, upright and with square pixels.

    fps: in Hz, instead of the time stamps. Raises `InputError` as `decode_video`.
    """
    track = _decode(path, _grey_plane, first_only, channels=1)
    times, notes = _times(path, track, fps)
    frames, aspect = np.stack(track.frames), track.aspect
    if track.matrix is not None:
        frames = _turned(frames, track.matrix)
        aspect = 1.0 / aspect if track.matrix[0] == 0 else aspect
    stretched, _ = with_square_pixels(frames, aspect, 1.0)
    if stretched.shape != frames.shape:
        notes += (f"Its pixels are {aspect:.4g} times as wide as high: the frames were stretched to square ones.",)
    return Cine(stretched, times, notes=notes)


def decode_video(
    path: Path, fps: float | None, convert: Callable[[Any, Any], ByteArray], channels: int = 1
) -> tuple[ByteArray, SecondsArray]:
    """Frames as they are stored, and times from 0 s on, of a video file.

    fps: in Hz, instead of the time stamps. convert: makes an array of a decoded frame, given also a reformatter of PyAV.
    channels: how many values a pixel that has. Raises `InputError` for a file that is damaged, cut short, too large or timeless.
    """
    track = _decode(path, convert, False, channels)
    return np.stack(track.frames), _times(path, track, fps)[0]


def _decode(path: Path, convert: Callable[[Any, Any], ByteArray], first_only: bool, channels: int) -> _Track:
    """All frames of a file, or the first one, and what its headers state. Raises `InputError` as `decode_video`."""
    from av.video.reformatter import VideoReformatter

    track = _Track()
    try:
        with open_video(path) as container:
            if not container.streams.video:
                raise InputError(f"{path.name} has no picture track; give an echo video.")
            stream = container.streams.video[0]
            track.rate = float(stream.average_rate) if stream.average_rate else None
            check_size(path.name, 1 if first_only else max(1, stream.frames), stream.height, stream.width * channels)
            reformatter = VideoReformatter()
            for frame in container.decode(stream):
                check_size(path.name, len(track.frames) + 1, frame.height, frame.width * channels)
                if not track.frames:
                    track.matrix = _display_matrix(frame)
                track.frames.append(convert(frame, reformatter))
                track.stamps.append(frame.pts)
                track.tick_s = float(frame.time_base or 0)
                if first_only:
                    break
            track.promised = 0 if first_only else stream.frames
            track.end_s = 0.0 if first_only else _stated_end_s(container, stream)
            track.aspect = _aspect(stream)
    except InputError:
        raise
    except Exception as error:
        raise cut_short(path, error) from error
    if not track.frames:
        raise InputError(f"{path.name} holds no frame that can be decoded; give a complete file.")
    _check_complete(path, track)
    if len({frame.shape for frame in track.frames}) > 1:
        raise InputError(f"The frames of {path.name} change their size; give a video of one size.")
    return track


def _check_complete(path: Path, track: _Track) -> None:
    """Refuse a file that ends before the number of frames or the time that it states.

    A pause of the clock holds no frames: AVI counts its slots among the frames, Matroska states the time on the clock alone.
    """
    last = track.stamps[-1]
    reached_s = 0.0 if last is None else last * track.tick_s
    slots = round(reached_s * track.rate) + 1 if track.rate else 0
    if max(len(track.frames), slots) < track.promised - _SLOPPY:
        raise InputError(
            f"{path.name} is cut short: only {len(track.frames)} of its {track.promised} frames are there; give a complete file."
        )
    if track.end_s and track.rate and reached_s + (1 + _SLOPPY) / track.rate < track.end_s:
        raise InputError(f"{path.name} is cut short: it ends at {reached_s:.2f} of {track.end_s:.2f} s; give a complete file.")


def _stated_end_s(container: Any, stream: Any) -> float:
    """End of a Matroska track on its clock, in s; 0 for other containers, or where sound may last longer than the picture."""
    if "matroska" not in container.format.name:
        return 0.0
    hours, _, rest = stream.metadata.get("DURATION", "").partition(":")
    minutes, _, seconds = rest.partition(":")
    try:
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except ValueError:
        return (container.duration or 0) / 1e6 if len(container.streams) == 1 else 0.0


def _aspect(stream: Any) -> float:
    """Width / height of a pixel; 1 where it is unknown or senseless."""
    stated = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
    aspect = float(stated) if stated else 1.0
    return aspect if 1.0 / _MOST_UNEQUAL <= aspect <= _MOST_UNEQUAL else 1.0


def _display_matrix(frame: Any) -> tuple[int, int, int, int] | None:
    """Signs (a, b, c, d) of a display matrix by right angles, x' = a x + c y and y' = b x + d y; None if upright."""
    stored = next((data for data in frame.side_data if data.type.name == "DISPLAYMATRIX"), None)
    if stored is None:
        return None
    values = np.frombuffer(stored, np.int32, 9)
    a, b, c, d = (int(np.sign(values[index])) for index in (0, 1, 3, 4))
    right_angled = (a and d and not b and not c) or (b and c and not a and not d)
    return None if not right_angled or (a, b, c, d) == (1, 0, 0, 1) else (a, b, c, d)


def _turned(frames: ByteArray, matrix: tuple[int, int, int, int]) -> ByteArray:
    """Frames (T, H, W) as a display matrix shows them."""
    a, b, c, d = matrix
    if a:
        return np.ascontiguousarray(frames[:, ::d, ::a])
    return np.ascontiguousarray(frames.transpose(0, 2, 1)[:, ::b, ::c])


def _grey_plane(frame: Any, reformatter: Any) -> ByteArray:
    """The luminance of one decoded frame as full-range grey; reads the Y plane itself where there is one."""
    name = frame.format.name
    full = name in _FULL_RANGE_FORMATS or int(frame.color_range) == _FULL_RANGE
    if name not in _Y_PLANE_FORMATS + _FULL_RANGE_FORMATS:
        frame, full = reformatter.reformat(frame, format="gray"), True
    plane = frame.planes[0]
    grey = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: frame.height, : frame.width]
    return grey.copy() if full else _FULL_FROM_LIMITED[grey]


def _times(path: Path, track: _Track, fps: float | None) -> tuple[SecondsArray, tuple[str, ...]]:
    """Times from 0 s on by fps, the stamps, or the stated rate, and notes. Raises `InputError` where all are absent."""
    count = len(track.frames)
    if fps is not None:
        return np.arange(count) / fps, ()
    times = np.array([stamp for stamp in track.stamps if stamp is not None], dtype=np.float64) * track.tick_s
    if len(times) == count and (np.diff(times) > 0).all():
        return steady_times(times, track.tick_s, [track.rate] if track.rate else []), ()
    if not track.rate:
        raise InputError(f"{path.name} does not say when its frames were taken; {ASK_FOR_RATE}.")
    note = f"The time stamps of {path.name} do not increase: its stated {track.rate:.4g} frames/s were taken."
    return np.arange(count) / track.rate, (note,)

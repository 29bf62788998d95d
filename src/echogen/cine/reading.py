"""Reading echo video and pictures, recognised by content."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from echogen.cine.dicom import read_dicom
from echogen.cine.limits import MAXIMUM_DECODED_BYTES, check_size
from echogen.cine.mhd import is_mhd, read_mhd
from echogen.cine.nifti import is_nifti, read_nifti
from echogen.cine.stored import as_cine
from echogen.errors import InputError
from echogen.records import ByteArray, Cine, SecondsArray

READABLE = "DICOM, MP4, AVI, MKV, GIF, PNG, JPEG, NIfTI, MetaImage or NPZ"
#: What browsers show for a GIF frame that states no duration, in ms.
_GIF_DEFAULT_MS = 100.0
#: Only what `file_kind` lets through is looked for: other formats can name further files, or addresses on a network.
_PICTURES = ("GIF", "PNG", "JPEG", "BMP", "TIFF", "WEBP")
_CONTAINERS = {"format_whitelist": "avi,mov,matroska", "protocol_whitelist": "file"}
_FULL_RANGE = 2
_Y_PLANE_FORMATS = ("yuv420p", "yuv422p", "yuv444p", "yuv411p", "yuv440p", "nv12")
_FULL_RANGE_FORMATS = ("yuvj420p", "yuvj422p", "yuvj444p", "yuvj411p", "yuvj440p", "gray")


def read_cine(path: str | Path, *, fps: float | None = None) -> Cine:
    """Read an echo video or still, whatever its suffix says, as grey frames on a clock that starts at 0 s.

    DICOM ultrasound, MP4, AVI, MKV, GIF, PNG, JPEG (a still is a cine of one frame), NIfTI, MetaImage (MHD, MHA), or NPZ as
    `write` makes it; what `write` made as NPZ or NIfTI keeps its clock. fps: frames per second in Hz instead of the file's own
    time stamps (echo files often state a wrong rate). Raises `InputError` for a file that is missing, empty, damaged, too
    large (2 GB decoded) or of another kind.

    >>> import echogen
    >>> echogen.write(echogen.simulate(seconds=0.5).cine, "heart.gif")
    >>> echogen.read_cine("heart.gif").frames.shape
    (16, 128, 128)
    """
    path = Path(path)
    if fps is not None and not (math.isfinite(fps) and fps > 0):
        raise InputError(f"The frame rate must be a positive number of frames per second, not {fps}.")
    kind = file_kind(path)
    if kind == "dicom":
        return read_dicom(path, fps)
    if kind == "npz":
        return _read_npz(path, fps)
    if kind == "picture":
        return _read_pictures(path, fps)
    if kind == "nifti":
        return as_cine(read_nifti(path), path.name, fps)
    if kind == "mhd":
        return as_cine(read_mhd(path), path.name, fps)
    return _read_video(path, fps)


def read_image(path: str | Path) -> ByteArray:
    """The first frame of anything `read_cine` reads: (height, width) uint8. Raises `InputError` as it does.

    >>> import echogen
    >>> echogen.write(echogen.simulate(seconds=0.5).cine, "heart.gif")
    >>> echogen.read_image("heart.gif").shape
    (128, 128)
    """
    path = Path(path)
    kind = file_kind(path)
    if kind == "video":
        return _read_video(path, fps=1.0, first_only=True).frames[0]
    if kind == "picture":
        return _read_pictures(path, fps=1.0, first_only=True).frames[0]
    return read_cine(path, fps=1.0).frames[0]


def file_kind(path: Path) -> str:
    """dicom, npz, nifti, mhd, picture or video, from the first bytes of a file. Raises `InputError` for any other."""
    if not path.exists():
        raise InputError(f"There is no file {path}.")
    if path.is_dir():
        raise InputError(f"{path} is a folder; give one echo video or picture file.")
    try:
        head = first_bytes(path)
    except OSError as error:
        raise InputError(f"{path} cannot be opened: {error.strerror}.") from error
    if not head:
        raise InputError(f"{path.name} is empty; give an echo video or picture.")
    if head[128:132] == b"DICM":
        return "dicom"
    if head[:2] == b"PK":
        return "npz"
    if is_nifti(head):
        return "nifti"
    if is_mhd(head):
        return "mhd"
    if head.startswith((b"GIF8", b"\x89PNG", b"\xff\xd8\xff", b"BM", b"II*\x00", b"MM\x00*")) or head[8:12] == b"WEBP":
        return "picture"
    if (
        (head[:4] == b"RIFF" and head[8:12] == b"AVI ")
        or head[4:8] in (b"ftyp", b"moov", b"mdat")
        or head[:4] == b"\x1aE\xdf\xa3"
    ):
        return "video"
    raise InputError(f"{path.name} is neither an echo video nor a picture that can be read; give {READABLE}.")


def first_bytes(path: Path) -> bytes:
    """The first 512 bytes of a file, at least what those of a gzip file unpack to."""
    with path.open("rb") as file:
        head = file.read(512)
    if head[:2] != b"\x1f\x8b":
        return head
    try:
        return zlib.decompressobj(wbits=31).decompress(head, 512) or head
    except zlib.error:
        return head


def _cut_short(path: Path, error: Exception) -> InputError:
    detail = " ".join(str(error).split()).split(". ")[0][:120].rstrip(".") or type(error).__name__
    return InputError(f"{path.name} is damaged or cut short ({detail}); give a complete file.")


def _read_npz(path: Path, fps: float | None) -> Cine:
    def scalar(data: Any, key: str) -> Any:
        return data[key].reshape(-1)[0] if key in data.files and data[key].size == 1 else None

    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > 1.1 * MAXIMUM_DECODED_BYTES:
            check_size(path.name, 1, 1, size)
        with np.load(path, allow_pickle=False) as data:
            if "frames" not in data.files or ("times_s" not in data.files and fps is None):
                raise InputError(f"{path.name} holds no cine: an NPZ file needs the arrays frames and times_s.")
            frames, times = data["frames"], None if fps is not None else data["times_s"]
            pixel, view = scalar(data, "mm_per_pixel"), scalar(data, "view")
    except InputError:
        raise
    except Exception as error:
        raise _cut_short(path, error) from error
    if frames.ndim == 2:
        frames = frames[None]
    if times is None:
        times = np.arange(len(frames)) / float(fps or 1.0)
    elif times.dtype.kind not in "fiu" or times.ndim != 1:
        raise InputError(f"The array times_s in {path.name} must hold one time in s for each frame.")
    has_pixel = pixel is not None and np.asarray(pixel).dtype.kind in "fiu" and math.isfinite(pixel)
    return Cine(frames, times, mm_per_pixel=float(pixel) if has_pixel else None, view=str(view) if view else None)


def _read_pictures(path: Path, fps: float | None, first_only: bool = False) -> Cine:
    return Cine(*decode_pictures(path, fps, _grey_picture, first_only))


def decode_pictures(
    path: Path, fps: float | None, convert: Callable[[Image.Image], ByteArray], first_only: bool = False, channels: int = 1
) -> tuple[ByteArray, SecondsArray]:
    """Frames and times of a still, or an animated GIF, PNG or WebP with the duration of each frame.

    convert: what becomes of a frame; channels: how many values a pixel that has.
    """
    frames, durations_ms = [], []
    try:
        with Image.open(path, formats=_PICTURES) as image:
            if image.format == "GIF" and not first_only and not _ends_like_a_gif(path):
                raise ValueError("its end is missing")
            count = 1 if first_only or image.format in ("TIFF", "MPO") else int(getattr(image, "n_frames", 1))
            check_size(path.name, count, image.height, image.width * channels)
            for index in range(count):
                image.seek(index)
                frames.append(convert(image))
                durations_ms.append(float(image.info.get("duration", 0) or _GIF_DEFAULT_MS))
    except InputError:
        raise
    except UnidentifiedImageError as error:
        raise InputError(f"{path.name} is a damaged picture file; give a complete one.") from error
    except Exception as error:
        raise _cut_short(path, error) from error
    times = np.concatenate([[0.0], np.cumsum(durations_ms[:-1])]) / 1000.0
    return np.stack(frames), times if fps is None else np.arange(count) / fps


def _ends_like_a_gif(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-min(64, path.stat().st_size), 2)
        return file.read().rstrip(b"\0\r\n").endswith(b";")


def _grey_picture(image: Image.Image) -> ByteArray:
    if image.mode in ("I;16", "I", "F"):
        values = np.asarray(image, dtype=np.float32)
        top = 65535.0 if image.mode == "I;16" or values.max() > 255 else 255.0
        return np.clip(values * (255.0 / top), 0, 255).round().astype(np.uint8)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        picture = image.convert("RGBA")
        black = Image.new("RGBA", picture.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, picture)
    return np.array(image.convert("L"))


def open_video(path: Path) -> Any:
    """The container of a video file, of PyAV; raises what that raises. No other file and no address is opened."""
    import av

    # The whole path: what comes before a colon in a bare name would be taken for a protocol.
    return av.open(str(path.absolute()), options=_CONTAINERS)


def _read_video(path: Path, fps: float | None, first_only: bool = False) -> Cine:
    return Cine(*decode_video(path, fps, _grey_plane, first_only))


def decode_video(
    path: Path, fps: float | None, convert: Callable[[Any, Any], ByteArray], first_only: bool = False, channels: int = 1
) -> tuple[ByteArray, SecondsArray]:
    """Frames and times of a video file.

    convert: what becomes of a decoded frame, given also a reformatter of PyAV; channels: how many values a pixel that has.
    """
    from av.video.reformatter import VideoReformatter

    frames: list[ByteArray] = []
    stamps: list[float | None] = []
    rate = None
    try:
        with open_video(path) as container:
            if not container.streams.video:
                raise InputError(f"{path.name} has no picture track; give an echo video.")
            stream = container.streams.video[0]
            rate = float(stream.average_rate) if stream.average_rate else None
            check_size(path.name, 1 if first_only else max(1, stream.frames), stream.height, stream.width * channels)
            reformatter = VideoReformatter()
            for frame in container.decode(stream):
                check_size(path.name, len(frames) + 1, frame.height, frame.width * channels)
                frames.append(convert(frame, reformatter))
                stamps.append(None if frame.pts is None else float(frame.pts * Fraction(frame.time_base or 1)))
                if first_only:
                    break
            promised = stream.frames
            if not promised and rate and "matroska" in container.format.name:
                promised = round((container.duration or 0) / 1e6 * rate)
    except InputError:
        raise
    except Exception as error:
        raise _cut_short(path, error) from error
    if not frames:
        raise InputError(f"{path.name} holds no frame that can be decoded; give a complete file.")
    # Edit lists and sloppy headers cost a frame or two; more is missing data.
    if not first_only and len(frames) < promised - 2:
        raise InputError(
            f"{path.name} is cut short: only {len(frames)} of its {promised} frames are there; give a complete file."
        )
    if len({frame.shape for frame in frames}) > 1:
        raise InputError(f"The frames of {path.name} change their size; give a video of one size.")
    return np.stack(frames), _stamped_times(path, stamps, rate, fps)


def _grey_plane(frame: Any, reformatter: Any) -> ByteArray:
    """The luminance of one decoded frame as full-range grey; reads the Y plane itself where there is one."""
    name = frame.format.name
    full = name in _FULL_RANGE_FORMATS or int(frame.color_range) == _FULL_RANGE
    if name not in _Y_PLANE_FORMATS + _FULL_RANGE_FORMATS:
        frame, full = reformatter.reformat(frame, format="gray"), True
    plane = frame.planes[0]
    grey = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: frame.height, : frame.width]
    return grey.copy() if full else _FULL_FROM_LIMITED[grey]


# Luminance 16..235 of limited-range video, as grey 0..255.
_FULL_FROM_LIMITED = np.clip((np.arange(256) - 16) * (255.0 / 219.0), 0, 255).round().astype(np.uint8)


def _stamped_times(path: Path, stamps: list[float | None], rate: float | None, fps: float | None) -> np.ndarray:
    if fps is None and all(stamp is not None for stamp in stamps):
        times = np.array(stamps, dtype=np.float64)
        if (np.diff(times) > 0).all():
            return times - times[0]
    rate = fps or rate
    if not rate:
        raise InputError(f"{path.name} does not say when its frames were taken; give the frame rate (fps).")
    return np.arange(len(stamps)) / rate

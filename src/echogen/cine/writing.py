"""Writing echo video: MP4, GIF, AVI, DICOM, NIfTI, NPZ and the PNG filmstrip; whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from echogen.arrays import ByteArray
from echogen.cine.dicom_writing import dicom_study
from echogen.cine.nifti import write_nifti
from echogen.cine.strip import BACKGROUND, CURSOR, FRAME_MARK, R_MARK, TEXT, TRACE, EcgStrip, filmstrip, resize_smoothly
from echogen.cine.timing import resample_frames, uniform_rate
from echogen.errors import InputError
from echogen.records import Cine, Ecg

#: Suffixes that `write` knows.
WRITABLE = (".mp4", ".gif", ".avi", ".dcm", ".nii", ".nii.gz", ".npz", ".png")
#: Video with an ECG strip is at least this wide, in pixels.
LEAST_WIDTH_WITH_ECG = 384
_STRIP_SHARE = 0.25
_LEAST_STRIP = 72
_LARGEST_SCALE = 16
_LARGEST_SIDE = 8192
_CLOCK_HZ = 90_000
_GIF_TICKS_PER_S = 100
#: Browsers slow down GIF frames that are shorter than this.
_GIF_SHORTEST_TICKS = 2
_X264 = {"crf": "15", "preset": "veryfast", "bf": "0", "movflags": "+faststart"}


@dataclass(frozen=True)
class _Job:
    """Settings of a writer of moving pictures."""

    cine: Cine
    strip: EcgStrip | None
    width: int
    height: int

    @property
    def total_height(self) -> int:
        """Rows of a picture with its strip."""
        return self.height + (self.strip.layout.height if self.strip else 0)

    def pictures(self) -> Iterator[ByteArray]:
        """(rows, columns) grey or, with a strip, (rows, columns, 3) RGB, one a frame."""
        for frame, time in zip(self.cine.frames, self.cine.times_s, strict=True):
            grey = resize_smoothly(frame, self.width, self.height)
            if self.strip is None:
                yield grey
            else:
                yield np.concatenate([np.repeat(grey[..., None], 3, axis=2), self.strip.draw(float(time))], axis=0)


def write(
    cine: Cine,
    path: str | Path,
    *,
    ecg: Ecg | None = None,
    r_s: Sequence[float] | NDArray[np.float64] = (),
    lead: str | None = None,
    label: str | None = None,
    scale: int | None = None,
) -> None:
    """Write a cine in the format its suffix names, whole or not at all.

    .mp4 (H.264, true frame times), .gif (hundredths of a second that do not drift; at most 50 frames a second are kept),
    .avi (Motion JPEG at a constant rate; other frame times are interpolated to one), .npz (lossless: frames, times_s,
    mm_per_pixel, view), .nii and .nii.gz (lossless), .dcm (lossless; with an ECG also NAME_ecg.dcm, a waveform in the same
    study; always marked as synthetic) and .png (filmstrip). MP4, GIF, AVI and DICOM begin at 0 s; MP4, GIF and AVI pad odd
    sizes by one pixel where they must.
    ecg: on the clock of the cine; moving pictures and .png draw its strip under the video; lead: which lead; r_s: R peaks in
    s; label: a word for the strip, such as "synthetic". scale: enlarge moving pictures by this whole number.
    Raises `InputError` for another suffix, a folder that does not exist, a scale out of 1..16, an unknown lead, or an ECG at
    another time.

    >>> import echogen
    >>> study = echogen.simulate(seconds=0.5)
    >>> echogen.write(study.cine, "heart.mp4", ecg=study.ecg, lead="II")
    """
    path = Path(path)
    suffix = ".nii.gz" if path.name.lower().endswith(".nii.gz") else path.suffix.lower()
    if suffix not in WRITABLE:
        named = f"The suffix {path.suffix} of {path.name}" if suffix else f"The name {path.name} has no suffix, so it"
        raise InputError(f"{named} names no video format; use one of {', '.join(WRITABLE)}.")
    if scale is not None and not 1 <= scale <= _LARGEST_SCALE:
        raise InputError(f"The scale must be a whole number from 1 to {_LARGEST_SCALE}, not {scale}.")
    if suffix == ".png":
        picture = filmstrip(cine, ecg, r_s=r_s, lead=lead, label=label)
        _whole_or_not_at_all({path: lambda target: Image.fromarray(picture).save(target)})
    elif suffix == ".npz":
        _whole_or_not_at_all({path: lambda target: _write_npz(cine, target)})
    elif suffix in (".nii", ".nii.gz"):
        _whole_or_not_at_all({path: lambda target: write_nifti(cine, target)})
    elif suffix == ".dcm":
        image, waveform = dicom_study(cine, ecg, r_s)
        files = {path: lambda target: image.save_as(target, enforce_file_format=True)}
        if waveform is not None:
            files[ecg_path(path)] = lambda target: waveform.save_as(target, enforce_file_format=True)
        _whole_or_not_at_all(files)
    else:
        if suffix == ".avi" and uniform_rate(cine.times_s) is None:
            cine = resample_frames(cine, float(Fraction(cine.fps).limit_denominator(1000)))
        job = _job(cine, ecg, r_s, lead, label, scale)
        _whole_or_not_at_all({path: lambda target: _MOVING[suffix](job, target)})


@dataclass(frozen=True)
class _Coloured(_Job):
    """Pictures that are drawn already, and the cine whose frame times they take."""

    colours: Iterable[ByteArray] = ()

    def pictures(self) -> Iterator[ByteArray]:
        """(rows, columns, 3) RGB, one a frame."""
        return iter(self.colours)


def write_coloured(pictures: Iterable[ByteArray], cine: Cine, size: tuple[int, int], path: Path) -> None:
    """Write drawn pictures as MP4 at the frame times of a cine, whole or not at all.

    pictures: (rows, columns, 3) uint8 RGB, one for each frame of the cine. size: (columns, rows) of each.
    Raises `InputError` for a folder that does not exist.
    """
    job = _Coloured(cine, None, *size, colours=pictures)
    _whole_or_not_at_all({path: lambda target: _write_mp4(job, target)})


def ecg_path(path: Path) -> Path:
    """Path at which `write` puts the ECG beside the DICOM image of a path: NAME_ecg.dcm."""
    return path.with_name(f"{path.stem}_ecg{path.suffix}")


def _job(
    cine: Cine,
    ecg: Ecg | None,
    r_s: Sequence[float] | NDArray[np.float64],
    lead: str | None,
    label: str | None,
    scale: int | None,
) -> _Job:
    height, width = cine.frames.shape[1:]
    factor = float(scale or 1)
    if ecg is not None:
        factor = max(factor, LEAST_WIDTH_WITH_ECG / width)
    width, height = round(width * factor), max(1, round(height * factor))
    if max(width, height) > _LARGEST_SIDE:
        raise InputError(
            f"Frames of {width} x {height} pixels are too large for video (at most {_LARGEST_SIDE} a side); write .npz instead."
        )
    if ecg is None:
        return _Job(cine, None, width, height)
    width += width % 2
    strip_height = max(_LEAST_STRIP, round(_STRIP_SHARE * height))
    strip_height += (height + strip_height) % 2
    start = float(cine.times_s[0])
    strip = EcgStrip(
        ecg,
        start_s=start,
        end_s=start + (cine.duration_s or 1.0),
        width=width,
        height=strip_height,
        lead=lead,
        r_s=r_s,
        label=label,
    )
    return _Job(cine, strip, width, height)


def _whole_or_not_at_all(files: Mapping[Path, Callable[[Path], Any]]) -> None:
    """Save every file under another name, then all of them under their own, or none."""
    for path in files:
        if path.is_dir():
            raise InputError(f"{path} is a folder; give the name of a file to write.")
        if not path.parent.is_dir():
            raise InputError(f"The folder {path.parent} does not exist; make it first or write elsewhere.")
    # The encoders choose the container by the suffix, in lower case.
    unfinished = {path: path.with_name(f".{path.stem}.{os.getpid()}{path.suffix.lower()}") for path in files}
    placed: list[Path] = []
    try:
        for path, save in files.items():
            save(unfinished[path])
        for path in files:
            os.replace(unfinished[path], path)
            placed.append(path)
    except OSError as error:
        for other in placed:
            other.unlink(missing_ok=True)
        raise InputError(f"{path} cannot be written: {_reason(error)}.") from error
    finally:
        for left in unfinished.values():
            left.unlink(missing_ok=True)


def _reason(error: OSError) -> str:
    """The system's words for a failed writing, also where a library has wrapped them into a text of its own."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, OSError) and inner.strerror:
            return inner.strerror
        inner = inner.__cause__ or inner.__context__
    return str(error).strip().splitlines()[-1].rstrip(".") if str(error).strip() else "the disk may be full"


def _write_npz(cine: Cine, target: Path) -> None:
    pixel = np.nan if cine.mm_per_pixel is None else cine.mm_per_pixel
    np.savez_compressed(
        target, frames=cine.frames, times_s=cine.times_s, mm_per_pixel=np.float64(pixel), view=np.str_(cine.view or "")
    )


def _write_mp4(job: _Job, target: Path) -> None:
    times = job.cine.times_s - job.cine.times_s[0]
    rate = uniform_rate(times)
    if rate is not None:
        clock, ticks = 1 / rate, np.arange(len(times))
    else:
        clock, ticks = Fraction(1, _CLOCK_HZ), np.rint(times * _CLOCK_HZ).astype(np.int64)
    nominal = rate or Fraction(job.cine.fps).limit_denominator(1001)
    lasts = np.diff(ticks, append=ticks[-1] + max(1, round(1 / (nominal * clock))))
    _encode(job, target, "libx264", "yuv420p", nominal, clock, ticks, lasts, _X264)


def _write_avi(job: _Job, target: Path) -> None:
    rate = uniform_rate(job.cine.times_s)
    assert rate is not None
    ticks = np.arange(len(job.cine.frames))
    _encode(job, target, "mjpeg", "yuvj420p", rate, 1 / rate, ticks, np.ones_like(ticks), {})


def _encode(
    job: _Job,
    target: Path,
    codec: str,
    pixel_format: str,
    rate: Fraction,
    clock: Fraction,
    ticks: NDArray[np.int64],
    lasts: NDArray[np.int64],
    options: dict[str, str],
) -> None:
    import av
    from av.video.reformatter import VideoReformatter

    container_options = {"movflags": options["movflags"]} if "movflags" in options else {}
    codec_options = {key: value for key, value in options.items() if key != "movflags"}
    reformatter = VideoReformatter()
    # The whole path: what comes before a colon in a bare name would be taken for a protocol.
    with av.open(str(target.absolute()), "w", options=container_options) as container:
        stream: Any = container.add_stream(codec, rate=rate, options=codec_options)
        stream.pix_fmt = pixel_format
        stream.codec_context.time_base = clock
        if codec == "mjpeg":
            # The encoder ignores a quality given as an option; its default loses ten grey levels.
            stream.codec_context.qmin = stream.codec_context.qmax = 2
        else:
            stream.codec_context.color_range = av.video.reformatter.ColorRange.MPEG
        odd_rows, odd_columns = job.total_height % 2, job.width % 2
        stream.height, stream.width = job.total_height + odd_rows, job.width + odd_columns
        for picture, tick, last in zip(job.pictures(), ticks, lasts, strict=True):
            if odd_rows or odd_columns:
                picture = np.pad(picture, ((0, odd_rows), (0, odd_columns), (0, 0))[: picture.ndim], mode="edge")
            source = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="gray" if picture.ndim == 2 else "rgb24")
            frame = reformatter.reformat(source, format=pixel_format)
            frame.pts, frame.time_base, frame.duration = int(tick), clock, int(last)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _write_gif(job: _Job, target: Path) -> None:
    times = job.cine.times_s - job.cine.times_s[0]
    ticks = np.rint(times * _GIF_TICKS_PER_S).astype(int)
    end = round((float(times[-1]) + (job.cine.duration_s - float(times[-1]) if len(times) > 1 else 1.0)) * _GIF_TICKS_PER_S)
    kept = [0]
    for index in range(1, len(ticks)):
        if ticks[index] - ticks[kept[-1]] >= _GIF_SHORTEST_TICKS:
            kept.append(index)
    lasts = np.maximum(np.diff(ticks[kept], append=end), _GIF_SHORTEST_TICKS)
    wanted = set(kept)
    palette = _gif_palette() if job.strip else None

    def images() -> Iterator[Image.Image]:
        for index, picture in enumerate(job.pictures()):
            if index in wanted:
                image = Image.fromarray(picture)
                yield image if palette is None else image.quantize(palette=palette, dither=Image.Dither.NONE)

    moving = images()
    next(moving).save(
        target,
        format="GIF",
        save_all=True,
        append_images=moving,
        duration=[int(last) * 10 for last in lasts],
        loop=0,
        optimize=False,
    )


def _gif_palette() -> Image.Image:
    """160 greys for the echo and 16 shades of each colour of the strip."""
    colours: list[tuple[int, ...]] = [(int(level),) * 3 for level in np.linspace(0, 255, 160).round()]
    for colour in (TRACE, R_MARK, TEXT, CURSOR, FRAME_MARK, tuple(c // 2 for c in TRACE)):
        for share in (np.arange(16) + 1) / 16:
            colours.append(tuple(round(b + (c - b) * float(share)) for b, c in zip(BACKGROUND, colour, strict=True)))
    image = Image.new("P", (1, 1))
    image.putpalette([channel for colour in colours for channel in colour])
    return image


_MOVING: dict[str, Callable[[_Job, Path], None]] = {".mp4": _write_mp4, ".gif": _write_gif, ".avi": _write_avi}

"""Decoding stills, animations and pages with Pillow (GIF, PNG, JPEG, BMP, TIFF, WebP): upright, and their times."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from echogen.arrays import ByteArray
from echogen.cine.grey_depth import as_bytes
from echogen.cine.limits import check_size, cut_short
from echogen.cine.stored import with_square_pixels
from echogen.cine.timing import ASK_FOR_RATE, steady_times
from echogen.errors import InputError
from echogen.records import Cine, SecondsArray

#: Formats that are recognised: others can name further files.
_PICTURES = ("GIF", "PNG", "JPEG", "BMP", "TIFF", "WEBP")
#: Duration in ms that browsers show for an animation's frame that states none.
_DEFAULT_MS = 100.0
#: Steps in s in which a GIF and the others keep their durations.
_GIF_TICK_S, _TICK_S = 0.010, 0.001
#: A rate is said to be uncertain where one step of the clock is more than this share of an interval.
_UNCERTAIN = 0.15
#: EXIF tag of the orientation, TIFF tags of the description and of the kind of a page, and the bit that marks a reduced copy.
_ORIENTATION, _DESCRIPTION, _PAGE_KIND, _REDUCED = 274, 270, 254, 1
#: Orientations that exchange rows and columns.
_SIDEWAYS = (5, 6, 7, 8)
#: Pixel shapes that differ by more than this share are not square; more unequal ones are a fault of the header.
_SQUARE, _MOST_UNEQUAL = 0.01, 4.0
#: Rate or interval that ImageJ writes into the description of a TIFF.
_IMAGEJ = re.compile(r"^(fps|finterval)=([0-9.eE+-]+)\s*$", re.MULTILINE)
#: Modes of Pillow of more than 8 bits.
_DEEP_MODES = ("I;16", "I;16B", "I;16L", "I", "F")


def read_pictures(path: Path, fps: float | None, first_only: bool = False) -> Cine:
    """The grey cine of a still, an animation or the pages of a TIFF, with square pixels.

    fps: in Hz, instead of the durations of the frames. Raises `InputError` as `decode_pictures`.
    """
    frames, times, notes = decode_pictures(path, fps, _grey_picture, first_only)
    if frames.dtype != np.uint8:
        frames, more = _as_grey(frames, path.name)
        notes += more
    aspect = _aspect(path)
    stretched, _ = with_square_pixels(frames, aspect, 1.0)
    if stretched.shape != frames.shape:
        notes += (f"Its pixels are {aspect:.4g} times as wide as high: the frames were stretched to square ones.",)
    return Cine(stretched, times, notes=notes)


def decode_pictures(
    path: Path, fps: float | None, convert: Callable[[Image.Image], Any], first_only: bool = False, channels: int = 1
) -> tuple[Any, SecondsArray, tuple[str, ...]]:
    """Frames, their times from 0 s on, and notes, of a still, an animated GIF, PNG or WebP, or a TIFF with pages.

    fps: in Hz, instead of the durations. convert: makes an array of a frame; channels: how many values a pixel that has. Frames
    are turned as EXIF says. Raises `InputError` for a file that is damaged, too large or timeless, or whose pages differ in size.
    """
    frames: list[Any] = []
    durations_ms: list[float] = []
    try:
        with Image.open(path, formats=_PICTURES) as image:
            kind = str(image.format)
            if kind == "GIF" and not first_only and not _ends_like_a_gif(path):
                raise ValueError("its end is missing")
            count = 1 if first_only or kind == "MPO" else int(getattr(image, "n_frames", 1))
            check_size(path.name, count, image.height, image.width * channels)
            described = str(image.tag_v2.get(_DESCRIPTION, "")) if kind == "TIFF" else ""  # type: ignore[attr-defined]
            orientation = image.getexif().get(_ORIENTATION, 1)
            if kind == "TIFF" and orientation in _SIDEWAYS and image.info.get("compression") == "raw":
                # Pillow 13 decodes these into a picture of the turned size, line by line.
                raise InputError(f"{path.name} is an uncompressed TIFF that lies on its side; save it upright, or as PNG.")
            for index in range(count):
                image.seek(index)
                if kind == "TIFF" and frames and image.tag_v2.get(_PAGE_KIND, 0) & _REDUCED:  # type: ignore[attr-defined]
                    continue
                check_size(path.name, len(frames) + 1, image.height, image.width * channels)
                frames.append(convert(ImageOps.exif_transpose(image) if orientation != 1 else image))
                durations_ms.append(float(image.info.get("duration", 0) or 0))
    except InputError:
        raise
    except UnidentifiedImageError as error:
        raise InputError(f"{path.name} is a damaged picture file; give a complete one.") from error
    except Exception as error:
        raise cut_short(path, error) from error
    if len({frame.shape for frame in frames}) > 1:
        raise InputError(f"The pages of {path.name} differ in size; give one page, or pages of one size.")
    notes: tuple[str, ...] = ()
    if fps is not None or len(frames) == 1:
        times: SecondsArray = np.arange(len(frames)) / (fps or 1.0)
    elif kind == "TIFF":
        times = np.arange(len(frames), dtype=np.float64) * _page_interval_s(path, described, len(frames))
    else:
        times, notes = _times(path, durations_ms, _GIF_TICK_S if kind == "GIF" else _TICK_S)
    return np.stack(frames), times, notes


def _times(path: Path, durations_ms: list[float], tick_s: float) -> tuple[SecondsArray, tuple[str, ...]]:
    """Times (T,) in s of an animation whose frames last so long, 0 where that is not stated, and notes on what is uncertain."""
    unstated = not any(durations_ms)
    steps_s = np.array([duration or _DEFAULT_MS for duration in durations_ms[:-1]]) / 1000.0
    stamps = np.concatenate([[0.0], np.cumsum(steps_s)])
    if unstated:
        note = f"{path.name} states no durations: {1000.0 / _DEFAULT_MS:g} frames/s, as browsers show it; else {ASK_FOR_RATE}."
        return stamps, (note,)
    step = float(np.median(steps_s))
    if np.ptp(steps_s) < 1e-9 and tick_s > _UNCERTAIN * step:
        low, high = 1.0 / (step + tick_s / 2), 1.0 / (step - tick_s / 2)
        note = f"{path.name} keeps times in steps of {1000 * tick_s:g} ms: its rate may be {low:.1f} to {high:.1f} frames/s."
        return stamps, (note,)
    return steady_times(stamps, tick_s, simplest=False), ()


def _page_interval_s(path: Path, described: str, count: int) -> float:
    """The time from page to page in s, which only ImageJ states. Raises `InputError` where it is unknown."""
    for name, value in _IMAGEJ.findall(described):
        number = float(value)
        if number > 0:
            return 1.0 / number if name == "fps" else number
    raise InputError(f"{path.name} does not say how fast its {count} pages follow each other; {ASK_FOR_RATE}.")


def _ends_like_a_gif(path: Path) -> bool:
    """True where the last bytes of a file hold the mark that ends a GIF."""
    with path.open("rb") as file:
        file.seek(-min(64, path.stat().st_size), 2)
        return file.read().rstrip(b"\0\r\n").endswith(b";")


def _aspect(path: Path) -> float:
    """Width / height of a pixel of the upright picture, from its resolution both ways; 1 where that is equal or senseless."""
    with Image.open(path, formats=_PICTURES) as image:
        if image.format == "GIF":
            with path.open("rb") as file:
                stated = file.read(13)[12]
            aspect = (stated + 15) / 64 if stated else 1.0  # GIF89a, section 18
        else:
            across, down = image.info.get("aspect") or image.info.get("dpi") or image.info.get("jfif_density") or (1, 1)
            aspect = float(down) / float(across) if across and down else 1.0
        if image.getexif().get(_ORIENTATION, 1) in _SIDEWAYS:
            aspect = 1.0 / aspect
    return aspect if abs(aspect - 1.0) > _SQUARE and 1.0 / _MOST_UNEQUAL <= aspect <= _MOST_UNEQUAL else 1.0


def _as_grey(values: np.ndarray, name: str) -> tuple[ByteArray, tuple[str, ...]]:
    """Deep grey levels (T, H, W) as uint8: whole ones by the bits they use, fractional ones of 0..1, 0..255 or 0..65535."""
    if values.dtype.kind == "f":
        high = float(values.max())
        top = 1.0 if 0 < high <= 1 else 255.0 if high <= 255 else 65535.0
        return np.clip(values * (255.0 / top), 0, 255).round().astype(np.uint8), ()
    # Pillow widens some pictures of 8 bits; more than 8 were stated where any value needs them.
    return as_bytes(values, 8 if int(values.max()) <= 255 and values.dtype.itemsize > 2 else 16, name)


def _grey_picture(image: Image.Image) -> np.ndarray:
    """A frame as grey levels (H, W), as they are where they have more than 8 bits; transparent parts lie on black."""
    if image.mode in _DEEP_MODES:
        return np.asarray(image)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        picture = image.convert("RGBA")
        black = Image.new("RGBA", picture.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, picture)
    return np.array(image.convert("L"))

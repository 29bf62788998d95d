"""Reading echo video and pictures, recognised by content."""

from __future__ import annotations

import math
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from echogen.arrays import ByteArray
from echogen.cine.dicom import read_dicom
from echogen.cine.dicom_opening import is_dicom, read_dataset
from echogen.cine.grey_depth import as_bytes
from echogen.cine.limits import MAXIMUM_DECODED_BYTES, check_size, cut_short
from echogen.cine.mhd import is_mhd, read_mhd
from echogen.cine.nifti import is_nifti, read_nifti
from echogen.cine.pictures import read_pictures
from echogen.cine.stored import as_cine
from echogen.cine.timing import ASK_FOR_RATE, check_fps, check_times
from echogen.cine.video import read_video
from echogen.errors import InputError
from echogen.records import Cine

READABLE = "DICOM, MP4, AVI, MKV, GIF, PNG, JPEG, TIFF, NIfTI, MetaImage or NPZ"
#: Heights of a picture in mm that an echocardiogram can have: from a mouse to the deepest view with all that is around it.
_LEAST_MM, _MOST_MM = 8.0, 600.0
#: Rows from which on a picture is judged by its height: smaller ones may be cut out of another.
_FEWEST_ROWS = 64


def read_cine(path: str | Path, *, fps: float | None = None) -> Cine:
    """Read an echo video or still, whatever its suffix says, as upright grey frames with square pixels on a clock from 0 s on.

    DICOM ultrasound, MP4, AVI, MKV, GIF, WebP, PNG, JPEG (a still is a cine of one frame), TIFF (a page is a frame), NIfTI,
    MetaImage (MHD, MHA), or NPZ as `write` makes it; what `write` made as NPZ or NIfTI keeps its clock. fps: frames per second in
    Hz instead of the file's own times (echo files often state a wrong rate). The notes of the cine tell what was guessed.
    Raises `InputError` for a file that is missing, empty, damaged, too large (2 GB decoded) or of another kind, and for one
    that states no times, or such as no echocardiogram has, unless fps is given.

    >>> import echogen
    >>> echogen.write(echogen.simulate(seconds=0.5).cine, "heart.gif")
    >>> echogen.read_cine("heart.gif").frames.shape
    (16, 128, 128)
    """
    path = Path(path)
    check_fps(fps)
    kind = file_kind(path)
    if kind == "dicom":
        cine = read_dicom(path, fps)
    elif kind == "npz":
        cine = _read_npz(path, fps)
    elif kind == "picture":
        cine = read_pictures(path, fps)
    elif kind in ("nifti", "mhd"):
        cine = as_cine(read_nifti(path) if kind == "nifti" else read_mhd(path), path.name, fps)
    else:
        cine = read_video(path, fps)
    return _with_sensible_scale(cine if fps is not None else check_times(cine, path.name))


def _with_sensible_scale(cine: Cine) -> Cine:
    """The cine; without its pixel size, but with a note, where the picture would be as high as no echocardiogram is."""
    if cine.mm_per_pixel is None or cine.frames.shape[1] < _FEWEST_ROWS:
        return cine
    tall_mm = cine.mm_per_pixel * cine.frames.shape[1]
    if _LEAST_MM <= tall_mm <= _MOST_MM:
        return cine
    note = f"Its pixels of {cine.mm_per_pixel:.3g} mm would make a picture {tall_mm:.3g} mm high: no mm, no ml."
    return replace(cine, mm_per_pixel=None, notes=(*cine.notes, note))


def read_image(path: str | Path) -> ByteArray:
    """The first frame of anything `read_cine` reads: (height, width) uint8. Raises `InputError` alike, but needs no times.

    >>> import echogen
    >>> echogen.write(echogen.simulate(seconds=0.5).cine, "heart.gif")
    >>> echogen.read_image("heart.gif").shape
    (128, 128)
    """
    path = Path(path)
    kind = file_kind(path)
    if kind == "video":
        return read_video(path, fps=1.0, first_only=True).frames[0]
    if kind == "picture":
        return read_pictures(path, fps=1.0, first_only=True).frames[0]
    return read_cine(path, fps=1.0).frames[0]


def holds_pictures(path: str | Path) -> bool:
    """True for a file whose content is that of an echo video or picture, readable or not; a DICOM waveform alone is none."""
    path = Path(path)
    try:
        kind = file_kind(path)
        if kind == "dicom":
            return "Rows" in read_dataset(path, stop_before_pixels=True, specific_tags=["Rows"])
        if kind == "npz":
            with zipfile.ZipFile(path) as archive:
                return "frames.npy" in archive.namelist()
    except Exception:  # of a damaged file, or one of another kind
        return False
    return True


def file_kind(path: Path) -> str:
    """dicom, npz, nifti, mhd, picture or video, from the first bytes of a file. Raises `InputError` for any other."""
    if not path.exists():
        raise InputError(f"There is no file {path}.")
    if path.is_dir():
        raise InputError(f"{path} is a folder; give one echo video or picture file.")
    if not path.is_file():
        raise InputError(f"{path} is a pipe or a device; write what it gives into a file, and give that.")
    try:
        head = first_bytes(path)
    except OSError as error:
        raise InputError(f"{path} cannot be opened: {error.strerror}.") from error
    if not head:
        raise InputError(f"{path.name} is empty; give an echo video or picture.")
    if is_dicom(head):
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


def _read_npz(path: Path, fps: float | None) -> Cine:
    """The cine in an NPZ file as `write` makes it. Raises `InputError` where it is none."""

    def scalar(data: Any, key: str) -> Any:
        return data[key].reshape(-1)[0] if key in data.files and data[key].size == 1 else None

    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > 1.1 * MAXIMUM_DECODED_BYTES:
            check_size(path.name, 1, 1, size)
        with np.load(path, allow_pickle=False) as data:
            if "frames" not in data.files:
                raise InputError(f"{path.name} holds no cine: an NPZ file needs the arrays frames and times_s.")
            frames, times = data["frames"], data["times_s"] if fps is None and "times_s" in data.files else None
            pixel, view = scalar(data, "mm_per_pixel"), scalar(data, "view")
    except InputError:
        raise
    except Exception as error:
        raise cut_short(path, error) from error
    if frames.ndim == 2:
        frames = frames[None]
    notes: tuple[str, ...] = ()
    if frames.dtype == np.uint16:
        frames, notes = as_bytes(frames, 16, path.name)
    if times is None and fps is None and len(frames) > 1:
        raise InputError(f"{path.name} has no array times_s with the time of each of its {len(frames)} frames; {ASK_FOR_RATE}.")
    if times is None:
        times = np.arange(len(frames)) / float(fps or 1.0)
    elif times.dtype.kind not in "fiu" or times.ndim != 1:
        raise InputError(f"The array times_s in {path.name} must hold one time in s for each frame.")
    has_pixel = pixel is not None and np.asarray(pixel).dtype.kind in "fiu" and math.isfinite(pixel)
    return Cine(frames, times, mm_per_pixel=float(pixel) if has_pixel else None, view=str(view) if view else None, notes=notes)

"""NIfTI cines, plain or gzipped: the first axis is the columns, the second the rows from above, the last the time."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from echogen.cine.limits import check_size
from echogen.cine.stored import StoredImage
from echogen.errors import InputError
from echogen.records import VIEWS, Cine, SecondsArray

_MM = {"meter": 1000.0, "mm": 1.0, "micron": 0.001, "unknown": 1.0}
_SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}
#: Our own facts lie in a header extension of this kind, as JSON under this key.
_COMMENT, _KEY = 6, "echogen"


def is_nifti(head: bytes) -> bool:
    """True if the first 348 bytes of a file, unpacked, are a NIfTI header that is followed by its image."""
    return head[344:348] == b"n+1\0" or head[4:12] == b"n+2\0\r\n\x1a\n"


def read_nifti(path: str | Path) -> StoredImage:
    """Read a NIfTI-1 or -2 file, whatever its suffix says.

    Times come from the fourth axis where its unit is one of time; what `write_nifti` noted wins. Sides of pixels whose unit is
    not stated are taken for mm, unless both are 1. Raises `InputError` for a file that is damaged, too large, has another
    number of axes, or where nibabel is not installed.
    """
    path = Path(path)
    try:
        import nibabel
    except ImportError as error:
        raise InputError("Reading NIfTI files needs the package nibabel; install echogen[datasets].") from error
    try:
        with _quietly(), _opened(path) as stream:
            head = stream.read(540)
            kind: Any = nibabel.Nifti2Image if head[4:8] == b"n+2\0" else nibabel.Nifti1Image
            announced = kind.header_class(head[: 540 if head[4:8] == b"n+2\0" else 348])
            shape = tuple(int(size) for size in announced.get_data_shape())
            if sum(size > 1 for size in shape[2:]) > 1 or not 2 <= len(shape) <= 5:
                raise InputError(f"{path.name} has axes of {shape}, not columns, rows and time; give a picture or a sequence.")
            columns, rows, frames = shape[0], shape[1], math.prod(shape[2:])
            scaled = announced.get_slope_inter() not in ((None, None), (1.0, 0.0))
            check_size(path.name, frames * (8 if scaled else announced.get_data_dtype().itemsize), rows, columns)
            check_size(path.name, 1, 1, int(announced.get_data_offset()))
            stream.seek(0)
            image = kind.from_stream(stream)
            values = np.asanyarray(image.dataobj).reshape((columns, rows, frames), order="F")
            return _stored(image.header, shape, values.T)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{path.name} is damaged or no NIfTI image; export it again.") from error


@contextmanager
def _quietly() -> Iterator[None]:
    """Without nibabel's remarks on odd headers, which it repairs."""
    from nibabel.imageglobals import logger

    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _opened(path: Path) -> BinaryIO:
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return cast(BinaryIO, gzip.open(path)) if packed else path.open("rb")


def _stored(header: Any, shape: tuple[int, ...], values: np.ndarray) -> StoredImage:
    sides = [float(side) for side in header.get_zooms()]
    space, time = header.get_xyzt_units()
    width, height = (sides[0] * _MM.get(space, 1.0), sides[1] * _MM.get(space, 1.0))
    if space == "unknown" and width == height == 1.0:
        width = height = 0.0
    times: SecondsArray | None = None
    if len(shape) >= 4 and shape[3] == len(values) and time in _SECONDS and sides[3] > 0:
        times = np.asarray(np.arange(len(values)) * (sides[3] * _SECONDS[time]), dtype=np.float64)
    if values.dtype.names == ("R", "G", "B"):
        values = np.rint(values["R"] * 0.299 + values["G"] * 0.587 + values["B"] * 0.114).astype(np.uint8)
    noted = _noted(header)
    own = np.asarray(noted.get("times_s", ()), dtype=np.float64)
    view = noted.get("view")
    if "mm_per_pixel" in noted:
        width = height = float(noted["mm_per_pixel"] or 0.0)
    return StoredImage(values, width, height, own if own.shape == (len(values),) else times, view if view in VIEWS else None)


def _noted(header: Any) -> dict[str, Any]:
    """Read the facts that `write_nifti` left in the header; empty for the files of others."""
    for extension in header.extensions:
        if extension.get_code() == _COMMENT:
            try:
                return dict(json.loads(extension.get_content())[_KEY])
            except (ValueError, KeyError, TypeError):
                continue
    return {}


def write_nifti(cine: Cine, target: Path) -> None:
    """Write a cine as NIfTI-1 (columns, rows, 1, time), gzipped where the name ends in .gz; exact.

    Spacing is in mm and time in s. Frame times, mm per pixel and view lie in full precision in a comment of the header, too.
    Raises `InputError` where nibabel is not installed.
    """
    try:
        import nibabel
    except ImportError as error:
        raise InputError("Writing NIfTI files needs the package nibabel; install echogen[datasets].") from error
    side = cine.mm_per_pixel or 1.0
    image = nibabel.Nifti1Image(cine.frames.T[:, :, None, :], np.diag([side, side, 1.0, 1.0]))
    image.header.set_zooms((side, side, 1.0, 1.0 if len(cine.frames) == 1 else 1.0 / cine.fps))
    image.header.set_xyzt_units("mm" if cine.mm_per_pixel else "unknown", "sec")
    noted = {"times_s": cine.times_s.tolist(), "mm_per_pixel": cine.mm_per_pixel, "view": cine.view}
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", json.dumps({_KEY: noted}).encode()))
    content = image.to_bytes()
    target.write_bytes(gzip.compress(content, 6, mtime=0) if target.suffix == ".gz" else content)

"""MetaImage cines: a text header (.mhd) beside a raw or zlib-packed file (.raw, .zraw), or both in one file (.mha)."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from echogen.cine.limits import check_size
from echogen.cine.stored import StoredImage
from echogen.errors import InputError
from echogen.records import SecondsArray

_TYPES = {"MET_UCHAR": "u1", "MET_CHAR": "i1", "MET_USHORT": "u2", "MET_SHORT": "i2"}
_TYPES |= {"MET_UINT": "u4", "MET_INT": "i4", "MET_FLOAT": "f4", "MET_DOUBLE": "f8"}
#: Sequences note several fields for every frame.
_LONGEST_HEADER = 4 * 1024**2
_TEXT = re.compile(rb"\s*(ObjectType|NDims)\s*=", re.IGNORECASE)


def is_mhd(head: bytes) -> bool:
    """True if a file that begins with these bytes has a MetaImage header."""
    return _TEXT.match(head) is not None


def read_mhd(path: str | Path) -> StoredImage:
    """Read a MetaImage of two axes, or three of which the last is time.

    Times come from the time stamps of each frame (Seq_Frame0000_Timestamp, in s) where the header has them. The data file must
    lie in the header's folder. Raises `InputError` for a header or a data file that is missing, damaged, too large or of
    another kind.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            header, data_start = _header(file)
        sizes = [int(size) for size in header["dimsize"].split()]
        columns, rows, frames = (*sizes, 1, 1)[:3]
        sides = [float(side) for side in header.get("elementspacing", header.get("elementsize", "0 0")).split()]
        flag = header.get("elementbyteordermsb", header.get("binarydatabyteordermsb", ""))
        kind = np.dtype((">" if flag.lower() == "true" else "<") + _TYPES[header["elementtype"].upper()])
        channels = int(header.get("elementnumberofchannels", "1"))
    except (KeyError, ValueError, OSError) as error:
        raise InputError(f"{path.name} is a damaged MetaImage header ({error}); export the image again.") from error
    if len(sizes) not in (2, 3) or min(sizes) < 1 or channels != 1:
        raise InputError(f"{path.name} has axes of {sizes} and {channels} channels, not grey pictures in time; export it so.")
    check_size(path.name, frames * kind.itemsize, rows, columns)
    content = _content(path, header, data_start, frames * rows * columns * kind.itemsize)
    width, height = (*sides, 0.0, 0.0)[:2]
    return StoredImage(np.frombuffer(content, kind).reshape(frames, rows, columns), width, height, _times(header, frames))


def _header(file: BinaryIO) -> tuple[dict[str, str], int]:
    """The header's fields, names in lower case, and where it ends: ElementDataFile is its last line."""
    header: dict[str, str] = {}
    while "elementdatafile" not in header:
        line = file.readline(4096)
        if (not line.endswith(b"\n") and b"ElementDataFile" not in line) or file.tell() > _LONGEST_HEADER:
            raise ValueError("its line ElementDataFile is missing")
        name, _, value = line.decode("utf-8", "replace").partition("=")
        header[name.strip().lower()] = value.strip()
    return header, file.tell()


def _content(path: Path, header: Mapping[str, str], data_start: int, size: int) -> bytes:
    """The bytes of the pixels, of which there must be `size`."""
    named = header["elementdatafile"]
    if named.upper() == "LOCAL":
        source, skip = path, data_start
    elif named.upper().startswith("LIST") or "%" in named:
        raise InputError(f"{path.name} spreads its frames over several files; export it with one data file.")
    else:
        source, skip = path.parent / named, int(header.get("headersize", "0") or 0)
        if not _beside(source, named):
            raise InputError(f"{path.name} names a data file outside its folder; put it beside the header and name it so.")
    packed = header.get("compresseddata", "").lower() == "true"
    try:
        with source.open("rb") as file:
            if skip < 0:
                skip = max(0, source.stat().st_size - size)
            file.seek(skip)
            content = _unpacked(file, size) if packed else file.read(size)
    except (OSError, zlib.error) as error:
        raise InputError(f"{source.name}, the data of {path.name}, is missing or damaged; put it beside the header.") from error
    if len(content) != size:
        raise InputError(f"{source.name}, the data of {path.name}, is cut short ({len(content)} of {size} bytes); get it again.")
    return content


def _beside(source: Path, named: str) -> bool:
    """True if a header names a plain name, and the file of that name is no link that leads elsewhere."""
    try:
        return Path(named).name == named and "\\" not in named and source.resolve().parent == source.parent.resolve()
    except (ValueError, OSError, RuntimeError):  # no name of a file, or links in a circle
        return False


def _unpacked(file: BinaryIO, size: int) -> bytes:
    packer, parts, left = zlib.decompressobj(), [], size
    while left > 0 and (chunk := packer.unconsumed_tail or file.read(1 << 20)):
        parts.append(packer.decompress(chunk, left))
        left -= len(parts[-1])
    return b"".join(parts)


def _times(header: Mapping[str, str], frames: int) -> SecondsArray | None:
    """The time stamps of all frames from 0 s on, where they are there and increase."""
    try:
        times: NDArray[np.float64] = np.array([float(header[f"seq_frame{k:04d}_timestamp"]) for k in range(frames)])
    except (KeyError, ValueError):
        return None
    return times - times[0] if np.isfinite(times).all() and (np.diff(times) > 0).all() else None

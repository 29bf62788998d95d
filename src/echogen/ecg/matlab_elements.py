"""Checks that a MATLAB 5 file is built soundly before scipy reads it, which follows nested cells until the stack overflows."""

from __future__ import annotations

import mmap
import struct
import zlib
from pathlib import Path

_MATRIX, _COMPRESSED = 14, 15
_HEADER_BYTES = 128
_MAXIMUM_MATRICES, _MAXIMUM_ELEMENTS = 1000, 20_000
#: Bytes of the largest file that is read, and of all its compressed parts once unpacked.
MAXIMUM_BYTES = 256 * 2**20


def _unpack(packed: bytes, limit: int) -> bytes:
    stream = zlib.decompressobj()
    content = stream.decompress(packed, limit + 1)
    if len(content) > limit:
        raise ValueError("more data than are read")
    return content


class _Counter:
    """Counts matrices and elements along a file; raises `ValueError` where there are more than any ECG needs."""

    def __init__(self, order: str) -> None:
        self.order, self.matrices, self.elements = order, 0, 0

    def walk(self, data: bytes | mmap.mmap, start: int, end: int) -> None:
        """Go from tag to tag, into matrices and over data, and arrive at the end; raises `ValueError` otherwise."""
        at = start
        while at < end:
            self.elements += 1
            word, length = struct.unpack(f"{self.order}II", data[at : at + 8])
            at += 8
            if word >> 16:  # a small element keeps its data within the tag
                continue
            if word == _MATRIX:
                self.matrices += 1
            else:
                at += length + -length % 8
            if self.matrices > _MAXIMUM_MATRICES or self.elements > _MAXIMUM_ELEMENTS:
                raise ValueError("too many parts")
        if at - end >= 8:
            raise ValueError("a part is longer than what holds it")


def check_elements(path: Path) -> None:
    """Walk over all elements of a file of version 5; raises `ValueError` or `zlib.error` where they do not fit together."""
    budget = MAXIMUM_BYTES
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        order = ">" if data[126:128] == b"MI" else "<"
        counter = _Counter(order)
        at = _HEADER_BYTES
        while at + 8 <= len(data):
            kind, length = struct.unpack(f"{order}II", data[at : at + 8])
            end = at + 8 + length
            if end > len(data):
                raise ValueError("cut short")
            if kind == _COMPRESSED:
                content = _unpack(data[at + 8 : end], budget)
                budget -= len(content)
                counter.walk(content, 0, len(content))
            else:
                counter.walk(data, at, end)
            at = end

"""Writers of ISHNE, AliveCor, BDF, MATLAB, Apple Watch, PDF and CODE-15% files from (leads, samples) integer counts."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.integer]

#: Code of each lead in an ISHNE header.
ISHNE_LEADS = {"I": 5, "II": 6, "III": 7, "aVR": 8, "aVL": 9, "aVF": 10, **{f"V{n}": 10 + n for n in range(1, 7)}, "ES": 17}
#: Last character of the name of an AliveCor block, one a lead in the standard order.
ATC_MARKS = " 23456789abc"


def ccitt(block: bytes) -> int:
    """CRC-CCITT of a block, computed bit by bit."""
    crc = 0xFFFF
    for byte in block:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return crc


def ishne(
    counts: Counts,
    names: Sequence[str] | None,
    resolutions_nv: Sequence[int],
    rate: int = 200,
    comment: bytes = b"",
    crc: int | None = None,
    stated: int | None = None,
    offset: int | None = None,
) -> bytes:
    """ISHNE Holter file at `rate` Hz.

    names: of the leads; None for leads of an unknown kind. resolutions_nv: nanovolts a count, one a lead. crc, stated, offset:
    the checksum, the number of samples and the place of the data that the header claims; the true ones unless given.
    """
    leads, samples = counts.shape
    codes = [0] * leads if names is None else [ISHNE_LEADS[name] for name in names]
    head = struct.pack("<4ih", len(comment), samples if stated is None else stated, 522, 522 + len(comment), 1)
    if offset is not None:
        head = head[:12] + struct.pack("<i", offset) + head[16:]
    head += b"Jane".ljust(40, b"\0") + b"Doe".ljust(40, b"\0") + b"7".ljust(20, b"\0")
    head += struct.pack("<2h", 2, 0) + struct.pack("<12h", *[1, 1, 1950, 2, 3, 2020, 2, 3, 2020, 8, 30, 0])
    head += struct.pack("<h", leads)
    for row, absent in ((codes, -9), ([1] * leads, -9), (resolutions_nv, 0)):
        head += struct.pack("<12h", *row, *[absent] * (12 - leads))
    head += struct.pack("<h", 0) + b"digital".ljust(40, b"\0") + struct.pack("<h", rate) + bytes(80 + 80 + 88)
    head += comment
    own = ccitt(head) if crc is None else crc
    return b"ISHNE1.0" + struct.pack("<H", own) + head + counts.T.astype("<i2").tobytes()


def atc_block(name: bytes, content: bytes) -> bytes:
    """Block of an AliveCor file: name of 4 bytes, length, content, checksum."""
    block = name + struct.pack("<I", len(content)) + content
    return block + struct.pack("<I", sum(block) % 2**32)


def atc(counts: Counts, rate: int = 300, resolution_nv: int = 500, flags: int = 2, extra: bytes = b"") -> bytes:
    """AliveCor file of 1, 6 or 12 leads at `rate` Hz; extra: blocks before those of the leads."""
    content = b"ALIVE\0\0\0" + struct.pack("<I", 3) + atc_block(b"info", bytes(264))
    content += atc_block(b"fmt ", struct.pack("<BHHBH", 1, rate, resolution_nv, flags, 0)) + extra
    for mark, lead in zip(ATC_MARKS, counts, strict=False):
        content += atc_block(f"ecg{mark}".encode(), lead.astype("<i2").tobytes())
    return content + atc_block(b"avg ", bytes(900)) + atc_block(b"ann ", struct.pack("<IIH", rate, 30, 1))


def bdf(counts: Counts, names: Sequence[str], rate: int, unit: str = "uV", span: tuple[int, int] = (-8388608, 8388607)) -> bytes:
    """BDF file of whole seconds at `rate` Hz: 24-bit counts, one count a unit unless the physical span says otherwise."""
    leads, samples = counts.shape
    records = samples // rate
    head = b"\xffBIOSEMI" + b"X X X X".ljust(80) + b"Startdate X X X X".ljust(80) + b"01.01.2410.00.00"
    head += f"{256 * (leads + 1):<8}{'24BIT':<44}{records:<8}{1:<8}{leads:<4}".encode()
    columns: list[tuple[Sequence[Any], int]] = [(names[:leads], 16), ([""] * leads, 80), ([unit] * leads, 8)]
    columns += [([value] * leads, 8) for value in (*span, -8388608, 8388607)]
    columns += [([""] * leads, 80), ([rate] * leads, 8), ([""] * leads, 32)]
    head += b"".join(str(value).ljust(width).encode() for values, width in columns for value in values)
    blocks = counts.reshape(leads, records, rate).transpose(1, 0, 2).reshape(-1)
    return head + blocks.astype("<i4").view(np.uint8).reshape(-1, 4)[:, :3].tobytes()


def matlab4(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """MATLAB file of version 4: doubles, column by column."""
    out = b""
    for name, array in arrays.items():
        table = np.atleast_2d(array)
        out += (
            struct.pack("<5i", 0, *table.shape, 0, len(name) + 1) + name.encode() + b"\0" + table.astype("<f8").tobytes(order="F")
        )
    return out


def nested_cells(depth: int) -> bytes:
    """MATLAB 5 file of cells within cells, so many deep."""
    number = struct.pack("<IIII", 6, 8, 6, 0) + struct.pack("<IIii", 5, 8, 1, 1) + struct.pack("<II", 1, 0)
    number += struct.pack("<IId", 9, 8, 1.0)
    inner = struct.pack("<II", 14, len(number)) + number
    cell = struct.pack("<IIII", 6, 8, 1, 0) + struct.pack("<IIii", 5, 8, 1, 1)
    heads: list[bytes] = []
    size = len(inner)
    for level in range(depth):
        named = cell + (struct.pack("<II4s4x", 1, 4, b"deep") if level == depth - 1 else struct.pack("<II", 1, 0))
        heads.append(struct.pack("<II", 14, len(named) + size) + named)
        size += len(heads[-1])
    return b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x100) + b"IM" + b"".join(reversed(heads)) + inner


def apple_csv(
    values_uv: Iterable[float], rate: str = "512.000", recorded: str = "2021-12-17 22:02:05 +0100", decimal: str = "."
) -> bytes:
    """Apple Watch export of one recording of lead I, from values in microvolts; decimal: the decimal sign."""
    head = f"Name,Jane\nRecorded Date,{recorded}\nSample Rate,{rate} hertz\n\n\nLead,Lead I\nUnit,µV\n\n"
    return (head + "\n".join(f"{value:.3f}".replace(".", decimal) for value in values_uv) + "\n").encode()


#: Beginning of the export.xml that lies beside the recordings in an Apple Health export.
APPLE_XML = b"""<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE HealthData [
<!ELEMENT HealthData (ExportDate,Me,(Record|Workout)*)>
]>
<HealthData locale="en_DE"><ExportDate value="2021-12-18"/></HealthData>
"""


class Canvas:
    """PDF of one page, drawn in mm from its lower left corner; `content` holds the drawing operators."""

    def __init__(self, width_mm: float = 297.0, height_mm: float = 210.0, zoom: float = 1.0) -> None:
        self.size, self.zoom = (width_mm, height_mm), zoom
        self.content: list[str] = []

    def line(self, points_mm: Iterable[Sequence[float]], colour: str = "0 0 0", width: float = 0.2) -> None:
        """Draw a line through points (x, y)."""
        path = " ".join(f"{x:.4f} {y:.4f} {'l' if n else 'm'}" for n, (x, y) in enumerate(points_mm))
        self.content.append(f"{colour} RG {width} w {path} S")

    def pieces(self, points_mm: Iterable[Sequence[float]], colour: str = "0 0 0") -> None:
        """Draw a line through points (x, y), every piece stroked on its own."""
        for (a, b), (c, d) in pairwise(points_mm):
            self.content.append(f"{colour} RG {a:.4f} {b:.4f} m {c:.4f} {d:.4f} l S")

    def grid(self, x: float = 10.0, y: float = 10.0, width: float = 250.0, height: float = 150.0, fine: bool = True) -> None:
        """Draw ECG paper: lines every 5 mm, and every 1 mm where `fine`."""
        for step, colour in ((1, "1 0.8 0.8"), (5, "1 0.5 0.5"))[not fine :]:
            for at in np.arange(0, width + 0.01, step):
                self.line([(x + at, y), (x + at, y + height)], colour, 0.1)
            for at in np.arange(0, height + 0.01, step):
                self.line([(x, y + at), (x + width, y + at)], colour, 0.1)

    def text(self, words: str, x: float, y: float, size: float = 3.0) -> None:
        """Write words at (x, y)."""
        self.content.append(f"BT /F1 {size} Tf 1 0 0 1 {x:.3f} {y:.3f} Tm ({words}) Tj ET")

    def picture(self) -> None:
        """Put an inline image of 2 x 2 pixels on the page."""
        self.content.append("q 200 0 0 100 20 20 cm BI /W 2 /H 2 /CS /G /BPC 8 ID \x01\x02\x03\x04 EI Q")

    def write(self, path: Path, rotate: int = 0) -> Path:
        """Write the page, turned by `rotate` degrees (a multiple of 90)."""
        from pypdf import PdfWriter
        from pypdf.generic import DictionaryObject, NameObject, StreamObject

        scale = self.zoom * 72 / 25.4
        writer = PdfWriter()
        page = writer.add_blank_page(self.size[0] * scale, self.size[1] * scale)
        body = StreamObject()
        body.set_data(f"{scale} 0 0 {scale} 0 0 cm\n{chr(10).join(self.content)}\n".encode("latin-1"))
        font = DictionaryObject({NameObject("/Type"): NameObject("/Font"), NameObject("/Subtype"): NameObject("/Type1")})
        font[NameObject("/BaseFont")] = NameObject("/Helvetica")
        fonts = DictionaryObject({NameObject("/F1"): writer._add_object(font)})
        page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
        page[NameObject("/Contents")] = writer._add_object(body.flate_encode())
        page.rotate(rotate)
        writer.write(path)
        return path


def code15(path: Path, exams: Mapping[int, NDArray[Any]], samples: int = 4096, ids: bool = True, **options: Any) -> Path:
    """Write a file of CODE-15%'s layout; each exam (leads, samples) lies in the middle between zeros.

    ids: whether the numbers of the exams are stored. options: of h5py's `create_dataset`.
    """
    import h5py

    tracings = np.zeros((len(exams), samples, 12), dtype=np.float32)
    for row, exam in zip(tracings, exams.values(), strict=True):
        before = (samples - exam.shape[1]) // 2
        row[before : before + exam.shape[1]] = exam.T
    with h5py.File(path, "w") as file:
        file.create_dataset("tracings", data=tracings, **options)
        if ids:
            file["exam_id"] = np.array(list(exams), dtype=np.int64)
    return path

"""ISHNE Holter recordings (Badilini, Ann Noninvasive Electrocardiol 1998;3:263): a 522-byte header, then int16 by samples."""

from __future__ import annotations

import binascii
import logging
import struct
from pathlib import Path

import numpy as np

from echogen.arrays import Floats
from echogen.ecg.leads import default_lead_names, pick_leads
from echogen.ecg.source import Source
from echogen.errors import InputError

SIGNATURE = b"ISHNE1.0"
_HEADER_BYTES = 522
_MAXIMUM_COMMENT_BYTES = 16 * 2**20
#: Lead specifications 5 to 19 of the standard; 0 unknown, 1 generic bipolar, 2 to 4 X, Y, Z.
_LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6", "ES", "AS", "AI")
_LEAD_OFF = -32768
_logger = logging.getLogger(__name__)


def checksum(block: bytes) -> int:
    """CRC-CCITT of the header after the checksum's own bytes: polynomial 0x1021, beginning with 0xFFFF."""
    return binascii.crc_hqx(block, 0xFFFF)


def _lead_labels(codes: tuple[int, ...]) -> list[str]:
    """Names of the stored leads; X, Y and Z and unknown ones keep a number, so that none of them is taken for another."""
    if not any(5 <= code < 5 + len(_LEADS) for code in codes):
        return list(default_lead_names(len(codes)))
    return [_LEADS[code - 5] if 5 <= code < 5 + len(_LEADS) else f"ECG{n + 1}" for n, code in enumerate(codes)]


def open_ishne(path: Path, mv_of_unit: float | None, rate_hz: float | None) -> Source:
    """Open an ISHNE Holter file of any length; only the part that is asked for is read.

    A sample of -32768 (lead off) is no value. Raises `InputError` for a header that is cut short, contradicts itself or does
    not match its checksum (0 means that the writer made none; either byte order counts).
    """
    where = f"The ISHNE Holter file {path.name}"
    size = path.stat().st_size
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
        if len(header) < _HEADER_BYTES:
            raise InputError(f"{where} is cut short within its header.")
        comment, stated, _, offset = struct.unpack_from("<4i", header, 10)
        if not 0 <= comment <= _MAXIMUM_COMMENT_BYTES or _HEADER_BYTES + comment > size:
            raise InputError(f"{where} cannot be read; its header is cut short or damaged.")
        crc = checksum(header[10:] + file.read(comment))
    (own,) = struct.unpack_from("<H", header, 8)
    if own not in (0, crc, crc >> 8 | (crc & 0xFF) << 8):
        raise InputError(f"{where} is damaged: the checksum of its header does not match.")
    (count,) = struct.unpack_from("<h", header, 156)
    if not 1 <= count <= 12:
        raise InputError(f"{where} states {count} leads, but such a file holds 1 to 12; it is damaged.")
    codes = struct.unpack_from(f"<{count}h", header, 158)
    resolution_nv = np.array(struct.unpack_from(f"<{count}h", header, 206), dtype=np.float64)
    (rate,) = struct.unpack_from("<h", header, 272)
    if mv_of_unit is None and (resolution_nv <= 0).any():
        raise InputError(f"{where} does not state the size of its counts; give it as unit (--ecg-unit), such as '0.005 mV'.")
    # Some writers leave the offset empty; the data then follow the comment.
    begin = offset if _HEADER_BYTES + comment <= offset <= size else _HEADER_BYTES + comment
    present = (size - begin) // (2 * count)
    if stated > present and stated // count != present:
        _logger.warning("%s states %d samples per lead, but %d are there; it may be cut short.", where, stated, present)
    samples = stated if 0 < stated <= present else present
    rows, names = pick_leads(_lead_labels(codes), where)
    scale = np.full(len(rows), mv_of_unit) if mv_of_unit else resolution_nv[rows] * 1e-6

    def read(first: int, last: int) -> Floats:
        wanted = (last - first) * count
        with path.open("rb") as file:
            file.seek(begin + 2 * count * first)
            raw = np.frombuffer(file.read(2 * wanted), dtype="<i2")
        counts = raw[: raw.size // count * count].reshape(-1, count).T[rows]
        return np.where(counts == _LEAD_OFF, np.nan, counts.astype(np.float64) * scale[:, None])

    return Source("ISHNE Holter", names, float(rate_hz or rate), samples, read)

"""A writer of SCP-ECG files (EN 1064) from leads given as {name: (samples,) counts}."""

from __future__ import annotations

import binascii
import struct
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from echogen.testing.ecg_files.hospital import Leads


def differences(values: NDArray[np.integer], order: int) -> NDArray[np.int64]:
    """Values as first (order 1) or second (order 2) differences; order 0 leaves them."""
    plain = np.asarray(values, dtype=np.int64)
    if order == 1:
        return np.diff(plain, prepend=0)
    return np.concatenate([plain[:2], np.diff(plain, 2)]) if order == 2 else plain


#: Code of each lead in section 3.
SCP_CODES = {"I": 1, "II": 2, "III": 61, "aVR": 62, "aVL": 63, "aVF": 64} | {f"V{n}": n + 2 for n in range(1, 7)}

#: (prefix bits, all bits, 1 or 0 to switch, value, code with its first bit lowest)
DEFAULT_CODES = (
    [(1, 1, 1, 0, 0b0)]
    + [(n + 2, n + 2, 1, sign * n, (1 << n) - 1 | (sign < 0) << (n + 1)) for n in range(1, 9) for sign in (1, -1)]
    + [(10, 18, 1, 0, 511), (10, 26, 1, 0, 1023)]
)
#: Two tables that switch to each other; the second one's 7-bit values are counted from 100.
TWO_TABLES = (
    [(1, 1, 1, 0, 0b1), (3, 3, 1, 1, 0b010), (3, 3, 1, -1, 0b110), (3, 19, 1, 0, 0b100), (3, 3, 0, 2, 0b000)],
    [(2, 9, 1, 100, 0b00), (2, 19, 1, 0, 0b10), (2, 2, 1, 7, 0b01), (2, 2, 0, 1, 0b11)],
)


def _first_bits(code: int, count: int) -> str:
    return "".join(str(code >> k & 1) for k in range(count))


def _codes(value: int, table: Sequence[tuple[int, int, int, int, int]]) -> list[str]:
    fitting = []
    for prefix, bits, mode, base, code in table:
        extra, rest = bits - prefix, value - base
        if mode and (rest == 0 if extra == 0 else -(1 << (extra - 1)) <= rest < 1 << (extra - 1)):
            fitting.append(_first_bits(code, prefix) + (f"{rest & ((1 << extra) - 1):0{extra}b}" if extra else ""))
    return fitting


def huffman(values: Sequence[int], tables: Sequence[Sequence[tuple[int, int, int, int, int]]], switch_every: int = 0) -> bytes:
    """Huffman code of values with the shortest codes, padded to 16 bits; every `switch_every` values the next table is used."""
    out, table = [], 0
    shortest: dict[tuple[int, int], str] = {}
    for place, value in enumerate(values):
        if switch_every and len(tables) > 1 and place % switch_every == switch_every - 1:
            goal = (table + 1) % len(tables)
            prefix, _, _, _, code = next(entry for entry in tables[table] if entry[2] == 0 and entry[3] == goal + 1)
            out.append(_first_bits(code, prefix))
            table = goal
        if (table, value) not in shortest:
            shortest[table, value] = min(_codes(int(value), tables[table]), key=len)
        out.append(shortest[table, value])
    text = "".join(out)
    text += "0" * (-len(text) % 16)
    return int(text, 2).to_bytes(len(text) // 8, "big") if text else b""


def _section(number: int, body: bytes, checksum: bool, version: int) -> bytes:
    body += b"\0" * (len(body) % 2)
    reserved = b"SCPECG" if number == 0 else bytes(6)
    head = struct.pack("<HIBB", number, 16 + len(body), version, version) + reserved
    return struct.pack("<H", binascii.crc_hqx(head + body, 0xFFFF) if checksum else 0) + head + body


def scp(
    leads: Leads,
    *,
    interval_us: int = 2000,
    nanovolts: int = 2500,
    order: int = 2,
    tables: Sequence[Sequence[tuple[int, int, int, int, int]]] | None = (DEFAULT_CODES,),
    switch_every: int = 0,
    starts: Mapping[str, int] | None = None,
    lasts: Mapping[str, int] | None = None,
    bimodal: bool = False,
    reference: Leads | None = None,
    reference_interval_us: int = 2000,
    reference_nanovolts: int = 2500,
    beat_ms: int = 0,
    fiducial: int = 0,
    subtracted: Sequence[tuple[int, int, int, int]] = (),
    protected: Sequence[tuple[int, int]] = (),
    checksums: bool = True,
    version: int = 20,
) -> bytes:
    """SCP-ECG record; leads are the stored values of section 6, reference those of section 5.

    subtracted: type, first sample, trigger, last sample of each beat, from 1; without any, no beat is marked as subtracted.
    """
    default = tables is not None and len(tables) == 1 and tables[0] is DEFAULT_CODES

    def coded(values: NDArray[np.integer]) -> bytes:
        plain = differences(values, order)
        return plain.astype("<i2").tobytes() if tables is None else huffman(plain.tolist(), tables, switch_every)

    def data(signals: Leads, nv: int, us: int, flag: int) -> bytes:
        parts = [coded(values) for values in signals.values()]
        return struct.pack("<HHBB", nv, us, order, flag) + struct.pack(f"<{len(parts)}H", *map(len, parts)) + b"".join(parts)

    bodies = {1: b"\x02\x04\x00TEST\xff\x00\x00"}
    if tables is not None:
        bodies[2] = struct.pack("<H", 19999 if default else len(tables))
        for table in () if default else tables:
            bodies[2] += struct.pack("<H", len(table)) + b"".join(struct.pack("<BBBhI", *entry) for entry in table)
    bodies[3] = struct.pack("<BB", len(leads), bool(subtracted) | 4 | (len(leads) & 31) << 3)
    for name, values in leads.items():
        first = (starts or {}).get(name, 1)
        bodies[3] += struct.pack("<IIB", first, (lasts or {}).get(name, first + len(values) - 1), SCP_CODES[name])
    if subtracted or bimodal:
        rows = subtracted or [(1, *zone[:1], *zone[:1], zone[1]) for zone in protected]
        bodies[4] = struct.pack("<HHH", beat_ms, fiducial, len(rows))
        bodies[4] += b"".join(struct.pack("<HIII", *row) for row in rows)
        bodies[4] += b"".join(struct.pack("<II", *zone) for zone in protected)
        signals = reference or dict.fromkeys(leads, np.zeros(max(beat_ms * 1000 // reference_interval_us, 1), dtype=np.int64))
        bodies[5] = data(signals, reference_nanovolts, reference_interval_us, 0)
    bodies[6] = data(leads, nanovolts, interval_us, bimodal)
    sections = {number: _section(number, body, checksums, version) for number, body in bodies.items()}
    at, pointers = 7 + 136, struct.pack("<HII", 0, 136, 7)
    for number in range(1, 12):
        size = len(sections.get(number, b""))
        pointers += struct.pack("<HII", number, size, at if size else 0)
        at += size
    body = struct.pack("<I", at - 1) + _section(0, pointers, checksums, version) + b"".join(sections.values())
    return struct.pack("<H", binascii.crc_hqx(body, 0xFFFF) if checksums else 0) + body

"""SCP-ECG (EN 1064, ISO 11073-91064): raw and Huffman-coded rhythm data, differences, reference beats, bimodal compression.

Section 0 points to the others; 2 holds Huffman tables, 3 the leads, 4 where the beats lie, 5 the reference beat, 6 the
rhythm. The beats that were subtracted before coding are added again, and what was decimated between them is interpolated.
"""

from __future__ import annotations

import binascii
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from echogen.arrays import Floats
from echogen.ecg.scp_huffman import HuffmanTable, decode, read_tables
from echogen.ecg.source import Source
from echogen.ecg.traces import Trace, check_size, source_of_traces, undo_differences
from echogen.errors import InputError

Integers = NDArray[np.int64]

MAXIMUM_BYTES = 50_000_000
_MAXIMUM_LEADS = 32
_MAXIMUM_BEATS = 5000
_MAXIMUM_DECIMATION = 16
_HEADER = 16
#: Lead codes (EN 1064, table 8) of the leads that are an ECG of their own; derived and orthogonal ones are left out.
_LEADS = {0: "ECG", 1: "I", 2: "II", **{n + 2: f"V{n}" for n in range(1, 8)}, 11: "V3R", 12: "V4R", 13: "V5R", 14: "V6R"}
_LEADS |= {19: "CC5", 20: "CM5", 61: "III", 62: "aVR", 63: "aVL", 64: "aVF", 65: "-aVR", 66: "V8", 67: "V9", 87: "V"}
_LEADS |= {91: "MCL", 92: "MCL1", 97: "MCL6", 107: "CM2", 109: "CM4", 123: "CS5", 131: "ES", 132: "AS", 133: "AI"}


@dataclass(frozen=True)
class _Lead:
    """A lead of section 3: its code, and its first and last sample, counted from 1."""

    code: int
    first: int
    last: int

    @property
    def samples(self) -> int:
        return self.last - self.first + 1


@dataclass(frozen=True)
class _Beats:
    """Section 4. beat_ms, fiducial: length of the reference beat, and its trigger sample, counted from 1.

    subtracted: (n, 4) type, first sample, trigger, last sample. protected: (n, 2) first and last sample at the full rate.
    """

    beat_ms: int
    fiducial: int
    subtracted: Integers
    protected: Integers


@dataclass(frozen=True)
class _Data:
    """The coded leads of section 5 or 6: nV per count, sampling interval in us, order of the differences."""

    nanovolts: int
    interval_us: int
    differences: int
    bimodal: bool
    leads: tuple[bytes, ...]


def is_scp(start: bytes, size: int) -> bool:
    """Tell whether a file of this size that begins with these bytes is SCP-ECG; files before version 1.3 bear no name."""
    if start[16:22] == b"SCPECG":
        return True
    if len(start) < 32:
        return False
    # Record length, number of section 0, and its first pointer: to itself, behind the record's six bytes.
    stated, section = struct.unpack_from("<IxxH", start, 2)
    pointed, index = struct.unpack_from("<HxxxxI", start, 22)
    return bool(stated == size and section == pointed == 0 and index == 7)


def _sections(data: bytes, where: str) -> dict[int, bytes]:
    """Sections 2 to 6 with their headers, as far as they are there, their checksums verified.

    The checksum of the whole record and of section 1 are not looked at: removing a patient's name breaks them.
    A checksum of 0 counts as none.
    """
    length = int.from_bytes(data[10:14], "little")
    pointers = data[6 + _HEADER : 6 + min(length, len(data))]
    found = {}
    for section, size, index in struct.iter_unpack("<HII", pointers[: len(pointers) // 10 * 10]):
        if not 2 <= section <= 6 or size <= _HEADER or not index:
            continue
        part = data[index - 1 : index - 1 + size]
        if len(part) < size:
            raise InputError(f"{where} is cut short: section {section} ends {index - 1 + size - len(data)} bytes behind its end.")
        checksum, own, own_size = struct.unpack_from("<HHI", part)
        if own != section or own_size != size:
            raise InputError(f"{where} is damaged: section {section} is not where the file says.")
        if checksum and checksum != binascii.crc_hqx(part[2:], 0xFFFF):
            raise InputError(f"{where} is damaged: the checksum of section {section} does not fit; export the ECG again.")
        found[section] = part
    return found


def _read_leads(body: bytes, where: str) -> tuple[list[_Lead], bool]:
    """The leads of section 3, and whether reference beats were subtracted."""
    count = body[0] if body else 0
    if not count or 2 + 9 * count > len(body):
        raise InputError(f"{where} cannot be read; its list of leads is cut short or damaged.")
    leads = [_Lead(code, first, last) for first, last, code in struct.iter_unpack("<IIB", body[2 : 2 + 9 * count])]
    if count > _MAXIMUM_LEADS or any(lead.first < 1 or lead.last < lead.first for lead in leads):
        raise InputError(f"{where} cannot be read; its list of leads is damaged.")
    check_size(count, max(lead.last for lead in leads) - min(lead.first for lead in leads), where)
    return leads, bool(body[1] & 1)


def _read_beats(body: bytes, where: str) -> _Beats:
    """Section 4."""
    if len(body) < 6:
        raise InputError(f"{where} cannot be read; its list of beats is cut short.")
    beat_ms, fiducial, count = struct.unpack_from("<HHH", body)
    if count > _MAXIMUM_BEATS or 6 + 14 * count > len(body):
        raise InputError(f"{where} cannot be read; its list of beats is cut short or damaged.")
    subtracted = np.frombuffer(body, np.dtype("<u2,<u4,<u4,<u4"), count, 6)
    zones = min(count, (len(body) - 6 - 14 * count) // 8)
    protected = np.frombuffer(body, "<u4", 2 * zones, 6 + 14 * count).reshape(-1, 2)
    rows = np.array(subtracted.tolist(), dtype=np.int64).reshape(-1, 4)
    return _Beats(beat_ms, fiducial, rows, protected.astype(np.int64))


def _read_data(section: bytes, number: int, leads: int, where: str) -> _Data:
    """Section 5 or 6."""
    body = section[_HEADER:]
    damaged = InputError(f"{where} cannot be read; section {number} is cut short or damaged.")
    if len(body) < 6 + 2 * leads:
        raise damaged
    nanovolts, interval, differences, flag = struct.unpack_from("<HHBB", body)
    sizes = struct.unpack_from(f"<{leads}H", body, 6)
    ends = 6 + 2 * leads + np.cumsum(sizes)
    if not (nanovolts and interval) or differences > 2 or ends[-1] > len(body):
        raise damaged
    parts = tuple(body[end - size : end] for size, end in zip(sizes, ends.tolist(), strict=True))
    # From version 3 of the protocol on there is no bimodal compression.
    return _Data(nanovolts, interval, differences, number == 6 and bool(flag) and section[9] < 30, parts)


def _counts(data: _Data, lead: int, samples: int, tables: list[HuffmanTable], where: str) -> Integers:
    """So many samples of a lead as they were coded, in counts."""
    raw = data.leads[lead]
    values = decode(raw, samples, tables, where) if tables else np.frombuffer(raw[: len(raw) // 2 * 2], "<i2").astype(np.int64)
    return undo_differences(values[:samples], data.differences)


def _zones(beats: _Beats, lead: _Lead) -> list[tuple[int, int]]:
    """Begin and end of the protected zones within a lead, in samples of the lead from 0, the end not included."""
    zones, at = [], 0
    for first, last in sorted(map(tuple, beats.protected.tolist())):
        begin, end = max(first - lead.first, at), min(last - lead.first + 1, lead.samples)
        if begin < end:
            zones.append((begin, end))
            at = end
    return zones


def stored_samples(samples: int, zones: list[tuple[int, int]], decimation: int) -> int:
    """Count the values that a bimodal lead stores: every sample of a protected zone, one for each group between them."""
    edges = [0, *(edge for zone in zones for edge in zone), samples]
    gaps = [-(-(end - begin) // decimation) for begin, end in zip(edges[::2], edges[1::2], strict=True)]
    return sum(gaps) + sum(end - begin for begin, end in zones)


def undecimate(stored: Floats, samples: int, zones: list[tuple[int, int]], decimation: int) -> Floats:
    """A bimodal lead at the full rate: between the protected zones, each value is the mean of a group of samples;
    lines join the middles of the groups.
    """
    out = np.empty(samples)
    at = taken = 0
    for begin, end in [*zones, (samples, samples)]:
        groups = -(-(begin - at) // decimation)
        if groups:
            starts = at + decimation * np.arange(groups)
            middles = (starts + np.minimum(starts + decimation, begin) - 1) / 2
            out[at:begin] = np.interp(np.arange(at, begin), middles, stored[taken : taken + groups])
        taken += groups
        out[begin:end] = stored[taken : taken + end - begin]
        taken += end - begin
        at = end
    return out


def _add_reference_beats(signal: Floats, lead: _Lead, beat: Floats, beats: _Beats) -> None:
    """Add the reference beat wherever it was subtracted (type 0), its trigger on the beat's trigger."""
    for kind, first, trigger, last in beats.subtracted.tolist():
        shift = trigger - beats.fiducial
        begin = max(first - 1, lead.first - 1, shift)
        end = min(last, lead.last, shift + len(beat))
        if kind == 0 and begin < end:
            signal[begin - lead.first + 1 : end - lead.first + 1] += beat[begin - shift : end - shift]


def open_scp(path: Path, mv_of_unit: float | None, rate_hz: float | None) -> Source:
    """Open an SCP-ECG file."""
    where = f"The SCP-ECG file {path.name}"
    if path.stat().st_size > MAXIMUM_BYTES:
        raise InputError(f"{where} is over {MAXIMUM_BYTES // 1_000_000} MB, which no SCP-ECG recording is; it is damaged.")
    sections = _sections(path.read_bytes(), where)
    if not {3, 6} <= sections.keys():
        raise InputError(f"{where} holds no rhythm recording, only measurements; export it with its waveforms.")
    tables = [HuffmanTable(codes, where) for codes in read_tables(sections[2][_HEADER:], where)] if 2 in sections else []
    leads, subtracted = _read_leads(sections[3][_HEADER:], where)
    rhythm = _read_data(sections[6], 6, len(leads), where)
    interval_us, decimation = rhythm.interval_us, 1
    beats, reference = None, None
    if subtracted or rhythm.bimodal:
        if 4 not in sections or 5 not in sections:
            raise InputError(f"{where} is compressed against a reference beat that it does not hold; export it again.")
        beats = _read_beats(sections[4][_HEADER:], where)
        reference = _read_data(sections[5], 5, len(leads), where)
        interval_us = reference.interval_us
        decimation, rest = divmod(rhythm.interval_us, interval_us)
        if rest or not 1 <= decimation <= (_MAXIMUM_DECIMATION if rhythm.bimodal else 1):
            raise InputError(f"{where} has a rhythm of {rhythm.interval_us} us and beats of {interval_us} us, which do not fit.")
    traces = []
    for index, lead in enumerate(leads):
        zones = _zones(beats, lead) if beats is not None and decimation > 1 else []
        expected = stored_samples(lead.samples, zones, decimation)
        counts = _counts(rhythm, index, expected, tables, where)
        if len(counts) < expected:
            raise InputError(f"{where} is cut short: lead {index + 1} has {len(counts)} of {expected} samples.")
        signal = counts.astype(np.float64) * rhythm.nanovolts
        if decimation > 1:
            signal = undecimate(signal, lead.samples, zones, decimation)
        if subtracted and beats is not None and reference is not None:
            length = round(beats.beat_ms * 1000 / interval_us)
            beat = _counts(reference, index, length, tables, where).astype(np.float64) * reference.nanovolts
            _add_reference_beats(signal, lead, beat, beats)
        label = _LEADS.get(lead.code, f"SCP lead {lead.code}")
        traces.append(Trace(label, lead.first, signal * (mv_of_unit or 1e-6)))
    return source_of_traces("SCP-ECG", where, traces, float(rate_hz or 1e6 / interval_us))

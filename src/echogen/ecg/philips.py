"""Philips Sierra XML (1.03, 1.04): waveforms as plain numbers, hexadecimal or Base64, XLI-compressed or not.

XLI stores each lead as second differences, high bytes before low bytes, packed by LZW with codes of ten bits; leads III
to aVF are kept as what is left of their prediction from I and II.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from echogen.ecg.leads import STANDARD_LEADS
from echogen.ecg.source import Source
from echogen.ecg.traces import Trace, source_of_traces, undo_differences
from echogen.ecg.xml_file import decode_base64, number, numbers, parse_xml
from echogen.errors import InputError

Counts = NDArray[np.int64]

_LZW_BITS = 10
_LARGEST_CODE = (1 << _LZW_BITS) - 2
#: A resting ECG lasts seconds; four minutes at 500 Hz bound the time that a damaged file can take.
_MAXIMUM_SAMPLES = 120_000
_MAXIMUM_LEADS = 32


def unpack_lzw(packed: bytes, maximum: int, where: str) -> bytes:
    """At most `maximum` bytes from LZW codes of ten bits, highest bit first; the table stays as it is once full."""
    # A code stands for at least one byte.
    bits = np.unpackbits(np.frombuffer(packed[: maximum * _LZW_BITS // 8 + 2], dtype=np.uint8))
    codes = bits[: len(bits) // _LZW_BITS * _LZW_BITS].reshape(-1, _LZW_BITS) @ (1 << np.arange(_LZW_BITS)[::-1])
    table = [bytes([value]) for value in range(256)]
    out = bytearray()
    previous = b""
    for code in codes.tolist():
        if code > _LARGEST_CODE or len(out) >= maximum:
            break
        if code < len(table):
            entry = table[code]
        elif code == len(table) and previous:
            entry = previous + previous[:1]
        else:
            raise InputError(f"{where} cannot be read; its compressed waveform is damaged.")
        out += entry
        if previous and len(table) <= _LARGEST_CODE:
            table.append(previous + entry[:1])
        previous = entry
    return bytes(out[:maximum])


def unpack_xli(packed: bytes, leads: int, where: str) -> list[Counts]:
    """The samples of the first `leads` leads of an XLI stream, limb leads still as residuals."""
    found: list[Counts] = []
    at = 0
    while at + 8 <= len(packed) and len(found) < leads:
        size = int.from_bytes(packed[at : at + 4], "little")
        correction = int.from_bytes(packed[at + 6 : at + 8], "little", signed=True)
        halves = unpack_lzw(packed[at + 8 : at + 8 + size], 2 * _MAXIMUM_SAMPLES, where)
        at += 8 + size
        halves += b"\0" * (len(halves) % 2)
        count = len(halves) // 2
        plane = np.frombuffer(halves, dtype=np.uint8).astype(np.uint16)
        stored = ((plane[:count] << 8) | plane[count:]).astype(np.uint16).view(np.int16).astype(np.int64)
        if count > 2:
            # v[i] - 2 v[i-1] + v[i-2] is minus the number before, less 64; the first is in the chunk's header.
            bends = -np.concatenate([[correction], stored[2:-1] - 64])
            stored = undo_differences(np.concatenate([stored[:2], bends]), 2)
        # The cart computes in 16 bits.
        found.append(stored.astype(np.int16).astype(np.int64))
    return found


def restore_limb_leads(leads: dict[str, Counts]) -> dict[str, Counts]:
    """Leads III, aVR, aVL and aVF from their residuals and I and II; others as they are."""
    if not {"I", "II"} <= leads.keys():
        return leads
    one, two = leads["I"], leads["II"]
    whole = dict(leads)
    if "III" in leads:
        whole["III"] = two - one - leads["III"]
    third = whole.get("III", two - one)
    predicted = {"aVR": -((one + two) // 2), "aVL": (one - third) // 2, "aVF": (two + third) // 2}
    return whole | {name: predicted[name] - leads[name] for name in predicted if name in leads}


def without_calibration(leads: dict[str, Counts], rate_hz: float, counts_per_mv: float) -> dict[str, Counts]:
    """Leads whose closing calibration mark is flat at their last sample before it.

    Carts end a recording with the same pulse of 1 mV, 0.2 s long, in every lead; it would pass for a beat.
    """
    if len(leads) < 3:
        return leads
    table = np.stack(list(leads.values()))
    unequal = np.flatnonzero(np.ptp(table, axis=0))
    first = int(unequal[-1]) + 1 if len(unequal) else 0
    mark = table[0, first:]
    lasts = len(mark) / rate_hz
    if not (0.1 <= lasts <= 1.0 and first > 0 and mark.min() >= -1 and abs(mark.max() - counts_per_mv) <= 1):
        return leads
    table[:, first:] = table[:, first - 1 : first]
    return dict(zip(leads, table, strict=True))


def _raw_bytes(text: str, encoding: str, where: str) -> bytes:
    if encoding == "base64":
        return decode_base64(text, where)
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise InputError(f"{where} cannot be read; the hexadecimal text of its waveform is damaged.") from error


def _plain(text: str, encoding: str, bits: int, signed: bool, where: str) -> Counts:
    """Uncompressed samples."""
    if encoding == "plain":
        values = numbers(text.replace(",", " "), where)
        if not (np.abs(values) < 2**31).all():
            raise InputError(f"{where} cannot be read; the numbers of its waveform are damaged.")
        return values.astype(np.int64)
    raw = _raw_bytes(text, encoding, where)
    return np.frombuffer(raw[: len(raw) // (bits // 8) * (bits // 8)], f"<{'i' if signed else 'u'}{bits // 8}").astype(np.int64)


def _labels(waves: Element, stated: int) -> list[str]:
    """Names of the channels: as stated, else the standard order for the first twelve."""
    names = (waves.get("leadlabels") or "").split()
    if names:
        return names
    return [STANDARD_LEADS[n] if stated >= 12 and n < 12 else f"Channel {n + 1}" for n in range(stated)]


def _first(root: Element, waves: Element, *names: str) -> str | None:
    """The first of these facts that the waveform's attributes, or else the acquisition, states."""
    about = root.find(".//signalcharacteristics")
    for name in names:
        stated = waves.get(name) or (about.findtext(name) if about is not None else None)
        if stated and stated.strip():
            return stated.strip()
    return None


def open_philips(path: Path, mv_of_unit: float | None, rate_hz: float | None) -> Source:
    """Open a Philips Sierra XML file."""
    where = f"The Philips file {path.name}"
    root = parse_xml(path, where)
    waves = root.find(".//parsedwaveforms")
    single = root.find(".//leadwaveforms")
    if waves is None and single is None:
        raise InputError(f"{where} holds no waveform, or keeps it in a file beside it; export it with its waveforms.")
    about = waves if waves is not None else single
    assert about is not None
    rate = number(_first(root, about, "samplespersecond", "samplingrate"), "sampling rate", where)
    resolution = number(_first(root, about, "resolution", "signalresolution"), "resolution", where)
    offset = number(_first(root, about, "signaloffset") or "0", "offset", where)
    bits = int(number(_first(root, about, "bitspersample", "nbitspersample") or "16", "sample size", where))
    signed = (_first(root, about, "signalsigned") or "true").lower() != "false"
    encoding = (about.get("dataencoding") or "Base64").lower()
    method = (about.get("compression") or about.get("compressmethod") or "").upper()
    if (about.get("compressflag") or "true").lower() == "false" or method in ("NONE", "UNCOMPRESSED"):
        method = ""
    if encoding not in ("plain", "hex", "base64") or bits not in (8, 16, 32):
        raise InputError(f"{where} stores its waveform as {encoding[:20]!r} of {bits} bits, which is not supported.")
    if method and (method != "XLI" or waves is None or encoding == "plain"):
        raise InputError(f"{where} stores its waveform packed as {method[:20]!r}, which is not supported.")
    scale = (mv_of_unit or 1e-3) * resolution
    if waves is None:
        assert single is not None
        traces = [
            Trace(
                (lead.get("leadname") or "").strip(),
                min(max(round(number(lead.get("starttime") or "0", "start", where) * rate / 1000), 0), _MAXIMUM_SAMPLES),
                (_plain(lead.text or "", encoding, bits, signed, where).astype(np.float64) - offset) * scale,
            )
            for lead in single.findall("leadwaveform")
        ]
        return source_of_traces("Philips XML", where, traces, float(rate_hz or rate))
    stated = number(_first(root, waves, "numberofleads", "numberchannelsallocated") or "12", "number of leads", where)
    length = number(waves.get("durationperchannel"), "duration", where) * rate / 1000
    if not (1 <= stated <= _MAXIMUM_LEADS and 1 <= length <= _MAXIMUM_SAMPLES):
        raise InputError(f"{where} states {stated:g} leads of {length:g} samples, which no resting ECG has; it is damaged.")
    labels, samples = _labels(waves, int(stated))[: int(stated)], int(length)
    if method:
        parts = unpack_xli(_raw_bytes(waves.text or "", encoding, where), len(labels), where)
    else:
        every = _plain(waves.text or "", encoding, bits, signed, where)
        parts = [every[n * samples : (n + 1) * samples] for n in range(len(labels))]
    if len(parts) < len(labels) or any(len(part) < samples for part in parts):
        raise InputError(f"{where} is cut short: {len(labels)} leads of {samples} samples were expected.")
    leads = {name: part[:samples] for name, part in zip(labels, parts, strict=True)}
    if method:
        leads = restore_limb_leads(leads)
    leads = without_calibration(leads, rate, 1000 / resolution if resolution else 0.0)
    traces = [Trace(name, 0, (counts.astype(np.float64) - offset) * scale) for name, counts in leads.items()]
    return source_of_traces("Philips XML", where, traces, float(rate_hz or rate))

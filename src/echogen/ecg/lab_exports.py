"""Headers of text exports from laboratory programs: AcqKnowledge, LabChart, OpenSignals and Consensys (Shimmer)."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

#: Sensor of an OpenSignals device: supply in V and gain of its ECG (makers' data sheets of BITalino and biosignalsplux).
_BITALINO, _PLUX = (3.3, 1100.0), (3.0, 1000.0)


@dataclass(frozen=True)
class LabHeader:
    """The columns of a laboratory's export, from its header.

    program: its name. first: the line of the first sample. names, units: of each column, "" where nothing is stated; the name
    of a time column is "time", of a counter "index". adc: bits, volts of supply and gain of columns that hold counts.
    """

    program: str
    first: int
    names: tuple[str, ...]
    units: tuple[str, ...]
    adc: tuple[tuple[int, float, float] | None, ...] = ()


def _cells(line: str) -> list[str]:
    return [cell.strip().strip('"').strip() for cell in line.rstrip("\r\n").split("\t" if "\t" in line else ",")]


def _acqknowledge(head: list[str]) -> LabHeader | None:
    """Lines `2 msec/sample`, `2 channels`, name and unit of each, the row of columns (`sec CH1 CH2`), and one of counts."""
    for n, line in enumerate(head[:10]):
        found = re.fullmatch(r"\s*(\d{1,2}) channels?\s*", line)
        if found and n and re.search(r"/\s*sample", head[n - 1]):
            break
    else:
        return None
    count = int(found[1])
    listed = [text.strip() for text in head[n + 1 : n + 1 + 2 * count]]
    at = n + 1 + 2 * count
    columns = _cells(head[at]) if at < len(head) else []
    numbers = [int(cell[2:]) for cell in columns if re.fullmatch(r"CH\d+", cell)]
    if len(numbers) != count or len(listed) != 2 * count:
        return None
    own = iter(zip(listed[::2], listed[1::2], strict=True))
    named = [next(own) if re.fullmatch(r"CH\d+", cell) else ("time", cell) for cell in columns]
    counted = at + 1 < len(head) and _cells(head[at + 1])[0] == ""
    names, units = zip(*named, strict=True)
    return LabHeader("AcqKnowledge", at + 1 + counted, names, units)


def _labchart(head: list[str]) -> LabHeader | None:
    """Lines of `Key=` and one value a channel; the time is the first column unless it was left out."""
    keys = {cells[0].rstrip("="): cells[1:] for line in head[:30] if (cells := _cells(line))[0].endswith("=")}
    if "Interval" not in keys or "ChannelTitle" not in keys:
        return None
    last = max(n for n, line in enumerate(head[:30]) if _cells(line)[0].endswith("="))
    titles = keys["ChannelTitle"]
    units = (keys.get("UnitName", []) + [""] * len(titles))[: len(titles)]
    columns = len(_cells(head[last + 1])) if last + 1 < len(head) else 0
    timed = columns > len(titles)
    names = (("time",) if timed else ()) + tuple(titles) + ("comment",) * (columns - len(titles) - 1)
    return LabHeader("LabChart", last + 1, names, (("s",) if timed else ()) + tuple(units) + ("",) * (columns - len(titles) - 1))


def _opensignals(head: list[str]) -> LabHeader | None:
    """A line of JSON in a comment: columns, sensor of each channel, resolution in bits and sampling rate, by device."""
    if not head or "OpenSignals" not in head[0]:
        return None
    end = next((n for n, line in enumerate(head[:10]) if "EndOfHeader" in line), None)
    try:
        devices = json.loads(head[1].lstrip("# "))
        names, units, adc = [], [], []
        for device in devices.values():
            sensors = dict(zip(device.get("label", device["column"][-len(device["sensor"]) :]), device["sensor"], strict=True))
            bits = dict(zip(device["column"], device["resolution"], strict=False))
            supply, gain = _PLUX if "plux" in str(device.get("device", "")).lower() else _BITALINO
            for column in map(str, device["column"]):
                sensor = str(sensors.get(column, ""))
                is_ecg = sensor.upper().startswith(("ECG", "EKG"))
                names.append("ECG" if is_ecg else "index" if column.lower() in ("nseq", "di") else sensor or "digital line")
                units.append("")
                adc.append((int(bits[column]), supply, gain) if is_ecg and 1 <= int(bits[column]) <= 24 else None)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError):
        return None
    return None if end is None else LabHeader("OpenSignals", end + 1, tuple(names), tuple(units), tuple(adc))


def _shimmer(head: list[str]) -> LabHeader | None:
    """A row of channels and one of units, maybe after `sep=`, a row of device names and one of RAW and CAL."""
    rows = [_cells(line.rstrip("\r\n\t")) for line in head[:6] if not re.match(r"\"?sep=", line)]
    skipped = sum(bool(re.match(r"\"?sep=", line)) for line in head[:6])
    if not rows or "shimmer" not in " ".join(head[:3]).lower():
        return None
    words = [n for n, row in enumerate(rows) if not any(re.fullmatch(r"-?\d+([.,]\d+)?(e[+-]?\d+)?", cell, re.I) for cell in row)]
    header = [rows[n] for n in words if words.index(n) == n and len(rows[n]) == len(rows[0])]
    if len(header) < 2:
        return None
    kinds = next(
        (row for row in header if {cell.upper() for cell in row if cell} <= {"RAW", "CAL", "UNCAL"}), [""] * len(rows[0])
    )
    names_row = next(row for row in header if any("time" in cell.lower() or "ecg" in cell.lower() for cell in row))
    names = []
    for name, kind in zip(names_row, kinds, strict=True):
        raw = kind.upper() in ("RAW", "UNCAL") or re.search(r"_(RAW|UNCAL)$", name, re.IGNORECASE)
        names.append("time" if "timestamp" in name.lower() and not raw else "uncalibrated" if raw else name)
    return LabHeader("Shimmer", skipped + len(header), tuple(names), tuple(header[-1]))


def lab_header(head: list[str]) -> LabHeader | None:
    """The header of a laboratory's export from the first lines of its file, or None where it is none of those known."""
    for known in (_acqknowledge, _labchart, _opensignals, _shimmer):
        try:
            found = known(head)
        except (StopIteration, IndexError, ValueError):
            found = None
        if found is not None:
            return found
    return None

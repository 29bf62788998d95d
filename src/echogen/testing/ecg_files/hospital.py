"""Writers of HL7 aECG, GE MUSE and Philips Sierra files from leads given as {name: (samples,) counts}."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from echogen.ecg.leads import STANDARD_LEADS

Leads = Mapping[str, NDArray[np.integer]]

TWELVE = STANDARD_LEADS
#: Leads that are recorded; the other four follow from I and II.
EIGHT = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")


def beats(names: Sequence[str], samples: int, seed: int = 0, top: int = 900) -> dict[str, NDArray[np.int64]]:
    """Counts that resemble an ECG: a spike every 0.8 of 500 samples, some drift and noise, a height of its own a lead."""
    random = np.random.default_rng(seed)
    at = np.arange(samples)
    spike = np.exp(-0.5 * (((at % 400) - 150) / 4.0) ** 2) + 0.2 * np.exp(-0.5 * (((at % 400) - 300) / 20.0) ** 2)
    drift = np.cumsum(random.standard_normal((len(names), samples)), axis=1)
    heights = random.uniform(-1, 1, len(names))
    counts = top * heights[:, None] * spike + drift + random.integers(-3, 4, drift.shape)
    return dict(zip(names, np.rint(counts).astype(np.int64), strict=True))


# HL7 aECG


def _lead_sequence(name: str, values: NDArray[np.integer], scale: str, origin: str, unit: str, per_line: int) -> str:
    texts = [str(value) for value in values.tolist()]
    lines = "\n".join(" ".join(texts[k : k + per_line]) for k in range(0, len(texts), per_line))
    return (
        f'<component><sequence><code code="MDC_ECG_LEAD_{name.upper()}" codeSystem="2.16.840.1.113883.6.24"/>'
        f'<value xsi:type="SLIST_PQ"><origin value="{origin}" unit="{unit}"/><scale value="{scale}" unit="{unit}"/>'
        f"<digits>{lines}</digits></value></sequence></component>"
    )


def aecg_set(
    leads: Leads,
    *,
    increment: str = "0.002",
    increment_unit: str = "s",
    head: str = "20021122091000.000",
    ticks: bool = False,
    scale: str = "2.5",
    origin: str = "0",
    unit: str = "uV",
    per_line: int = 20,
) -> str:
    """HL7 sequenceSet; `ticks` states the time as a list of digits and not as a generated one."""
    if ticks:
        digits = " ".join(map(str, range(len(next(iter(leads.values()))))))
        time = (
            f'<value xsi:type="SLIST_PQ"><origin value="0" unit="s"/><scale value="{increment}" unit="{increment_unit}"/>'
            f"<digits>{digits}</digits></value>"
        )
    else:
        shown = f'<head value="{head}"/>' if head else '<head value="0" unit="s"/>'
        time = f'<value xsi:type="GLIST_TS">{shown}<increment value="{increment}" unit="{increment_unit}"/></value>'
    kind = "TIME_ABSOLUTE" if head and not ticks else "TIME_RELATIVE"
    body = "".join(_lead_sequence(name, values, scale, origin, unit, per_line) for name, values in leads.items())
    sequence = f'<component><sequence><code code="{kind}" codeSystem="2.16.840.1.113883.5.4"/>{time}</sequence></component>'
    return f"<component><sequenceSet>{sequence}{body}</sequenceSet></component>"


def aecg(*sets: str, derived: str = "", prefix: str = "", encoding: str = "utf-8") -> bytes:
    """HL7 annotated ECG with one rhythm series of these sequenceSets, and a derived beat; elements may bear a prefix."""
    series = f'<series><code code="RHYTHM"/>{"".join(sets)}'
    if derived:
        beat = f'<derivedSeries><code code="REPRESENTATIVE_BEAT"/>{derived}</derivedSeries>'
        series += f"<derivation>{beat}</derivation>"
    text = f'<AnnotatedECG type="Observation"><id root="1"/><component>{series}</series></component></AnnotatedECG>'
    if prefix:
        text = text.replace("</", f"\0{prefix}:").replace("<", f"<{prefix}:").replace("\0", "</")
    spaces = f'xmlns{":" + prefix if prefix else ""}="urn:hl7-org:v3" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
    text = text.replace('type="Observation"', f'{spaces} type="Observation"', 1)
    return f'<?xml version="1.0" encoding="{encoding}"?>\n<!-- made -->\n{text}'.encode(encoding)


# GE MUSE


def muse(
    leads: Leads,
    *,
    median: Leads | None = None,
    base: int = 500,
    exponent: int = 0,
    per_bit: str = "4.88",
    unit: str = "MICROVOLTS",
    checksums: bool = True,
    size: int = 2,
) -> bytes:
    """GE MUSE file; base, exponent: the sampling rate as base * 10^exponent Hz; size: bytes a sample; median: the median beat."""

    def waveform(kind: str, signals: Leads) -> str:
        out = f"<Waveform><WaveformType>{kind}</WaveformType><NumberofLeads>{len(signals)}</NumberofLeads>"
        out += f"<SampleType>CONTINUOUS_SAMPLES</SampleType><SampleBase>{base}</SampleBase>"
        out += f"<SampleExponent>{exponent}</SampleExponent>"
        for name, values in signals.items():
            raw = np.asarray(values).astype(f"<i{size}").tobytes()
            text = base64.b64encode(raw).decode()
            lines = "\n".join(text[k : k + 76] for k in range(0, len(text), 76))
            out += (
                f"<LeadData><LeadByteCountTotal>{len(raw)}</LeadByteCountTotal><LeadTimeOffset>0</LeadTimeOffset>"
                f"<LeadSampleCountTotal>{len(values)}</LeadSampleCountTotal>"
                f"<LeadAmplitudeUnitsPerBit>{per_bit}</LeadAmplitudeUnitsPerBit><LeadAmplitudeUnits>{unit}</LeadAmplitudeUnits>"
                f"<LeadID>{name}</LeadID><LeadOffsetFirstSample>0</LeadOffsetFirstSample>"
                f"<LeadSampleSize>{size}</LeadSampleSize><LeadDataCRC32>{zlib.crc32(raw) if checksums else 0}</LeadDataCRC32>"
                f"<WaveFormData>\n{lines}\n</WaveFormData></LeadData>"
            )
        return out + "</Waveform>"

    body = waveform("Median", median) if median else ""
    body += waveform("Rhythm", leads) if leads else ""
    head = '<?xml version="1.0" encoding="ISO-8859-1"?>\n<!DOCTYPE RestingECG SYSTEM "restecg.dtd">\n'
    return f"{head}<RestingECG><MuseInfo><MuseVersion>9</MuseVersion></MuseInfo>{body}</RestingECG>".encode("latin-1")


# Philips Sierra


def lzw(data: bytes) -> bytes:
    """LZW compression with codes of ten bits, highest bit first, closed by the code 1023; a full table stays as it is."""
    table = {bytes([value]): value for value in range(256)}
    codes, current = [], b""
    for value in data:
        longer = current + bytes([value])
        if longer in table:
            current = longer
            continue
        codes.append(table[current])
        if len(table) <= 1022:
            table[longer] = len(table)
        current = bytes([value])
    if current:
        codes.append(table[current])
    text = "".join(f"{code:010b}" for code in [*codes, 1023])
    text += "0" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big")


def xli(channels: Sequence[NDArray[np.integer]]) -> bytes:
    """XLI stream of channels, computed in 16 bits as the cart does."""
    out = b""
    for values in channels:
        counts = np.asarray(values, dtype=np.int64)
        bends = counts[2:] - 2 * counts[1:-1] + counts[:-2]
        stored = counts.copy()
        stored[2:-1] = 64 - bends[1:]
        stored[-1] = 64
        words = stored.astype(np.int16).view(np.uint16)
        start = int((-bends[:1]).astype(np.int16)[0])
        packed = lzw((words >> 8).astype(np.uint8).tobytes() + (words & 255).astype(np.uint8).tobytes())
        out += struct.pack("<iHh", len(packed), 1, start) + packed
    return out


def limb_residuals(leads: Leads) -> dict[str, NDArray[np.integer]]:
    """Leads with III, aVR, aVL and aVF as the residuals that XLI stores of them."""
    one, two, three = leads["I"], leads["II"], leads["III"]
    residuals = {
        "III": two - one - three,
        "aVR": -((one + two) // 2) - leads["aVR"],
        "aVL": (one - three) // 2 - leads["aVL"],
        "aVF": (two + three) // 2 - leads["aVF"],
    }
    return {name: residuals.get(name, values) for name, values in leads.items()}


def philips(
    leads: Leads,
    *,
    version: str = "1.04",
    encoding: str = "Base64",
    compression: str = "XLI",
    rate: int = 500,
    resolution: str = "5",
    offset: int = 0,
    spare_channels: int = 0,
    single: bool = False,
    charset: str = "utf-8",
) -> bytes:
    """Philips Sierra file of version 1.03 or 1.04; `single` writes one element a lead."""
    samples = len(next(iter(leads.values())))
    shifted = {name: np.asarray(values, dtype=np.int64) + offset for name, values in leads.items()}

    def text(values: NDArray[np.integer]) -> str:
        if encoding == "Plain":
            return " ".join(map(str, values.tolist()))
        raw = values.astype("<i2").tobytes()
        return raw.hex() if encoding == "Hex" else base64.b64encode(raw).decode()

    if compression == "XLI":
        stored = [*limb_residuals(shifted).values(), *[np.zeros(samples, dtype=np.int64)] * spare_channels]
        raw = xli(stored)
        content = raw.hex() if encoding == "Hex" else base64.b64encode(raw).decode()
        content = "\n".join(content[k : k + 76] for k in range(0, len(content), 76))
    else:
        content = text(np.concatenate(list(shifted.values())))
    length = f'durationperchannel="{samples * 1000 / rate:g}"'
    if version == "1.03":
        packed = f'compressflag="{bool(compression)}" compressmethod="{compression or "Uncompressed"}"'
        about = f'{packed} dataencoding="{encoding}" {length} nbitspersample="16"'
        facts = f"<signalresolution>{resolution}</signalresolution>"
    else:
        packed = f'compression="{compression}" ' if compression else ""
        about = (
            f'dataencoding="{encoding}" {packed}numberofleads="{len(leads)}" leadlabels="{" ".join(leads)}" {length} '
            f'samplespersecond="{rate}" resolution="{resolution}" signaloffset="{offset}" signalsigned="True" bitspersample="16"'
        )
        facts = f"<resolution>{resolution}</resolution>"
    if single:
        parts = "".join(
            f'<leadwaveform leadname="{name}" starttime="0" duration="{samples * 1000 // rate}">{text(values)}</leadwaveform>'
            for name, values in shifted.items()
        )
        waves = f"<leadwaveforms {about}>{parts}</leadwaveforms>"
    else:
        waves = f"<parsedwaveforms {about}>{content}</parsedwaveforms>"
    body = (
        f'<restingecgdata xmlns="http://www3.medical.philips.com"><documentinfo><documenttype>SierraECG</documenttype>'
        f"<documentversion>{version}</documentversion></documentinfo><dataacquisition><signalcharacteristics>"
        f"<samplingrate>{rate}</samplingrate>{facts}<acquisitiontype>STD-12</acquisitiontype><bitspersample>16</bitspersample>"
        f"<signaloffset>{offset}</signaloffset><signalsigned>True</signalsigned>"
        f"<numberchannelsallocated>{len(leads)}</numberchannelsallocated></signalcharacteristics></dataacquisition>"
        f"<waveforms>{waves}</waveforms></restingecgdata>"
    )
    return f'<?xml version="1.0" encoding="{charset}"?>{body}'.encode(charset)

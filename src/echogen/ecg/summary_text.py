"""Words, JSON and picture of what the reader made of an ECG file, for `echogen ecg` and the page."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from PIL import Image

from echogen.ecg.chart import draw_chart
from echogen.ecg.formats import open_ecg
from echogen.ecg.summary import EcgSummary

#: Length in s of the ECG in the picture.
SHOWN_S = 10.0
#: Words for the source of a value.
_SOURCES = {"file": "stated in the file", "given": "as given", "format": "fixed by the format", "assumed": "assumed"}


def document(found: EcgSummary) -> dict[str, Any]:
    """Content of `echogen ecg --json` for a summary: times in s on the clock of the file, None where a wave is absent."""
    info, beats = found.info, found.landmarks
    return {
        "format": info.format,
        "record": info.record,
        "rate_hz": info.rate_hz,
        "rate_source": info.rate_source,
        "unit_source": info.unit_source,
        "duration_s": info.duration_s,
        "looked_at_s": [found.ecg.start_s, found.ecg.end_s],
        "lead_names": list(info.lead_names),
        "gaps": [{"leads": list(gap.leads), "start_s": gap.start_s, "end_s": gap.end_s} for gap in found.gaps],
        "notes": [*info.notes, *([found.refusal] if found.refusal else [])],
        "leads": [
            {
                "name": lead.name,
                "swing_mv": lead.swing_mv,
                "qrs_mv": lead.qrs_mv,
                "heart_rate_bpm": lead.heart_rate_bpm,
                "quality": lead.quality,
                "quality_reasons": list(lead.reasons),
            }
            for lead in found.leads
        ],
        "lead": beats and beats.lead,
        "heart_rate_bpm": beats and beats.heart_rate_bpm,
        "waves": [
            {"wave": wave.name, "verdict": wave.verdict, "share_of_beats": wave.share, "confidence": wave.confidence}
            for wave in found.waves
        ],
        "beats": []
        if beats is None
        else [
            {"r_s": r, "qrs_onset_s": onset, "qrs_width_s": width, "p_onset_s": p, "t_peak_s": t, "t_end_s": end}
            for r, onset, width, p, t, end in zip(
                beats.r_s, beats.qrs_onset_s, beats.qrs_width_s, beats.p_onset_s, beats.t_peak_s, beats.t_end_s, strict=True
            )
        ],
    }


def first_line(found: EcgSummary) -> str:
    """Format, rate, length and unit in one line, each with its source."""
    info = found.info
    rate = _SOURCES.get(info.rate_source, f"from its {info.rate_source}")
    unit = "mV assumed" if info.unit_source == "assumed" and not info.notes else f"unit {_SOURCES[info.unit_source]}"
    return f"{info.format}, {info.rate_hz:g} Hz ({rate}), {info.duration_s:.2f} s, {unit}"


def gap_lines(found: EcgSummary) -> list[str]:
    """Gaps, and the part that was looked at where it is not the whole file."""
    lines = []
    for gap in found.gaps:
        who = "all leads" if len(gap.leads) == len(found.info.lead_names) else ", ".join(gap.leads)
        lines.append(f"Gap: {gap.start_s:.2f} to {gap.end_s:.2f} s in {who}")
    if found.gaps or found.ecg.duration_s < found.info.duration_s - 0.01:
        lines.append(f"Looked at: {found.ecg.start_s:.2f} to {found.ecg.end_s:.2f} s")
    return lines


def beat_line(found: EcgSummary) -> str:
    """Number of beats, heart rate, and the verdict on R, P and T with its confidence; the refusal where no beats were found."""
    if found.landmarks is None:
        return found.refusal
    said = [f"{wave.name} {wave.verdict} (confidence {wave.confidence:.2f})" for wave in found.waves]
    rate = found.landmarks.heart_rate_bpm
    return f"{len(found.landmarks)} beats in lead {found.landmarks.lead}, {rate:.1f} bpm: {', '.join(said)}"


def all_lines(found: EcgSummary) -> list[str]:
    """Every line of the summary but the table of leads."""
    return [first_line(found), *(f"Note: {note}" for note in found.info.notes), *gap_lines(found), beat_line(found)]


def chart(
    found: EcgSummary,
    file: str | os.PathLike[str],
    *,
    start_s: float = 0.0,
    rate_hz: float | None = None,
    unit: str | None = None,
    words: bool = True,
) -> Image.Image:
    """Picture of the first 10 s of the part that begins at start_s, every lead, with the waves that were found.

    rate_hz, unit: as the summary was made with. words: the lines of the summary stand below the leads.
    """
    source = open_ecg(file, rate_hz, unit)
    begin = start_s if found.ecg.start_s < start_s + SHOWN_S else found.ecg.start_s
    first = round(begin * source.rate_hz)
    signal = source.read(first, min(first + round(SHOWN_S * source.rate_hz), source.samples))
    return draw_chart(
        signal,
        source.rate_hz,
        source.lead_names,
        first / source.rate_hz,
        gaps=found.gaps,
        landmarks=found.landmarks,
        lines=[f"{Path(file).name}: {first_line(found)}", beat_line(found), *found.info.notes] if words else [],
    )

"""`echogen ecg`: result of reading an ECG file, as a table and a picture, to check it before a video is made."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from echogen.commands.common import EcgRate, EcgUnit, check_input, check_output, check_seconds, json_text
from echogen.errors import InputError
from echogen.files import whole_file

if TYPE_CHECKING:
    from echogen.ecg.summary import EcgSummary

#: Length in s of the ECG in the picture.
SHOWN_S = 10.0
#: Words of the table for the source of a value.
_SOURCES = {"file": "stated in the file", "given": "as given", "format": "fixed by the format", "assumed": "assumed"}


def ecg(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An ECG file of any kind that echogen reads.")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="PICTURE.png", help="Draw the first 10 s of the part, every lead.")
    ] = None,
    ecg_start: Annotated[float, typer.Option("--ecg-start", metavar="S", help="Where the part begins that is looked at.")] = 0.0,
    seconds: Annotated[float, typer.Option("--seconds", help="Length of the part that is looked at.")] = 60.0,
    ecg_rate: EcgRate = None,
    ecg_unit: EcgUnit = None,
) -> None:
    """Show how an ECG file is read: leads, sampling rate, unit, gaps, waves and quality, and where each of them comes from."""
    check_input(file)
    check_seconds(seconds)
    if output is not None:
        check_output(output, (".png",), (file,))
    if not (math.isfinite(ecg_start) and ecg_start >= 0):
        raise InputError(f"--ecg-start must be 0 or more, not {ecg_start:g}.")
    from echogen.ecg.summary import summarise

    found = summarise(file, rate_hz=ecg_rate, unit=ecg_unit, start_s=ecg_start, seconds=seconds)
    if output is not None:
        _draw(found, file, output, ecg_start, ecg_rate, ecg_unit)
    if json:
        typer.echo(json_text(document(found)))
    else:
        _print(found)


def document(found: EcgSummary) -> dict[str, Any]:
    """Content of `--json` for a summary: times in s on the clock of the file, None where a wave is absent."""
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


def _draw(found: EcgSummary, file: Path, output: Path, start_s: float, rate_hz: float | None, unit: str | None) -> None:
    """Write the picture whole or not at all."""
    from echogen.ecg.chart import draw_chart
    from echogen.ecg.formats import open_ecg

    source = open_ecg(file, rate_hz, unit)
    begin = start_s if found.ecg.start_s < start_s + SHOWN_S else found.ecg.start_s
    first = round(begin * source.rate_hz)
    signal = source.read(first, min(first + round(SHOWN_S * source.rate_hz), source.samples))
    picture = draw_chart(
        signal,
        source.rate_hz,
        source.lead_names,
        first / source.rate_hz,
        gaps=found.gaps,
        landmarks=found.landmarks,
        lines=[f"{file.name}: {_facts(found)}", *_waves(found), *found.info.notes],
    )
    with whole_file(output) as unfinished:
        picture.save(unfinished, format="PNG")


def _facts(found: EcgSummary) -> str:
    info = found.info
    rate = _SOURCES.get(info.rate_source, f"from its {info.rate_source}")
    unit = "mV assumed" if info.unit_source == "assumed" and not info.notes else f"unit {_SOURCES[info.unit_source]}"
    return f"{info.format}, {info.rate_hz:g} Hz ({rate}), {info.duration_s:.2f} s, {unit}"


def _waves(found: EcgSummary) -> list[str]:
    if found.landmarks is None:
        return [found.refusal]
    said = [f"{wave.name} {wave.verdict} (confidence {wave.confidence:.2f})" for wave in found.waves]
    rate = found.landmarks.heart_rate_bpm
    return [f"{len(found.landmarks)} beats in lead {found.landmarks.lead}, {rate:.1f} bpm: {', '.join(said)}"]


def _print(found: EcgSummary) -> None:
    from rich.console import Console
    from rich.table import Table

    def amount(value: float, digits: int) -> str:
        return f"{value:.{digits}f}" if math.isfinite(value) else "-"

    console = Console()
    console.print(_facts(found), highlight=False)
    for note in found.info.notes:
        console.print(f"Note: {note}", highlight=False)
    for gap in found.gaps:
        who = "all leads" if len(gap.leads) == len(found.info.lead_names) else ", ".join(gap.leads)
        console.print(f"Gap: {gap.start_s:.2f} to {gap.end_s:.2f} s in {who}", highlight=False)
    if found.gaps or found.ecg.duration_s < found.info.duration_s - 0.01:
        console.print(f"Looked at: {found.ecg.start_s:.2f} to {found.ecg.end_s:.2f} s", highlight=False)
    for line in _waves(found):
        console.print(line, highlight=False)
    table = Table("lead", "swing (mV)", "QRS (mV)", "heart rate (bpm)", "quality", box=None)
    for lead in found.leads:
        row = (lead.name, amount(lead.swing_mv, 3), amount(lead.qrs_mv, 3), amount(lead.heart_rate_bpm, 1))
        table.add_row(*row, " ".join([lead.quality, *(f"({reason})" for reason in lead.reasons)]))
    console.print(table)

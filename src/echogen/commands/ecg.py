"""`echogen ecg`: result of reading an ECG file, as a table and a picture, to check it before a video is made."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from echogen.commands.common import EcgRate, EcgUnit, check_input, check_output, check_seconds, json_text, write_json
from echogen.errors import InputError
from echogen.files import whole_file

if TYPE_CHECKING:
    from echogen.ecg.summary import EcgSummary


def ecg(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An ECG file of any kind that echogen reads.")],
    json_file: Annotated[
        Path | None, typer.Argument(metavar="OUT.json", help="With --json: write the JSON to this file.", show_default=False)
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables, or write it to OUT.json if named.")] = False,
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
    if json_file is not None:
        if not json:
            raise InputError(f"Only one file is looked at, {file}; to write JSON to {json_file}, put --json before it.")
        check_output(json_file, (".json",), (file,))
    if output is not None:
        check_output(output, (".png",), (file,))
    if not (math.isfinite(ecg_start) and ecg_start >= 0):
        raise InputError(f"--ecg-start must be 0 or more, not {ecg_start:g}.")
    from echogen.ecg import summary_text
    from echogen.ecg.summary import summarise

    found = summarise(file, rate_hz=ecg_rate, unit=ecg_unit, start_s=ecg_start, seconds=seconds)
    if output is not None:
        picture = summary_text.chart(found, file, start_s=ecg_start, rate_hz=ecg_rate, unit=ecg_unit)
        with whole_file(output) as unfinished:
            picture.save(unfinished, format="PNG")
    if json_file is not None:
        write_json(json_file, summary_text.document(found))
    if json and json_file is None:
        typer.echo(json_text(summary_text.document(found)))
    else:
        _print(found)


def _print(found: EcgSummary) -> None:
    from rich.console import Console
    from rich.table import Table

    from echogen.ecg import summary_text

    def amount(value: float, digits: int) -> str:
        return f"{value:.{digits}f}" if math.isfinite(value) else "-"

    console = Console()
    for line in summary_text.all_lines(found):
        console.print(line, highlight=False)
    table = Table("lead", "swing (mV)", "QRS (mV)", "heart rate (bpm)", "quality", box=None)
    for lead in found.leads:
        row = (lead.name, amount(lead.swing_mv, 3), amount(lead.qrs_mv, 3), amount(lead.heart_rate_bpm, 1))
        table.add_row(*row, " ".join([lead.quality, *(f"({reason})" for reason in lead.reasons)]))
    console.print(table)

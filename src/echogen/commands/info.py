"""`echogen info`: content of an ECG or echo file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from echogen.app.file_facts import describe
from echogen.commands.common import EcgRate, EcgUnit, EchoRate, check_fps, check_input, json_text


def info(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An ECG or echo file of any kind that echogen reads.")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    ecg_rate: EcgRate = None,
    ecg_unit: EcgUnit = None,
    fps: EchoRate = None,
) -> None:
    """Say what an ECG or echo file holds, and what in it may tell whose heart it is."""
    check_input(file)
    check_fps(fps)
    facts = describe(file, ecg_rate, ecg_unit, fps)
    if json:
        typer.echo(json_text(facts))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False, box=None)
    for key, value in facts.items():
        if value is not None and value != []:
            table.add_row(key, _readable(value))
    Console().print(table)


def _readable(value: Any) -> str:
    if isinstance(value, dict):
        said = ((key.replace("_", " "), inner) for key, inner in value.items() if inner not in (None, [], 0))
        return "\n".join(f"{key}: {_readable(inner)}" for key, inner in said)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "\n".join(_readable(inner).replace("\n", ", ") for inner in value)
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else ""
    return str(value)

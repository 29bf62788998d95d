"""`echogen measure`: ejection fraction, beats and times of an echo video, with the measuring error beside them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from echogen.commands.common import EcgRate, EcgUnit, EchoRate, check_fps, check_input, json_text

if TYPE_CHECKING:
    from echogen.measurement.video import VideoReading


def measure(
    video: Annotated[Path, typer.Argument(metavar="VIDEO", help="An apical four- or two-chamber echo video.")],
    ecg: Annotated[
        Path | None,
        typer.Option("--ecg", metavar="ECG", help="The ECG that the video should follow; `drawn`: the one in its pictures."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    regressor: Annotated[
        Path | None,
        typer.Option("--regressor", metavar="DIR", help="Another EF regressor, as `import-weights ef-regressor` makes it."),
    ] = None,
    ecg_rate: EcgRate = None,
    ecg_unit: EcgUnit = None,
    fps: EchoRate = None,
) -> None:
    """Measure ejection fraction, beats and times of an echo video; with an ECG, how well the two agree in time.

    The ejection fraction is measured twice: from the outlined ventricle, and by a network that looks at the whole video of 1 s
    or more and outlines nothing. Where the two differ by much more than their errors, trust neither.
    """
    check_input(video)
    drawn = ecg == Path("drawn") and not ecg.exists()
    check_input(None if drawn else ecg)
    check_fps(fps)
    from echogen.measurement.video import DRAWN
    from echogen.measurement.video import measure as measure_video

    reading = measure_video(video, DRAWN if drawn else ecg, fps=fps, ecg_rate_hz=ecg_rate, ecg_unit=ecg_unit, regressor=regressor)
    for note in reading.notes:
        typer.echo(f"Note: {note}", err=True)
    if json:
        typer.echo(json_text(reading.to_json()))
    else:
        _print(reading)


def _print(reading: VideoReading) -> None:
    from rich.console import Console
    from rich.table import Table

    error = reading.measuring_error

    def number(value: float | None, digits: int = 0) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    def measured(value: float | None, unit: str, key: str, digits: int = 0) -> str:
        known = "unknown" if error[key] is None else f"{error[key]:.3g} {'points' if unit == '%' else unit}"
        return f"{number(value, digits)} {unit} (error on truth clips: {known})"

    facts = Table(show_header=False, box=None)
    facts.add_row("Ejection fraction", measured(reading.ef_percent, "%", "ef_mae_percent", 1))
    facts.add_row("Ejection fraction, by regression", measured(reading.ef_regressor_percent, "%", "ef_regressor_mae_percent", 1))
    facts.add_row("Heart rate", number(reading.heart_rate_bpm, 1) + " bpm")
    facts.add_row("Beats", str(len(reading.beats)))
    if reading.es_error_ms is not None:
        share = reading.matched_fraction
        facts.add_row("Beats that match the ECG", "-" if share is None else f"{share:.0%}")
        errors = reading.es_error_ms
        facts.add_row("End-systole, median |error|", measured(errors["median"], "ms", "es_median_ms"))
        facts.add_row("End-systole, mean and sd", f"{number(errors['mean'])} and {number(errors['sd'])} ms")
    beats = Table("R (s)", "ED (s)", "ES (s)", "EDV (ml)", "ESV (ml)", "EF (%)", box=None)
    for beat, ef in zip(reading.beats, reading.beat_ef_percent, strict=True):
        row = (number(beat.r_s, 3), number(beat.ed_s, 3), number(beat.es_s, 3))
        beats.add_row(*row, number(beat.edv_ml), number(beat.esv_ml), number(ef))
    console = Console()
    console.print(facts)
    console.print(beats)
    console.print(
        f"On {error['n']} phantom clips with known truth this errs by {error['ef_mae_percent']:.1f} points of ejection fraction "
        f"(mean) and {error['es_median_ms']:.0f} ms at end-systole (median)."
    )

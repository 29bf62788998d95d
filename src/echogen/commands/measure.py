"""`echogen measure`: ejection fraction, beats and times of an echo video, with the measuring error beside them."""

from __future__ import annotations

import json as json_format
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from echogen.commands.common import EcgRate, EcgUnit, EchoRate, check_fps, check_input, json_text, read_part

if TYPE_CHECKING:
    from echogen.measure import Reading
    from echogen.records import Cine, Ecg


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
    from echogen.cine import read_cine, to_sector
    from echogen.cine.sector import CANONICAL_SIZE
    from echogen.measure import load_segmenter, truth_error
    from echogen.measure import measure as read
    from echogen.measure.apical import apical_doubt
    from echogen.measure.reading import canonical_cine
    from echogen.measure.regression import load_regressor, regressed_ef_percent, regressor_error
    from echogen.networks.config import load_network
    from echogen.networks.ef_regressor import EfRegressor

    second_opinion = load_network(EfRegressor, regressor) if regressor else load_regressor()
    cine = read_cine(video, fps=fps)
    for note in cine.notes:
        typer.echo(f"Note: {note}", err=True)
    if cine.frames.shape[1:] == (CANONICAL_SIZE, CANONICAL_SIZE):
        to_sector(cine.frames)  # refuses what is no echo; other sizes are cropped anyway
    recorded = None
    if ecg is not None:
        recorded = _drawn_ecg(video, fps) if drawn else _on_clock_of(cine, video, ecg, ecg_rate, ecg_unit)
    cine = canonical_cine(cine)
    segmenter = load_segmenter()
    reading = read(cine, segmenter, recorded)
    if doubt := apical_doubt(cine.frames, segmenter):
        typer.echo(f"Note: {doubt}", err=True)
    second = regressed_ef_percent(cine, second_opinion)
    error = truth_error() | {"ef_regressor_mae_percent": None if regressor else regressor_error()["ef_mae_percent"]}
    if json:
        typer.echo(json_text(reading.to_json() | {"ef_regressor_percent": second, "measuring_error": error, "notes": cine.notes}))
    else:
        _print(reading, second, error)


def _drawn_ecg(video: Path, fps: float | None) -> Ecg:
    """The ECG that is drawn into the video's pictures."""
    from echogen.datasets.drawn_ecg import read_drawn_ecg
    from echogen.errors import InputError

    found = read_drawn_ecg(video, fps=fps)
    if found.ecg is None or not found.accepted:
        raise InputError(f"No ECG can be read from the pictures of {video.name} ({found.reasons[0].rstrip('.')}); give its file.")
    return found.ecg


def _on_clock_of(cine: Cine, video: Path, path: Path, rate_hz: float | None, unit: str | None) -> Ecg:
    """The ECG on the clock of the video.

    MP4, GIF and AVI begin at 0 s; the JSON that `generate` leaves beside a video tells where in the ECG that was. The ECG that
    it writes beside a DICOM image begins with the video.
    """
    from echogen.cine.writing import ecg_path

    shift = 0.0
    beside = video.with_suffix(".json")
    if cine.times_s[0] == 0 and beside.is_file() and path.resolve() != ecg_path(video).resolve():
        try:
            shift = float(json_format.loads(beside.read_text(encoding="utf-8"))["video_start_s"])
        except (ValueError, KeyError, TypeError):
            shift = 0.0
    from echogen.ecg import ecg_info

    start = float(cine.times_s[0]) + shift
    # A video may outlast its ECG by part of a frame.
    left = max(ecg_info(path, rate_hz=rate_hz, unit=unit).duration_s - start, 0.0)
    ecg = read_part(path, start, min(cine.duration_s, left), rate_hz, unit)
    return replace(ecg, start_s=ecg.start_s - shift)


def _print(reading: Reading, second_ef_percent: float | None, error: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    def number(value: float | None, digits: int = 0) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    def measured(value: float | None, unit: str, key: str, digits: int = 0) -> str:
        known = "unknown" if error[key] is None else f"{error[key]:.3g} {'points' if unit == '%' else unit}"
        return f"{number(value, digits)} {unit} (error on truth clips: {known})"

    facts = Table(show_header=False, box=None)
    facts.add_row("Ejection fraction", measured(reading.ef_percent, "%", "ef_mae_percent", 1))
    facts.add_row("Ejection fraction, by regression", measured(second_ef_percent, "%", "ef_regressor_mae_percent", 1))
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

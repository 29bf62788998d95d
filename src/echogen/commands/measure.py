"""`echogen measure`: ejection fraction, beats and times of an echo video, with the measuring error beside them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from echogen.commands.common import (
    EcgRate,
    EcgUnit,
    EchoRate,
    check_folder,
    check_fps,
    check_input,
    check_output,
    json_text,
)
from echogen.commands.measure_batch import measure_folder
from echogen.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from echogen.measurement.video import VideoReading

#: Names of the shipped networks that outline.
SHIPPED = ("segmenter", "reader")


def measure(
    videos: Annotated[
        list[Path],
        typer.Argument(
            metavar="VIDEO...", help="An apical four- or two-chamber echo video; both with --biplane; a folder with --csv."
        ),
    ],
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
    biplane: Annotated[
        bool, typer.Option("--biplane", help="Also measure both views, A4C and A2C, of one patient as one.")
    ] = False,
    network: Annotated[str, typer.Option("--network", metavar="NAME", help="The network that outlines: segmenter or reader.")] = (
        "segmenter"
    ),
    generated: Annotated[
        bool, typer.Option("--generated", help="The pictures are generated or simulated, though their file does not say so.")
    ] = False,
    masks: Annotated[
        Path | None,
        typer.Option(
            "--masks", metavar="FILE", help="Measure from these outlines: NIfTI, NPZ, folder of PNG, VolumeTracings.csv."
        ),
    ] = None,
    overlay: Annotated[
        Path | None, typer.Option("--overlay", metavar="MP4", help="Write a video of the outlines with the volume curve.")
    ] = None,
    masks_out: Annotated[
        Path | None,
        typer.Option("--masks-out", metavar="FILE", help="Write the outlines: .nii.gz, .npz, or .dcm (DICOM Segmentation)."),
    ] = None,
    frames_out: Annotated[
        Path | None, typer.Option("--frames-out", metavar="DIR", help="Write the frames at ED and ES as PNG.")
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option("--csv", metavar="FILE", help="Measure every video below a folder into a table; a stopped run goes on."),
    ] = None,
) -> None:
    """Measure ejection fraction, beats and times of an echo video; with an ECG, how well the two agree in time.

    The ejection fraction is measured twice: from the outlined ventricle, and by a network that looks at the whole video of 1 s
    or more and outlines nothing. Where the two differ by much more than their errors, trust neither.
    """
    for video in videos:
        check_input(video)
    check_fps(fps)
    if network not in SHIPPED:
        raise InputError(f"The network is one of {', '.join(SHIPPED)}, not {network!r}.")
    if csv is not None:
        _refuse_beside(csv=True, others=(ecg, regressor, masks, overlay, masks_out, frames_out, biplane or None))
        if len(videos) != 1 or not videos[0].is_dir():
            raise InputError("--csv measures the videos of one folder; name a folder.")
        measure_folder(videos[0], csv, fps, network, generated or None)
        return
    if biplane:
        _refuse_beside(csv=False, others=(ecg, masks, overlay, masks_out, frames_out))
        _print_biplane(videos, fps, network, json, generated or None)
        return
    if len(videos) != 1:
        raise InputError("One video is measured at a time; give --biplane for the two views of a patient, or a folder and --csv.")
    video = videos[0]
    if video.is_dir():
        raise InputError(f"{video} is a folder; give --csv FILE to measure all that it holds.")
    drawn = ecg == Path("drawn") and not ecg.exists()
    check_input(None if drawn else ecg)
    check_input(masks)
    if overlay is not None:
        check_output(overlay, (".mp4",), (video, ecg, masks))
    if masks_out is not None:
        check_output(masks_out, (".nii", ".gz", ".npz", ".dcm"), (video, ecg, masks))
    if frames_out is not None:
        check_folder(frames_out.parent)
    from echogen.measurement.video import DRAWN
    from echogen.measurement.video import measure as measure_video

    reading = measure_video(
        video,
        DRAWN if drawn else ecg,
        fps=fps,
        ecg_rate_hz=ecg_rate,
        ecg_unit=ecg_unit,
        regressor=regressor,
        masks=masks,
        network=network,
        generated=generated or None,
    )
    _write_beside(reading, video, overlay, masks_out, frames_out)
    for note in reading.notes:
        typer.echo(f"Note: {note}", err=True)
    if json:
        typer.echo(json_text(reading.to_json()))
    else:
        _print(reading)


def _refuse_beside(*, csv: bool, others: tuple[object, ...]) -> None:
    """Raise `InputError` where an option is given that --csv or --biplane does not take."""
    if any(other is not None for other in others):
        name = "--csv" if csv else "--biplane"
        raise InputError(f"{name} takes no ECG, outlines or output of a single video; leave these options out.")


def _write_beside(
    reading: VideoReading, video: Path, overlay: Path | None, masks_out: Path | None, frames_out: Path | None
) -> None:
    """Write what was asked for beside the numbers."""
    outlines = reading.outlines
    if outlines is None:
        return
    if masks_out is not None:
        from echogen.measurement.mask_writing import write_masks

        write_masks(outlines, masks_out, video)
    if overlay is not None:
        from echogen.measurement.overlay import write_overlay

        write_overlay(outlines, reading, overlay)
    if frames_out is not None:
        from echogen.measurement.mask_writing import write_phases

        write_phases(outlines, reading, frames_out)


def _print_biplane(videos: list[Path], fps: float | None, network: str, json: bool, generated: bool | None) -> None:
    """Measure two views of a patient and print what they say together."""
    if len(videos) != 2:
        raise InputError("--biplane takes two videos, the A4C and the A2C of one patient.")
    from echogen.measurement.video import measure as measure_video

    reading = measure_video(videos[0], second=videos[1], fps=fps, network=network, generated=generated)
    both, other = reading.biplane, reading.second
    assert both is not None
    assert other is not None
    readings = (replace(reading, second=None, biplane=None), other)
    notes = [f"{video.name}: {note}" for video, reading in zip(videos, readings, strict=True) for note in reading.notes]
    for note in notes:
        typer.echo(f"Note: {note}", err=True)
    if json:
        typer.echo(json_text({"biplane": both.to_json(), "views": [reading.to_json() for reading in readings]}))
        return
    for name, value in both.to_json().items():
        typer.echo(f"{name}: {'-' if value is None else f'{value:.1f}'}")


def _print(reading: VideoReading) -> None:
    from rich.console import Console
    from rich.table import Table

    error = reading.measuring_error

    def number(value: float | None, digits: int = 0) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    def measured(value: float | None, unit: str, key: str, digits: int = 0) -> str:
        if not error:
            return f"{number(value, digits)} {unit}"
        judged_on = "patients" if error["pictures"] == "real" else "truth clips"
        known = "unknown" if error[key] is None else f"{error[key]:.3g} {'points' if unit == '%' else unit}"
        return f"{number(value, digits)} {unit} (error on {judged_on}: {known})"

    facts = Table(show_header=False, box=None)
    facts.add_row("Ejection fraction", measured(reading.ef_percent, "%", "ef_mae_percent", 1))
    facts.add_row("Ejection fraction, by regression", measured(reading.ef_regressor_percent, "%", "ef_regressor_mae_percent", 1))
    if reading.seen is not None:
        facts.add_row("View, as it seems", reading.seen.view)
        facts.add_row("Quality of the pictures", "; ".join((str(reading.seen.quality), *reading.seen.reasons)))
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
    if reading.numbers:
        console.print(_number_table(reading))
    if error:
        console.print(_sentence(error))


def _number_table(reading: VideoReading) -> Table:
    """The numbers of a reading with their error: on patients where the pictures are real, else on phantom clips."""
    from rich.table import Table

    real = reading.measuring_error.get("pictures") == "real"
    beside = "patients: median error, 95 % within (n)" if real else "90 % within, on phantom clips"
    table = Table("number", "value", *(("spread",) if real else ()), beside, "unit", box=None)
    for name, each in reading.numbers.items():
        cells = [name.rsplit("_", 1)[0].replace("_", " "), f"{each.value:.1f}"]
        if real:
            known = each.error
            cells.append("-" if each.spread is None else f"{each.spread:.1f}")
            cells.append(f"{known['median']:.1f}, ± {known['within_95']:.0f} ({known['n']})" if known else "unknown")
        else:
            cells.append("-" if each.within is None else f"± {each.within:.1f}")
        table.add_row(*cells, each.unit)
    return table


def _sentence(error: dict[str, Any]) -> str:
    """The error of measuring in words."""
    if error["pictures"] == "generated":
        return (
            f"On {error['n']} phantom clips with known truth this errs by {error['ef_mae_percent']:.1f} points of ejection "
            f"fraction (mean) and {error['es_median_ms']:.0f} ms at end-systole (median)."
        )
    if not error["n"]:
        return "Nobody measured how much this network errs on recordings of patients."
    bias = error["ef_bias_percent"]
    return (
        f"On {error['n']} {error['of']} this errs by {error['ef_median_percent']:.0f} points of ejection fraction (median), and "
        f"by {error['ef_within_95_percent']:.0f} or less in 95 % of them; on average it reads {abs(bias):.0f} points too "
        f"{'low' if bias < 0 else 'high'}. Its times of ED and ES were never judged on patients."
    )

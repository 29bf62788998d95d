"""`echogen generate`: an echo video from an ECG, with a JSON file of its settings and measurements."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from echogen.commands.common import (
    EcgRate,
    EcgUnit,
    FromPhase,
    Sex,
    Size,
    Texture,
    View,
    check_fps,
    check_input,
    check_output,
    check_seconds,
    progress_bar,
    write_json,
)
from echogen.commands.generate_table import generate_table
from echogen.commands.video_case import Case, load_generator, make_video
from echogen.errors import InputError

#: Suffixes of the formats in which a video is written.
SUFFIXES = (".mp4", ".gif", ".avi", ".dcm", ".nii", ".npz", ".png")


def generate(
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="The video; .mp4, .gif, .avi, .dcm, .nii, .npz or .png. With --table the folder that gets the shards.",
        ),
    ],
    ecg: Annotated[Path | None, typer.Argument(metavar="ECG", help="An ECG file; the one inside pydicom unless stated.")] = None,
    image: Annotated[
        Path | None, typer.Option("--image", metavar="FILE", help="An echo still or video whose heart to show.")
    ] = None,
    texture: Annotated[
        Texture, typer.Option("--texture", help="With --image: its own pixels, moved, or drawn anew by the model.")
    ] = "auto",
    from_phase: Annotated[
        FromPhase, typer.Option("--from-phase", help="What --image shows: end-diastole, which auto guesses, or end-systole.")
    ] = "auto",
    size: Annotated[Size, typer.Option("--size", help="With --image: 128 x 128, or the image's own, up to 800 x 600.")] = "128",
    ef: Annotated[float | None, typer.Option("--ef", help="Ejection fraction in %.")] = None,
    view: Annotated[View | None, typer.Option("--view", help="Apical four- or two-chamber view.")] = None,
    sex: Annotated[Sex | None, typer.Option("--sex", help="Of the patient.")] = None,
    text: Annotated[
        str | None, typer.Option("--text", help="A sentence about the echo, for a model that was trained on sentences.")
    ] = None,
    ecg_start: Annotated[
        float | None, typer.Option("--ecg-start", metavar="S", help="Where in the ECG the video starts.")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option("--seconds", help="Length of the video; 4, or all that a model makes, unless stated.")
    ] = None,
    fps: Annotated[float | None, typer.Option("--fps", help="Frames per second; the model's own unless stated.")] = None,
    ecg_rate: EcgRate = None,
    ecg_unit: EcgUnit = None,
    allow_flat: Annotated[bool, typer.Option("--allow-flat", help="Take a flat line for an ECG that says nothing.")] = False,
    model: Annotated[str, typer.Option("--model", metavar="NAME|DIR", help="A shipped model, or a folder.")] = "phantom-128",
    adapter: Annotated[
        str | None, typer.Option("--adapter", metavar="NAME|DIR", help="What `echogen adapt` made for this model.")
    ] = None,
    guidance: Annotated[
        float | None, typer.Option("--guidance", help="How strongly the conditions pull; 1 is not at all.")
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Decoding steps.")] = None,
    refine: Annotated[
        list[str] | None,
        typer.Option("--refine", metavar="2x-time|2x-space|DIR", help="Twice the frames per second, or the size; may be both."),
    ] = None,
    private: Annotated[
        bool, typer.Option("--private", help="Draw anew what resembles a clip that the model learned from.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed makes the same video.")] = 0,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
    table: Annotated[
        Path | None,
        typer.Option(
            "--table",
            metavar="CASES.csv",
            help="A video for each row; its columns are named like the options (ecg, ef, view ...).",
        ),
    ] = None,
) -> None:
    """Make an echo video that beats with an ECG. The video is synthetic and not for diagnosis.

    With --table, one video for each row of a table, into shards with their masks and measurements; the options hold for every
    row that does not say otherwise.
    """
    case = Case(ecg, image, ef, view, sex, text, ecg_start, seconds, fps, ecg_rate, ecg_unit, allow_flat, guidance, steps, seed)
    case = replace(case, texture=texture, from_phase=from_phase, size=size)
    if seconds is not None:
        check_seconds(seconds)
    check_fps(fps)
    if ef is not None and not 0 < ef < 100:
        raise InputError(f"--ef must lie between 0 and 100 %, not {ef:g}.")
    if guidance is not None and not (math.isfinite(guidance) and guidance >= 0):
        raise InputError(f"--guidance must be 0 or more, not {guidance:g}.")
    check_input(ecg)
    check_input(image)
    if table is not None:
        if refine:
            raise InputError("Videos of a table have the size of their masks; leave --refine out, or make them one by one.")
        generate_table(table, output, case, model=model, adapter=adapter, private=private, device=device)
        return
    check_output(output, SUFFIXES, (ecg, image))
    began = time.monotonic()

    from echogen.cine import write

    generator = load_generator(model, device, adapter, private=private, refine=refine or ())
    with progress_bar("generating") as progress:
        video = make_video(generator, case, progress)
    write(video.cine, output, ecg=video.ecg, r_s=video.r_s, label="synthetic")
    video.document["settings"]["device"] = device
    write_json(output.with_suffix(".json"), video.document | {"wall_time_s": round(time.monotonic() - began, 3)})
    typer.echo(f"Wrote {output} ({len(video.cine.frames)} frames) and {output.with_suffix('.json').name}.")

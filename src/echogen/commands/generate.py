"""`echogen generate`: an echo video from an ECG, and a JSON file that says how it was made."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from echogen.commands.common import (
    EcgRate,
    EcgUnit,
    Sex,
    View,
    check_fps,
    check_input,
    check_output,
    check_seconds,
    progress_bar,
    read_part,
    write_json,
)
from echogen.errors import InputError

if TYPE_CHECKING:
    from echogen.ecg import Landmarks
    from echogen.generators.base import Generator
    from echogen.generators.wrappers.private import Private
    from echogen.generators.wrappers.refined import Refiner
    from echogen.records import Cine, Ecg

SUFFIXES = (".mp4", ".gif", ".avi", ".dcm", ".nii", ".npz", ".png")
DEFAULT_SECONDS = 4.0


#: Seconds in which the first R peak is looked for, when the video starts at it.
FIRST_BEAT_WITHIN_S = 10.0


@dataclass(frozen=True)
class _Heartbeat:
    """The part of an ECG that a video needs: from start_s on; ecg and landmarks are None for a flat line.

    All three are None for a generator that takes no ECG.
    """

    start_s: float
    recorded: Ecg | None
    ecg: Ecg | None
    landmarks: Landmarks | None

    def r_s(self, seconds: float) -> list[float]:
        """The R peaks inside the video, in s on the clock of the ECG."""
        if self.landmarks is None:
            return []
        return [float(r) for r in self.landmarks.r_s if self.start_s <= r < self.start_s + seconds]


@dataclass(frozen=True)
class Case:
    """What one video shall show, as the options of `generate` say it; None where nothing is asked."""

    ecg: Path | None = None
    image: Path | None = None
    ef: float | None = None
    view: View | None = None
    sex: Sex | None = None
    text: str | None = None
    ecg_start: float | None = None
    seconds: float | None = None
    fps: float | None = None
    ecg_rate: float | None = None
    ecg_unit: str | None = None
    allow_flat: bool = False
    guidance: float | None = None
    steps: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class Video:
    """A video that was made, the recorded ECG around it, its R peaks in s, and what its JSON file says."""

    cine: Cine
    ecg: Ecg | None
    r_s: list[float]
    document: dict[str, Any]


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
        from echogen.commands.generate_table import generate_table

        generate_table(table, output, case, model=model, adapter=adapter, private=private, device=device)
        return
    check_output(output, SUFFIXES, (ecg, image))
    began = time.monotonic()

    from echogen.cine import write
    from echogen.generators.base import Generator
    from echogen.generators.wrappers.private import Private
    from echogen.metrics.memorisation.bank import copy_filter

    heart = Generator.from_pretrained(model, device, adapter)
    guarded = Private(heart, copy_filter(heart)) if private else None
    refiners = _refiners(refine or [], device)
    with progress_bar("generating") as progress:
        video = make_video(heart, case, guarded, progress, refiners)
    write(video.cine, output, ecg=video.ecg, r_s=video.r_s, label="synthetic")
    video.document["settings"]["device"] = device
    write_json(output.with_suffix(".json"), video.document | {"wall_time_s": round(time.monotonic() - began, 3)})
    typer.echo(f"Wrote {output} ({len(video.cine.frames)} frames) and {output.with_suffix('.json').name}.")


def make_video(
    heart: Generator,
    case: Case,
    guarded: Private | None = None,
    progress: Callable[[float, float], None] | None = None,
    refiners: Sequence[Refiner] = (),
) -> Video:
    """Make one video and measure it. guarded: draws instead of the generator, where copies are not wanted.

    refiners: make it finer one after the other, after it was measured.

    Raises `InputError` for what cannot be read, and for what the generator does not take.
    """
    from echogen.cine import resample_frames
    from echogen.measurement import truth_error

    seconds = min(DEFAULT_SECONDS, heart.longest_s) if case.seconds is None else case.seconds
    path = case.ecg or (_recording_in_pydicom() if "ecg" in heart.takes else None)
    if path is None:
        heartbeat = _Heartbeat(case.ecg_start or 0.0, None, None, None)
    else:
        at_first_beat = case.image is not None
        heartbeat = _read_heartbeat(
            path, heart, case.ecg_start, seconds, at_first_beat, case.allow_flat, case.ecg_rate, case.ecg_unit
        )
    asked: dict[str, Any] = {
        "seconds": seconds,
        "start_s": heartbeat.start_s,
        "ef_percent": case.ef,
        "view": case.view,
        "sex": case.sex,
        "text": case.text,
        "reference": None if case.image is None else _picture(case.image),
        "guidance": case.guidance,
        "steps": case.steps,
        "seed": case.seed,
        "progress": progress,
    }
    cine, privacy = guarded.draw(heartbeat.ecg, **asked) if guarded else (heart(heartbeat.ecg, **asked), None)
    measured = _measure(cine, heartbeat)
    fps = heart.native_fps
    for refiner in refiners:
        cine, fps = refiner(cine, seed=case.seed, progress=progress), refiner.fps(fps)
    shown = cine if case.fps is None or math.isclose(case.fps, fps) else resample_frames(cine, case.fps)
    r_s = heartbeat.r_s(seconds)
    settings = {
        "ef_percent": case.ef,
        "view": case.view,
        "sex": case.sex,
        "text": case.text,
        "image": case.image and case.image.name,
        "seconds": seconds,
        "allow_flat": case.allow_flat,
        "ecg_rate_hz": case.ecg_rate,
        "ecg_unit": case.ecg_unit,
        "guidance": case.guidance,
        "steps": case.steps,
    }
    document = {
        "model": heart.name,
        "weights_hash": heart.weights_hash,
        "adapter": heart.adapter and heart.adapter.name,
        "adapter_hash": heart.adapter and heart.adapter.digest,
        "seed": case.seed,
        "privacy": privacy and privacy.to_json(),
        "ecg": path and path.name,
        "settings": settings,
        "video_start_s": heartbeat.start_s,
        "frames": len(shown.frames),
        "fps": shown.fps if len(shown.frames) > 1 else None,
        "native_fps": heart.native_fps,
        "refined": [{"refine": each.config.refine, "weights_hash": each.weights_hash} for each in refiners],
        "resampled": shown is not cine,
        "r_s": r_s,
        **measured,
        "measuring_error": truth_error(),
    }
    return Video(shown, heartbeat.recorded, r_s, document)


def _refiners(asked: Sequence[str], device: str) -> list[Refiner]:
    """Refiners by what they do, or from folders; that of the frame rate first, which learned from frames not enlarged."""
    from echogen.generators.wrappers.refined import REFINEMENTS, REFINER_FILE, Refiner

    named = [each if (Path(each) / REFINER_FILE).is_file() else f"refine-{each}" for each in asked]
    found = [Refiner.from_pretrained(name, device) for name in named]
    kinds = [refiner.config.refine for refiner in found]
    if len(set(kinds)) < len(kinds):
        raise InputError("The same --refine can be given only once.")
    return sorted(found, key=lambda refiner: REFINEMENTS.index(refiner.config.refine))


def _recording_in_pydicom() -> Path:
    """The real 12-lead recording of 10 s that lies inside the pydicom package."""
    from pydicom.data import get_testdata_file

    return Path(str(get_testdata_file("waveform_ecg.dcm")))


def _read_heartbeat(
    path: Path,
    heart: Generator,
    start_s: float | None,
    seconds: float,
    at_first_beat: bool,
    allow_flat: bool,
    rate_hz: float | None,
    unit: str | None,
) -> _Heartbeat:
    """Read the part of the ECG that is asked for, and all around it that the first and the last window look at.

    at_first_beat: from the first R peak on, unless start_s says otherwise.
    """
    from echogen.ecg import ecg_info, find_landmarks, signal_quality

    if start_s is None and at_first_beat:
        beginning = min(FIRST_BEAT_WITHIN_S, ecg_info(path, rate_hz=rate_hz, unit=unit).duration_s)
        first = read_part(path, 0.0, beginning, rate_hz, unit)
        flat = signal_quality(first).verdict == "flat"
        start_s = 0.0 if flat else float(find_landmarks(first).r_s[0])
    start_s = start_s or 0.0
    after_s = heart.window_s + heart.ecg_future_s
    recorded = read_part(path, start_s, seconds, rate_hz, unit, before_s=heart.ecg_past_s, after_s=after_s)
    quality = signal_quality(recorded)
    if quality.verdict == "flat":
        if not allow_flat:
            reason = " ".join(quality.reasons)
            raise InputError(f"{reason} Choose another part with --ecg-start, or say --allow-flat for a video without ECG.")
        return _Heartbeat(start_s, recorded, None, None)
    landmarks = find_landmarks(recorded)
    if quality.verdict == "poor":
        typer.echo(f"Note: the ECG is poor. {' '.join(quality.reasons)}", err=True)
    return _Heartbeat(start_s, recorded, recorded, landmarks)


def _picture(path: Path) -> Cine:
    """The first frame of an echo still or video, cropped to its sector, as a cine of one frame; notes what is no apical view."""
    import numpy as np

    from echogen.cine import read_image, to_sector
    from echogen.measurement import load_segmenter
    from echogen.measurement.apical import apical_doubt
    from echogen.records import Cine

    frame, _ = to_sector(read_image(path), 128)
    if doubt := apical_doubt(frame[None], load_segmenter()):
        typer.echo(f"Note: {path.name}: {doubt}", err=True)
    return Cine(frame[None], np.zeros(1))


def _measure(cine: Cine, heartbeat: _Heartbeat) -> dict[str, Any]:
    """EF, heart rate and beats as the video shows them, and its agreement with the ECG; None where it shows none."""
    from echogen.measurement import load_segmenter, measure

    try:
        return measure(cine, load_segmenter(), heartbeat.ecg, heartbeat.landmarks).to_json()
    except InputError:
        return {"ef_percent": None, "heart_rate_bpm": None, "beats": []}

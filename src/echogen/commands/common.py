"""Shared parts of the commands: options, checks before any work, progress bars, and JSON output."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from echogen.errors import InputError
from echogen.files import json_text, write_json

if TYPE_CHECKING:
    from echogen.records import Ecg

__all__ = [
    "EcgRate", "EcgUnit", "EchoRate", "Sex", "View", "check_folder", "check_fps", "check_input", "check_output", "check_seconds",
    "json_text", "progress_bar", "read_part", "write_json",
]  # fmt: skip

#: Views that a generator makes: apical four- and two-chamber view.
View = Literal["A4C", "A2C"]
#: Pixels of a video with an image.
Texture = Literal["auto", "own", "drawn"]
#: Moment of the beat that an image shows.
FromPhase = Literal["auto", "ed", "es"]
#: Size of the frames of a video.
Size = Literal["128", "native"]
#: Sex of the patient.
Sex = Literal["m", "f"]
EcgRate = Annotated[
    float | None, typer.Option("--ecg-rate", metavar="HZ", help="Samples per second, where the file does not say.")
]
EcgUnit = Annotated[str | None, typer.Option("--ecg-unit", metavar="UNIT", help="mV, uV or V, where the file does not say.")]
EchoRate = Annotated[
    float | None, typer.Option("--fps", metavar="HZ", help="Frames per second of the echo, instead of what its file says.")
]

#: Highest frame rate of a video in Hz, beyond any echo machine's usual one.
FASTEST_FPS = 240.0


def check_seconds(seconds: float) -> None:
    """Raise `InputError` for a length in s that is not a positive number."""
    if not (math.isfinite(seconds) and seconds > 0):
        raise InputError(f"--seconds must be a positive number, not {seconds:g}.")


def check_fps(fps: float | None) -> None:
    """Raise `InputError` for a frame rate outside 1..240 Hz; None is allowed."""
    if fps is not None and not 1 <= fps <= FASTEST_FPS:
        raise InputError(f"--fps must lie between 1 and {FASTEST_FPS:g} frames per second, not {fps:g}.")


def check_output(output: Path, suffixes: tuple[str, ...], inputs: tuple[Path | None, ...] = ()) -> None:
    """Raise `InputError` for an output file that cannot be written, has another suffix, or would replace an input."""
    if output.suffix.lower() not in suffixes:
        raise InputError(f"The output {output} must end in one of {', '.join(suffixes)}.")
    check_folder(output.parent)
    if output.is_dir():
        raise InputError(f"The output {output} is a folder; name a file.")
    if output.with_suffix(".json").is_dir():
        raise InputError(
            f"{output.with_suffix('.json')}, the name of the JSON file beside the video, is a folder; name another file."
        )
    written = {output.resolve(), output.with_suffix(".json").resolve()}
    if output.suffix.lower() == ".dcm":
        from echogen.cine.writing import ecg_path

        written.add(ecg_path(output).resolve())
    for given in inputs:
        if given is not None and given.resolve() in written:
            raise InputError(f"The output would overwrite the input {given}; name another file.")


def check_folder(folder: Path) -> None:
    """Raise `InputError` for a folder that does not exist or cannot be written to."""
    if not folder.is_dir():
        raise InputError(f"The output folder {folder} does not exist; make it first or name another.")
    if not os.access(folder, os.W_OK):
        raise InputError(f"The output folder {folder} cannot be written to; name another.")


def check_input(path: Path | None) -> None:
    """Raise `InputError` for a missing input; of `FILE#RECORD` only the file is looked for."""
    if path is not None and "#" in path.name:
        from echogen.ecg.source import split_record

        path, _ = split_record(path)
    if path is not None and not (path.exists() or path.with_suffix(".hea").exists() or Path(f"{path}.hea").exists()):
        raise InputError(f"There is no file {path}; check its name.")


def read_part(
    path: Path,
    start_s: float,
    seconds: float,
    rate_hz: float | None,
    unit: str | None,
    *,
    before_s: float = 8.0,
    after_s: float = 1.0,
) -> Ecg:
    """Read a part of an ECG, with the signal around it as far as the file holds it.

    path: ECG file.
    start_s: Beginning of the part on the clock of the file, in s.
    seconds: Length of the part in s.
    rate_hz: Sampling rate in Hz of a file that does not state it.
    unit: Unit of a file that does not state it.
    before_s: Length of the signal before the part, in s.
    after_s: Length of the signal after the part, in s.

    The result keeps the clock of the file, and nothing else of the file is read. A gap before or after the part cuts the signal
    around it short.
    Raises `InputError` naming the longest possible length if the file ends before start_s + seconds.
    """
    from echogen.ecg import ecg_info, read_around_gaps

    available = ecg_info(path, rate_hz=rate_hz, unit=unit).duration_s
    # Rounded times may miss half a millisecond, which no frame notices.
    if start_s < 0 or start_s >= available:
        raise InputError(f"The ECG lasts {available:.2f} s, so the video cannot start at {start_s:.2f} s.")
    if start_s + seconds > available + 5e-4:
        longest = math.floor((available - start_s) * 100) / 100
        raise InputError(
            f"The ECG lasts {available:.2f} s, so a video that starts at {start_s:.2f} s can be at most {longest:.2f} s long, "
            f"not {seconds:g} s."
        )
    first = max(0.0, start_s - before_s)
    last = min(available, start_s + seconds + after_s)
    wanted = (start_s, min(start_s + seconds, available))
    return read_around_gaps(path, rate_hz=rate_hz, unit=unit, start_s=first, seconds=last - first, keep_s=wanted)[0]


@contextmanager
def progress_bar(label: str) -> Iterator[Callable[[float, float], None]]:
    """Progress bar on stderr, advanced by calls with (done, total); it draws nothing where stderr is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(label, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)

"""What reading an echo costs beside the bare library call: python benchmarks/speed_reading.py -> docs/performance.md."""

from __future__ import annotations

import argparse
import io
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pydicom
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit, RLELossless

from common import DOCS
from echogen.benchmark.markdown import table, write_section
from echogen.cine import read_cine, write
from echogen.phantom.simulate import simulate
from echogen.records import Cine

FRAMES, SIDE, FPS, REPEATS, IDLE_LOAD = 200, 112, 50.0, 7, 0.3


def files(folder: Path) -> dict[str, Path]:
    """One clip as AVI and as DICOM: plain, RLE and JPEG in colour, as most machines store it."""
    drawn = simulate(seconds=FRAMES / FPS, fps=FPS).cine.frames
    frames = np.stack([np.asarray(Image.fromarray(frame).resize((SIDE, SIDE))) for frame in drawn[:FRAMES]])
    cine = Cine(frames, np.arange(len(frames)) / FPS, mm_per_pixel=1.0)
    paths = {name: folder / f"{place}{name[-4:]}" for place, name in enumerate(("Motion JPEG .avi", "plain .dcm"))}
    for path in paths.values():
        write(cine, path)
    plain = paths["plain .dcm"]
    packed = pydicom.dcmread(plain)
    packed.compress(RLELossless, generate_instance_uid=False)
    packed.save_as(folder / "rle.dcm")
    colour = pydicom.dcmread(plain)
    colour.SamplesPerPixel, colour.PlanarConfiguration, colour.PhotometricInterpretation = 3, 0, "YBR_FULL_422"
    colour.PixelData = encapsulate([_jpeg(frame) for frame in frames])
    colour["PixelData"].is_undefined_length = True
    colour.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    colour.save_as(folder / "jpeg.dcm")
    return paths | {"RLE .dcm": folder / "rle.dcm", "colour JPEG .dcm": folder / "jpeg.dcm"}


def _jpeg(frame: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(frame).convert("RGB").save(stream, "JPEG", quality=90)
    return stream.getvalue()


def bare(path: Path) -> Any:
    """All frames as arrays, as the library gives them."""
    if path.suffix == ".dcm":
        return pydicom.dcmread(path).pixel_array
    with av.open(str(path)) as container:
        return [frame.to_ndarray() for frame in container.decode(video=0)]


def best(call: Callable[[], Any]) -> tuple[float, float]:
    """Wall and CPU milliseconds of the fastest of several runs."""
    runs = []
    for _ in range(REPEATS + 1):
        wall, cpu = time.perf_counter(), time.process_time()
        call()
        runs.append((1000 * (time.perf_counter() - wall), 1000 * (time.process_time() - cpu)))
    return min(runs[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--busy", action="store_true", help="measure even if the machine is not idle, and say so")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    if load > IDLE_LOAD and not options.busy:
        sys.exit(f"The load average is {load:.2f}; a speed counts only below {IDLE_LOAD}. Wait, or measure anyway with --busy.")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, path in files(Path(folder)).items():
            theirs, ours = best(lambda path=path: bare(path)), best(lambda path=path: read_cine(path))
            figures = [f"{theirs[0]:.1f}", f"{ours[0]:.1f}", f"{theirs[1]:.1f}", f"{ours[1]:.1f}"]
            rows.append([name, *figures, f"{ours[1] / theirs[1]:.2f}"])
    note = (
        f"`read_cine` beside the bare call (PyAV's `to_ndarray` of every frame; pydicom's `pixel_array`): {FRAMES} frames of "
        f"{SIDE} x {SIDE}, from opening the file to grey frames with their times, best of {REPEATS}. Load average before: "
        f"{load:.2f}{'' if load <= IDLE_LOAD else ' (NOT idle: look at the CPU times)'}. "
        "Command: `python benchmarks/speed_reading.py`.\n\n"
    )
    head = ["file", "library, ms", "read_cine, ms", "library, CPU ms", "read_cine, CPU ms", "CPU ratio"]
    text = note + table(head, rows)
    print(text)
    write_section(DOCS / "performance.md", "Reading echo files", text)


if __name__ == "__main__":
    main()

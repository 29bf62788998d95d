"""Cost of reading files: python benchmarks/speed_reading.py -> docs/performance.md, echo files beside the bare library call.

python benchmarks/speed_reading.py --against CHECKOUT     ECG and echo files beside another checkout, read in turns
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import subprocess
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
from pydicom.data import get_testdata_file
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


#: Program of each process that reads files: a line names a kind and a path, and it answers with the CPU ms of one reading.
READER = """
import sys, time, warnings
warnings.simplefilter("ignore")
from echogen.cine import read_cine
from echogen.ecg import read_ecg
print("ready", flush=True)
for line in sys.stdin:
    kind, times, path = line.rstrip("\\n").split("\\t")
    # Text states no rate that earlier readers would find.
    given = {"rate_hz": 360.0} if path.endswith(".csv") else {}
    read = read_cine if kind == "echo" else read_ecg
    begun = time.process_time()
    for _ in range(int(times)):
        read(path, **given)
    print(1000 * (time.process_time() - begun) / int(times), flush=True)
"""


class Readers:
    """A process that reads files with the package of one checkout."""

    def __init__(self, folder: Path) -> None:
        environment = os.environ | {"PYTHONPATH": str(folder / "src"), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", READER]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        self._answer()

    def _answer(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            sys.exit("A process ended before it answered; its message stands above.")
        return line

    def cpu_ms(self, kind: str, path: Path, times: int) -> float:
        """CPU ms of one reading, averaged over so many."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{kind}\t{times}\t{path}\n")
        self.process.stdin.flush()
        return float(self._answer())


def ecg_files(folder: Path) -> dict[str, Path]:
    """Ten seconds of two leads, or of twelve in DICOM, in four formats."""
    import edfio

    ecg = simulate(seconds=10.0, fps=FPS).ecg
    lead = np.interp(np.arange(3600) / 360, np.arange(ecg.signal_mv.shape[1]) / ecg.rate_hz, ecg.signal_mv[0].astype(float))
    rows = [f"{n / 360:.3f},{value:.3f},{0.5 * value:.3f}" for n, value in enumerate(lead)]
    (folder / "plain.csv").write_text("\n".join(["time,MLII,V5", *rows]))
    rdsamp = ["'Elapsed time','MLII','V5'", "'hh:mm:ss.mmm','mV','mV'", *(f"0:{row.zfill(len(rows[-1]))}" for row in rows)]
    (folder / "rdsamp.csv").write_text("\n".join(rdsamp) + "\n")
    leads = [edfio.EdfSignal(lead, 360, label=f"ECG {name}", physical_dimension="mV") for name in ("I", "II")]
    edfio.Edf(leads).write(folder / "two.edf")
    dicom = Path(str(get_testdata_file("waveform_ecg.dcm")))
    return {"CSV": folder / "plain.csv", "rdsamp CSV": folder / "rdsamp.csv", "EDF": folder / "two.edf", "DICOM ECG": dicom}


def against(checkout: Path, turns: int) -> str:
    """Table of the CPU time of reading each file beside that of another checkout, in turns."""
    describe = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
    name_before = subprocess.run(describe, capture_output=True, text=True, check=True).stdout.strip()
    before, now = Readers(checkout), Readers(Path(__file__).parents[1])
    rows = []
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        few = simulate(seconds=0.4, fps=FPS).cine.frames
        write(Cine(few, np.arange(len(few)) / FPS, mm_per_pixel=1.0), folder / "small.dcm")
        echoes = {"DICOM echo of 20 frames": folder / "small.dcm"} | files(folder)
        for kind, group in (("ecg", ecg_files(folder)), ("echo", echoes)):
            for name, path in group.items():
                times = max(1, round(60 / max(now.cpu_ms(kind, path, 2), before.cpu_ms(kind, path, 2))))
                pairs = []
                for turn in range(turns):
                    # Each goes first every other time.
                    order = (before, now) if turn % 2 else (now, before)
                    took = {id(one): one.cpu_ms(kind, path, times) for one in order}
                    pairs.append((took[id(before)], took[id(now)]))
                old, new = (statistics.median(values) for values in zip(*pairs, strict=True))
                rows.append([name, f"{old:.2f}", f"{new:.2f}", f"{statistics.median(b / a for a, b in pairs):.2f}"])
                print(*rows[-1], flush=True)
    note = (
        f"CPU ms of one reading, beside the checkout at {name_before}, in turns, {turns} of each; median of the ratios, below 1"
        " is faster than before. Command: `python benchmarks/speed_reading.py --against CHECKOUT`.\n\n"
    )
    return note + table(["file", "before, ms", "now, ms", "ratio"], rows)


def best(call: Callable[[], Any]) -> tuple[float, float]:
    """Wall and CPU milliseconds of the fastest of several runs."""
    runs = []
    for _ in range(REPEATS + 1):
        wall, cpu = time.perf_counter(), time.process_time()
        call()
        runs.append((1000 * (time.perf_counter() - wall), 1000 * (time.process_time() - cpu)))
    return min(runs[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--busy", action="store_true", help="measure even if the machine is not idle, and say so")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="compare with the readers of another checkout instead")
    parser.add_argument("--turns", type=int, default=15, help="readings of each checkout, with --against")
    options = parser.parse_args()
    if options.against:
        text = against(options.against, options.turns)
        print(text)
        write_section(DOCS / "performance.md", "Reading files, against an earlier commit", text)
        return
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

"""View and quality, as `measure` and `info` name them, on echo of patients and simulated hearts: python benchmarks/real_views.py.

Writes to docs/real.md. Needs $ECHOGEN_TEST_DATA/real and the pictures that benchmarks/real.py keeps.
"""

from __future__ import annotations

import argparse
import json
import os
from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common import DOCS
from echogen import simulate
from echogen.benchmark.markdown import table, write_section
from echogen.cine import read_cine
from echogen.errors import InputError
from echogen.measurement.segmentation import segment, without_islands
from echogen.measurement.shipped import load_segmenter
from echogen.measurement.view_check import other_view
from echogen.measurement.view_naming import NAMES, NO_ECHO, OTHER, Seen, seen_in, seen_in_file
from echogen.records import Cine
from real import Stills, dice, load

Bytes = NDArray[np.uint8]
SIMULATED = 12


def cines(folder: Path) -> list[tuple[str, Seen]]:
    """Group and verdict of each cine of the folder; every tenth of a second where the frame times are not known."""
    found = []
    for entry in json.loads((folder / "labels.json").read_text(encoding="utf-8"))["cines"]:
        path = folder / entry["file"]
        try:
            cine = read_cine(path, fps=10.0 if entry["container_fps"] is None and path.suffix != ".npz" else None)
        except InputError:
            with np.load(path) as held:
                frames = next(held[key] for key in held.files if held[key].ndim == 3)
            cine = Cine(frames, np.arange(len(frames)) / 10.0)
        found.append((f"cines of patients, {entry['view']}", seen_in_file(cine, path if path.suffix != ".npz" else None)))
    return found


def clips(frames: Bytes) -> list[Seen]:
    """Verdict of each clip (n, frames, 128, 128)."""
    return [Seen(OTHER) if other_view(clip) else seen_in(clip) for clip in frames]


def simulated() -> list[tuple[str, Seen]]:
    """Verdicts on hearts of both views, upright and turned by a quarter, and on noise."""
    found = []
    for seed in range(SIMULATED):
        for view in ("A4C", "A2C"):
            frames = simulate(view=view, seconds=0.5, seed=seed).cine.frames
            found.append((f"simulated, {view}", clips(frames[None])[0]))
        turned = np.ascontiguousarray(np.rot90(frames, axes=(1, 2)))
        found.append(("simulated A2C, turned by a quarter", clips(turned[None])[0]))
        noise = np.random.default_rng(seed).integers(0, 255, frames.shape, dtype=np.uint8)
        found.append(("noise", seen_in_file(Cine(noise, np.arange(len(noise)) / 32))))
    return found


def by_quality(stills: Stills, seen: list[Seen]) -> str:
    """Table of the overlap with human outlines by the quality that was named: whether it tells anything."""
    reader = load_segmenter("reader")
    found = np.concatenate([segment(picture[None], reader) for picture in stills.pictures.reshape(-1, 128, 128)])
    masks = without_islands(found).reshape(stills.outlines.shape)
    overlap = np.stack([dice(masks[:, phase], stills.outlines[:, phase], 1) for phase in (0, 1)], axis=1)
    rows = []
    for quality in ("good", "fair", "poor", None):
        chosen = overlap[[one.quality == quality for one in seen]]
        if len(chosen):
            cells = [f"{np.median(chosen[:, phase]):.3f} ({np.quantile(chosen[:, phase], 0.1):.3f})" for phase in (0, 1)]
            rows.append([quality or "not named, as the view was refused", *cells, str(len(chosen))])
    return table(["quality", "LV Dice at ED, median (lowest tenth)", "at ES", "n"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=Path("runs/real-canonical.npz"), help="as of benchmarks/real.py")
    parser.add_argument("--dry", action="store_true", help="print only, write no document")
    options = parser.parse_args()
    data = os.environ.get("ECHOGEN_TEST_DATA")
    if not data or not (Path(data) / "real").is_dir():
        raise SystemExit("Set ECHOGEN_TEST_DATA to a folder with real/ in it.")
    stills, short = load(Path(data) / "real", options.cache)
    of_stills = clips(stills.pictures)
    found = [("stills at ED and ES of patients, A4C", one) for one in of_stills]
    found += [("short clips of patients, A4C", one) for one in clips(short.frames)]
    found += [*cines(Path(data) / "real"), *simulated()]
    groups: dict[str, list[Seen]] = defaultdict(list)
    for name, one in found:
        groups[name].append(one)
    rows = []
    for name, seen in sorted(groups.items()):
        views = [str(sum(one.view == view for one in seen) or "") for view in NAMES]
        qualities = [str(sum(one.quality == quality for one in seen) or "") for quality in ("good", "fair", "poor")]
        rows.append([name, str(len(seen)), *views, *qualities])
    text = (
        f"Rows are what the pictures show, columns what they were named. {NO_ECHO.capitalize()} is a picture without a sector. A "
        "view is called A4C where right chambers are outlined, so an A4C that is cut off at the septum counts as A2C; views that "
        "are not apical are not told from each other, nor a three- from a four-chamber view.\n\n"
        + table(["", "n", *NAMES, "good", "fair", "poor"], rows)
        + "\nQuality by the overlap with human outlines (the reader on the same stills):\n\n"
        + by_quality(stills, of_stills)
    )
    print(text)
    if not options.dry:
        note = "The limits were set with a look at these patients, so this is no blind test. "
        note += "Command: `python benchmarks/real_views.py`.\n\n"
        write_section(DOCS / "real.md", "Views and quality, as they are named", note + text)


if __name__ == "__main__":
    main()

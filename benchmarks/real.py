"""Outlines and EF on echo of patients in $ECHOGEN_TEST_DATA/real: python benchmarks/real.py -> docs/real.md.

The errors of the shipped networks go to their real_errors.json, which `echogen measure` prints beside its figures.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import echogen
from common import DOCS
from echogen.benchmark.markdown import table, write_section
from echogen.cine.sector import CANONICAL_APEX_ROW, CANONICAL_RADIUS, CANONICAL_SIZE, find_sector, to_sector
from echogen.errors import InputError
from echogen.measurement.geometry import lv_geometry
from echogen.measurement.sam2 import Sam2Segmenter
from echogen.measurement.segmentation import segment, without_islands
from echogen.networks.config import load_network
from echogen.networks.segmenter import Segmenter
from echogen.physiology import area_length_volume_ml
from echogen.records import STRUCTURES
from real_numbers import all_numbers, clip_readings, number_table, write_errors

Floats = NDArray[np.float64]
Bytes = NDArray[np.uint8]

#: Name of each shipped network in the tables.
SHIPPED = {"segmenter": "segmenter, the predecessor", "reader": "reader"}
WEIGHTS = Path(echogen.__file__).parent / "weights"
#: Patients whose labelled EF comes out near 0.
NO_EF = {"patient0052", "patient0113", "patient0286"}
CLASSES = {"lv": 1, "myocardium": 2, "la": 3}
#: Frames of a short clip that stand for its largest and for its smallest volume.
EXTREMES = 2


@dataclass(frozen=True)
class Stills:
    """CAMUS stills in the canonical geometry.

    pictures, outlines: (n, 2, 128, 128) at ED and ES, the outlines by humans. ef_percent: (n,). mm_per_pixel: (n, 2).
    """

    names: list[str]
    pictures: Bytes
    outlines: Bytes
    ef_percent: Floats
    mm_per_pixel: Floats
    refused: list[str]


@dataclass(frozen=True)
class Clips:
    """Short clips in the canonical geometry, (n, frames, 128, 128), and the EF of each in %."""

    frames: Bytes
    ef_percent: Floats
    refused: list[str]


def canonical_still(picture: Bytes, outlines: Bytes) -> tuple[Bytes, Bytes, float]:
    """A still and its outlines (0..3) in the canonical geometry, and the growth of its pixels; beside the fan is background.

    Raises `InputError` where no sector is found.
    """
    shown, growth = to_sector(picture)
    sector = find_sector(picture)
    factor = sector.radius / CANONICAL_RADIUS
    left = sector.apex_column - CANONICAL_SIZE / 2 * factor
    top = sector.apex_row - CANONICAL_APEX_ROW * factor
    place = (np.arange(CANONICAL_SIZE) + 0.5) * factor
    rows, columns = np.floor(top + place).astype(int), np.floor(left + place).astype(int)
    inside = (rows[:, None] >= 0) & (rows[:, None] < picture.shape[0]) & (columns >= 0) & (columns < picture.shape[1])
    at = np.ix_(rows.clip(0, picture.shape[0] - 1), columns.clip(0, picture.shape[1] - 1))
    fan = sector.inside(picture.shape[0], picture.shape[1], margin=factor)[at]
    return shown, np.where(inside & fan, outlines[at], 0).astype(np.uint8), growth


def read_stills(folder: Path) -> Stills:
    """All CAMUS stills of the folder `real`."""
    labels = {entry["id"]: entry for entry in json.loads((folder / "labels.json").read_text(encoding="utf-8"))["camus_a4c"]}
    names, pictures, outlines, efs, sizes, refused = [], [], [], [], [], []
    for name, entry in sorted(labels.items()):
        with np.load(folder / entry["file"]) as held:
            try:
                both = [canonical_still(held[phase], held[phase + "_gt"]) for phase in ("ED", "ES")]
            except InputError:
                refused.append(name)
                continue
        names.append(name)
        pictures.append([still for still, _, _ in both])
        outlines.append([outline for _, outline, _ in both])
        sizes.append([growth * entry["spacing_mm"][0] for _, _, growth in both])
        efs.append(np.nan if name in NO_EF else entry["EF_a4c"])
    return Stills(names, np.array(pictures), np.array(outlines), np.array(efs), np.array(sizes), refused)


def read_clips(folder: Path) -> Clips:
    """All short clips of the folder `real`."""
    frames, efs, refused = [], [], []
    for entry in json.loads((folder / "labels.json").read_text(encoding="utf-8"))["echodiffusion_gif"]:
        with Image.open(folder / entry["file"]) as gif:
            raw = []
            for index in range(getattr(gif, "n_frames", 1)):
                gif.seek(index)
                raw.append(np.asarray(gif.convert("L")))
        try:
            shown, _ = to_sector(np.stack(raw))
        except InputError:
            refused.append(entry["file"])
            continue
        frames.append(shown)
        efs.append(entry["ef_percent"])
    return Clips(np.array(frames), np.array(efs, dtype=np.float64), refused)


def load(folder: Path, cache: Path) -> tuple[Stills, Clips]:
    """What there is to judge on, from `cache` where it was made before (finding 350 sectors takes a minute)."""
    if not cache.is_file():
        stills, clips = read_stills(folder), read_clips(folder)
        cache.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(
            cache, names=stills.names, pictures=stills.pictures, outlines=stills.outlines, ef=stills.ef_percent,
            mm=stills.mm_per_pixel,
            refused=np.array(stills.refused, dtype=str), frames=clips.frames, clip_ef=clips.ef_percent,
            clips_refused=np.array(clips.refused, dtype=str),
        )  # fmt: skip
    with np.load(cache) as held:
        stills = Stills(list(held["names"]), held["pictures"], held["outlines"], held["ef"], held["mm"], list(held["refused"]))
        return stills, Clips(held["frames"], held["clip_ef"], list(held["clips_refused"]))


def volumes(masks: Bytes) -> Floats:
    """(frames,) area-length volume of the ventricle in each mask, in a unit of its own."""
    area, length = lv_geometry(masks, 1.0)
    return area_length_volume_ml(area, np.maximum(length, 1e-6))


def still_volumes(masks: Bytes) -> Floats:
    """(n, 2) volumes of stills (n, 2, 128, 128), each by itself."""
    return np.array([[volumes(mask[None])[0] for mask in both] for both in masks])


def ef_of_extremes(volume: Floats) -> float:
    """EF in % between the mean of the largest and of the smallest volumes of a clip, two frames each."""
    ranked = np.sort(volume)
    largest = ranked[-EXTREMES:].mean()
    return float(100.0 * (1.0 - ranked[:EXTREMES].mean() / largest)) if largest > 0 else 0.0


def dice(found: Bytes, true: Bytes, structure: int) -> Floats:
    """(n,) Dice overlap of one structure in (n, H, W) masks."""
    one, other = found == structure, true == structure
    both = (one & other).sum((1, 2))
    return np.asarray(2.0 * both / np.maximum(one.sum((1, 2)) + other.sum((1, 2)), 1))


def area_ratio(found: Bytes, true: Bytes, structure: int) -> Floats:
    """(n,) area found over area drawn."""
    return np.asarray((found == structure).sum((1, 2)) / np.maximum((true == structure).sum((1, 2)), 1))


def agreement(found: Floats, true: Floats) -> str:
    """Mean absolute error, bias and Pearson's r, as one cell."""
    known = np.isfinite(found) & np.isfinite(true)
    off = found[known] - true[known]
    r = f"{np.corrcoef(found[known], true[known])[0, 1]:.2f}" if found[known].std() > 1e-9 else "-"
    return f"{np.abs(off).mean():.1f}, {off.mean():+.1f}, {r}"


def ef_percent(volume: Floats) -> Floats:
    """EF in % of (n, 2) volumes at ED and ES."""
    return np.asarray(100.0 * (1.0 - volume[:, 1] / np.maximum(volume[:, 0], 1e-9)))


def outline_row(name: str, found: Bytes, true: Bytes, ef: Floats) -> list[str]:
    """A row of the table of stills; `found` and `true` (n, 2, 128, 128)."""
    cells = [name]
    for structure in CLASSES.values():
        cells.append(" / ".join(f"{np.median(dice(found[:, at], true[:, at], structure)):.3f}" for at in (0, 1)))
    for structure in (1, 2, 3):
        cells.append(" / ".join(f"{np.median(area_ratio(found[:, at], true[:, at], structure)):.2f}" for at in (0, 1)))
    return [*cells, agreement(ef_percent(still_volumes(found)), ef)]


def outline_stills(network: Segmenter, stills: Stills) -> Bytes:
    """Outlines (n, 2, 128, 128) of stills by a network that sees each by itself."""
    flat = stills.pictures.reshape(-1, 1, CANONICAL_SIZE, CANONICAL_SIZE)
    found = np.concatenate([segment(picture, network) for picture in flat])
    return without_islands(found).reshape(stills.outlines.shape)


def sam2_rows(folder: Path, stills: Stills) -> list[list[str]]:
    """Rows of SAM 2, which is told the ventricle's box and centre by the readers, on both stills or at ED alone."""
    sam2, lv = Sam2Segmenter(folder), STRUCTURES["lv"]
    both, followed = np.zeros_like(stills.outlines), np.zeros_like(stills.outlines)
    for at, (pictures, true) in enumerate(zip(stills.pictures, stills.outlines, strict=True)):
        for phase in (0, 1):
            both[at, phase] = sam2(pictures[phase][None], mask=true[phase] == lv)[0]
        followed[at] = sam2(pictures, mask=true[0] == lv)
    rows = []
    for name, found in (("on each still", both), ("at ED, followed to ES", followed)):
        cells = outline_row(f"SAM 2, given box and centre {name}", found, stills.outlines, stills.ef_percent)
        rows.append([*cells[:2], "-", "-", cells[4], "-", "-", cells[7]])
    return rows


def judge(
    networks: dict[str, Segmenter], outlines: dict[str, Bytes], stills: Stills, clips: Clips, more: list[list[str]]
) -> tuple[str, str]:
    """The two tables, of stills and of clips.

    outlines: Of the stills, by network. more: Rows of other systems on the stills.
    """
    still_rows = [outline_row(name, found, stills.outlines, stills.ef_percent) for name, found in outlines.items()]
    clip_rows = []
    for name, network in networks.items():
        efs = np.array([ef_of_extremes(volumes(segment(frames, network))) for frames in clips.frames])
        clip_rows.append([name, agreement(efs, clips.ef_percent)])
    mean_outline = mean_mask(stills.outlines)
    mean_ef = np.full(len(stills.names), np.nanmean(stills.ef_percent))
    of_mean = outline_row("the mean outline", mean_outline, stills.outlines, stills.ef_percent)
    still_rows += more
    still_rows.append([*of_mean[:-1], agreement(mean_ef, stills.ef_percent)])
    still_rows.append(outline_row("the readers' own outlines", stills.outlines, stills.outlines, stills.ef_percent))
    clip_rows.append(["the mean EF", agreement(np.full(len(clips.ef_percent), clips.ef_percent.mean()), clips.ef_percent)])
    areas = [f"{structure} area" for structure in ("LV", "myo", "LA")]
    header = ["", "LV Dice ED / ES", "myocardium", "LA", *areas, "EF: error, bias, r"]
    return table(header, still_rows), table(["", "EF: error, bias, r"], clip_rows)


def judge_numbers(outlines: dict[str, Bytes], stills: Stills, folder: Path, *, write: bool) -> tuple[str, str]:
    """The tables of numbers on stills and of EF by `measure` on clips; the errors of shipped networks are written, too."""
    true = all_numbers(stills.outlines, stills.mm_per_pixel[:, 0])
    known = np.isfinite(stills.ef_percent)
    true = {name: np.where(known, values, np.nan) for name, values in true.items()}
    found = {name: all_numbers(masks, stills.mm_per_pixel[:, 0]) for name, masks in outlines.items()}
    rows = []
    for name in ("segmenter", "reader"):
        clips = clip_readings(folder, name)
        ef, second, label, refused = clips
        off = np.abs(ef - label)
        within = f"{np.median(off):.1f}, {np.quantile(off, 0.95):.0f}"
        rows.append([name, agreement(ef, label), within, agreement(second, label), f"{len(ef)}, {refused}"])
        if write and SHIPPED[name] in found:
            write_errors(WEIGHTS / name, found[SHIPPED[name]], true, clips)
    header = ["", "EF: error, bias, r", "median error, 95 % within", "EF by regression: error, bias, r", "n, refused"]
    return number_table(found, true), table(header, rows)


def mean_mask(outlines: Bytes) -> Bytes:
    """At each pixel the commonest structure over all patients, ED and ES apart, for each of them."""
    counts = np.stack([(outlines == structure).sum(0) for structure in range(4)])
    return np.broadcast_to(counts.argmax(0).astype(np.uint8), outlines.shape)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reader", nargs="*", default=[str(WEIGHTS / "reader")], help="folders of weights to judge")
    parser.add_argument("--sam2", type=Path, help="folder of SAM 2's weights, such as a download of facebook/sam2.1-hiera-tiny")
    parser.add_argument("--cache", type=Path, default=Path("runs/real-canonical.npz"), help="pictures in the canonical geometry")
    parser.add_argument("--dry", action="store_true", help="print only, write no document")
    options = parser.parse_args()
    data = os.environ.get("ECHOGEN_TEST_DATA")
    if not data or not (Path(data) / "real").is_dir():
        raise SystemExit("Set ECHOGEN_TEST_DATA to a folder with real/ in it.")
    stills, clips = load(Path(data) / "real", options.cache)
    networks = {SHIPPED["segmenter"]: load_network(Segmenter, WEIGHTS / "segmenter")}
    for weights in map(Path, options.reader):
        if weights.is_dir():
            networks["reader" if weights.resolve() == WEIGHTS / "reader" else str(weights)] = load_network(Segmenter, weights)
    outlines = {name: outline_stills(network, stills) for name, network in networks.items()}
    more = sam2_rows(options.sam2, stills) if options.sam2 else []
    of_stills, of_clips = judge(networks, outlines, stills, clips, more)
    of_numbers, of_readings = judge_numbers(outlines, stills, Path(data) / "real", write=not options.dry)
    text = (
        f"CAMUS, A4C stills at ED and ES of {len(stills.names)} patients with human outlines ({len(stills.refused)} refused as "
        "no echocardiogram), compared inside the fan in the canonical 128 x 128 geometry. Dice and area (found over drawn) are "
        "medians, ED / ES. EF by area and length of the two stills, against the single-plane EF of the outlines "
        f"({int(np.isfinite(stills.ef_percent).sum())} patients): mean absolute error, bias (points) and Pearson's r. "
        f"{'' if more else 'A row of SAM 2 appears where `--sam2` names its folder of weights. '}"
        f"\n\n{of_stills}\n"
        "Numbers of the same stills against those of the readers' outlines, both by the same formulas: mean absolute error, "
        "bias, Pearson's r (n). The strain is that of the endocardial contour between two stills, as nobody followed the tissue."
        f"\n\n{of_numbers}\n"
        f"Short A4C clips of {len(clips.ef_percent)} patients (112 px, 16 frames at 8 frames/s; {len(clips.refused)} refused) "
        f"with a labelled EF; measured between the {EXTREMES} largest and the {EXTREMES} smallest volumes.\n\n{of_clips}\n"
        "The same clips as `echogen measure` reads them, by beats. These errors stand beside its figures of recordings of "
        f"patients; no recording here has human labels of the times of ED and ES.\n\n{of_readings}"
    )
    print(text)
    if not options.dry:
        note = "No picture of a patient was trained on. Command: `python benchmarks/real.py`.\n\n"
        write_section(DOCS / "real.md", "Outlines and EF on echo of patients", note + text)


if __name__ == "__main__":
    main()

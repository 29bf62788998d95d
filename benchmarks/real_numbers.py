"""Volumes, atrium, wall and strain of CAMUS stills, and the EF of clips: a part of benchmarks/real.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from echogen.benchmark.markdown import table
from echogen.cine import read_cine
from echogen.errors import InputError
from echogen.measurement.chambers import sizes_of
from echogen.measurement.numbers import UNITS
from echogen.measurement.video import measure
from echogen.physiology import ejection_fraction_percent

Floats = NDArray[np.float64]
Bytes = NDArray[np.uint8]
#: EF of clips by outlines, by regression and by label, (n,) each, and the number of those that were refused.
Readings = tuple[Floats, Floats, Floats, int]

#: Phrase for the recordings that each set of errors comes from; it follows their count.
STILLS = "pairs of stills of patients (CAMUS A4C, ED and ES by its readers)"
CLIPS = "short A4C clips of patients (112 pixels, 8 frames/s)"


def still_numbers(outlines: Bytes, mm_per_pixel: float) -> dict[str, float]:
    """The numbers of `UNITS` of outlines (2, H, W) at ED and ES; nan for what is not outlined."""
    sizes = sizes_of(outlines, mm_per_pixel)
    la, wall = float(sizes.la_ml[1]), float(sizes.wall_mm[0])
    with np.errstate(divide="ignore", invalid="ignore"):
        values = {
            "ef_area_length_percent": float(ejection_fraction_percent(*sizes.area_length_ml)),
            "ef_discs_percent": float(ejection_fraction_percent(*sizes.discs_ml)),
            "edv_area_length_ml": float(sizes.area_length_ml[0]),
            "esv_area_length_ml": float(sizes.area_length_ml[1]),
            "edv_discs_ml": float(sizes.discs_ml[0]),
            "esv_discs_ml": float(sizes.discs_ml[1]),
            "long_axis_ed_mm": float(sizes.long_axis_mm[0]),
            "long_axis_es_mm": float(sizes.long_axis_mm[1]),
            "la_volume_ml": la or np.nan,
            "wall_ed_mm": wall or np.nan,
            "gls_percent": float(100.0 * (sizes.contour_mm[1] / sizes.contour_mm[0] - 1.0)),
        }
    assert values.keys() == UNITS.keys()
    return values


def all_numbers(outlines: Bytes, mm_per_pixel: Floats) -> dict[str, Floats]:
    """(n,) of each number over patients; outlines (n, 2, H, W), mm_per_pixel (n,)."""
    each = [still_numbers(pair, float(mm)) for pair, mm in zip(outlines, mm_per_pixel, strict=True)]
    return {name: np.array([values[name] for values in each]) for name in UNITS}


def error(found: Floats, true: Floats, unit: str, of: str) -> dict[str, Any]:
    """Error of found values (n,) as `echogen.measurement.known_errors.real_errors` has it; empty for fewer than ten."""
    known = np.isfinite(found) & np.isfinite(true)
    off = found[known] - true[known]
    if len(off) < 10:
        return {}
    return {
        "n": len(off),
        "of": of,
        "unit": unit,
        "bias": round(float(off.mean()), 2),
        "mean": round(float(np.abs(off).mean()), 2),
        "median": round(float(np.median(np.abs(off))), 2),
        "within_95": round(float(np.quantile(np.abs(off), 0.95)), 2),
    }


def clip_readings(folder: Path, network: str) -> Readings:
    """EF in % that `measure` and the EF regressor give for each short clip, and the label, (n,) each; how many it refused."""
    found, second, true, refused = [], [], [], 0
    for entry in json.loads((folder / "labels.json").read_text(encoding="utf-8"))["echodiffusion_gif"]:
        try:
            reading = measure(read_cine(folder / entry["file"]), network=network)
        except InputError:
            refused += 1
            continue
        found.append(reading.ef_percent)
        second.append(reading.ef_regressor_percent)
        true.append(entry["ef_percent"])
    return (
        np.array(found, dtype=np.float64),
        np.array(second, dtype=np.float64),
        np.array(true, dtype=np.float64),
        refused,
    )


def number_table(found: dict[str, dict[str, Floats]], true: dict[str, Floats]) -> str:
    """Table of the error of each number by network, and of naming the mean of all patients."""
    rows = []
    for name, unit in UNITS.items():
        cells = [name, unit, f"{np.nanmedian(true[name]):.1f}"]
        cells += [_cell(values[name], true[name]) for values in found.values()]
        mean = np.full(len(true[name]), np.nanmean(true[name]))
        rows.append([*cells, _cell(mean, true[name])])
    return table(["number", "unit", "readers, median", *found, "the mean of all patients"], rows)


def _cell(found: Floats, true: Floats) -> str:
    """Mean error, bias, Pearson's r and n."""
    known = np.isfinite(found) & np.isfinite(true)
    one, other = found[known], true[known]
    r = f"{np.corrcoef(one, other)[0, 1]:.2f}" if len(one) > 2 and one.std() > 1e-6 else "-"
    return f"{np.abs(one - other).mean():.1f}, {(one - other).mean():+.1f}, {r} ({len(one)})"


def write_errors(folder: Path, found: dict[str, Floats], true: dict[str, Floats], clips: Readings) -> None:
    """Write real_errors.json of a shipped network, which `measure` prints beside its figures.

    folder: Of the network's weights. found, true: Numbers of the stills, as `all_numbers`. clips: As `clip_readings`.
    """
    ef, second, label, refused = clips
    figures = {"ef_percent": error(ef, label, "%", CLIPS), "ef_regressor_percent": error(second, label, "%", CLIPS)}
    figures |= {name: error(found[name], true[name], unit, STILLS) for name, unit in UNITS.items()}
    document = {
        "command": "python benchmarks/real.py",
        "provenance": "Errors on echo of patients, on which nothing was trained; "
        f"{refused} clips were refused and are not counted. Times of ED and ES have no human labels here.",
        "figures": {name: figure for name, figure in figures.items() if figure},
    }
    (folder / "real_errors.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")

"""Volumes by discs, left atrium, wall and strain of a measured video, each with its uncertainty."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from echogen.arrays import ByteArray, Floats
from echogen.measurement.beats import smooth_volume
from echogen.measurement.chambers import Sizes, sizes_of
from echogen.measurement.known_errors import real_errors
from echogen.measurement.reading import Reading
from echogen.measurement.segmentation import segment, without_islands
from echogen.measurement.shipped import WEIGHTS
from echogen.networks.segmenter import Segmenter
from echogen.physiology import ejection_fraction_percent

#: Unit of each number, in the order of the output.
UNITS = {
    "ef_area_length_percent": "%",
    "ef_discs_percent": "%",
    "edv_area_length_ml": "ml",
    "esv_area_length_ml": "ml",
    "edv_discs_ml": "ml",
    "esv_discs_ml": "ml",
    "long_axis_ed_mm": "mm",
    "long_axis_es_mm": "mm",
    "la_volume_ml": "ml",
    "wall_ed_mm": "mm",
    "gls_percent": "%",
}
#: Numbers that need no pixel size.
RATIOS = ("ef_area_length_percent", "ef_discs_percent", "gls_percent")


@dataclass(frozen=True)
class Number:
    """A measured number.

    value: Median over the beats, in `unit`.
    unit: %, ml or mm.
    within: Half the width of the interval that held the truth of 90 % of phantom clips; None where it is not known, and for
    pictures of patients.
    spread: Standard deviation over three ways of outlining the video; None where it is outlined once. It says how sure the
    network is of itself, not how right it is.
    error: Error on recordings of patients, as `real_errors` has it; None for generated pictures and where nobody measured it.
    """

    value: float
    unit: str
    within: float | None = None
    spread: float | None = None
    error: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """JSON-ready: all fields."""
        return asdict(self)


def views_of(frames: ByteArray, segmenter: Segmenter) -> list[ByteArray]:
    """Chambers of a video as the network outlines them in three ways, whose disagreement tells of its uncertainty.

    frames: (T, 128, 128) uint8. Returns three (T, 128, 128) uint8 without islands: of the video; of its mirror image, mirrored
    back; and with the frames two before and two after as neighbours.
    """
    views = [segment(frames, segmenter), segment(frames[:, :, ::-1], segmenter)[:, :, ::-1]]
    apart = np.empty_like(views[0])
    for first in range(min(2, len(frames))):
        apart[first::2] = segment(frames[first::2], segmenter)
    return [without_islands(view) for view in (*views, apart)]


def numbers_of(
    views: Sequence[ByteArray],
    times_s: Floats,
    mm_per_pixel: float | None,
    reading: Reading,
    network: str | None,
    *,
    generated: bool = False,
) -> dict[str, Number]:
    """The numbers of a video that has a beat; empty where it has none.

    views: Masks of `views_of`, of which the first is measured; one view has no uncertainty. times_s: (T,) in s.
    mm_per_pixel: Side of a pixel in mm; None leaves out what needs it. reading: Beats. network: Name of the shipped network,
    whose errors stand beside the numbers; None for given outlines. generated: False for pictures of patients.
    """
    if not reading.beats:
        return {}
    found = [beat_numbers(sizes_of(view, mm_per_pixel or 1.0), times_s, reading) for view in views]
    scale = calibration(network) if network is not None and generated else {}
    errors = real_errors(network) if network is not None and not generated else {}
    names = [name for name in UNITS if np.isfinite(found[0][name]) and (mm_per_pixel is not None or name in RATIOS)]
    values = {name: [each[name] for each in found] for name in names}
    return {
        name: Number(of[0], UNITS[name], _within(of, scale.get(name)), _spread(of), errors.get(name))
        for name, of in values.items()
    }


def beat_numbers(sizes: Sizes, times_s: Floats, reading: Reading) -> dict[str, float]:
    """Median of each number over the beats of a reading; nan for what is not outlined. Keys as of `UNITS`."""
    smooth = {name: smooth_volume(times_s, curve) for name, curve in vars(sizes).items()}
    ed = [beat.ed_s for beat in reading.beats]
    es = [beat.es_s for beat in reading.beats]

    def extreme(name: str, moments: Sequence[float], largest: bool) -> Floats:
        # Volumes turn within 0.1 s of the times that the offsets of a beat's marks give.
        near = [np.abs(times_s - moment) <= max(0.1, float(np.abs(times_s - moment).min())) for moment in moments]
        return np.array([(np.max if largest else np.min)(smooth[name][chosen]) for chosen in near])

    edv, esv = extreme("area_length_ml", ed, True), extreme("area_length_ml", es, False)
    edv_discs, esv_discs = extreme("discs_ml", ed, True), extreme("discs_ml", es, False)
    contour_ed, contour_es = extreme("contour_mm", ed, True), extreme("contour_mm", es, False)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = {
            "ef_area_length_percent": ejection_fraction_percent(edv, esv),
            "ef_discs_percent": ejection_fraction_percent(edv_discs, esv_discs),
            "edv_area_length_ml": edv,
            "esv_area_length_ml": esv,
            "edv_discs_ml": edv_discs,
            "esv_discs_ml": esv_discs,
            "long_axis_ed_mm": extreme("long_axis_mm", ed, True),
            "long_axis_es_mm": extreme("long_axis_mm", es, False),
            "la_volume_ml": _if_any(extreme("la_ml", es, True)),
            "wall_ed_mm": _if_any(np.interp(ed, times_s, smooth["wall_mm"])),
            "gls_percent": 100.0 * (contour_es - contour_ed) / contour_ed,
        }
    return {name: float(np.median(value)) for name, value in values.items()}


def _if_any(values: Floats) -> Floats:
    """Values with nan for those that are 0, of structures that are not outlined."""
    return np.where(values > 0, values, np.nan)


def _within(values: Sequence[float], scale: dict[str, float] | None) -> float | None:
    """Half width of the 90 % interval: the spread of the views, plus the usual one, times the calibrated factor."""
    spread = _spread(values)
    return None if scale is None or spread is None else scale["factor"] * (spread + scale["usual_spread"])


def _spread(values: Sequence[float]) -> float | None:
    """Standard deviation over the views; None where there is one, or one without a value."""
    return float(np.std(values)) if len(values) > 1 and np.isfinite(values).all() else None


@lru_cache(maxsize=2)
def calibration(network: str) -> dict[str, dict[str, float]]:
    """Factor and usual spread by number, as benchmarks/uncertainty.py found them on the phantom; empty where it was not run."""
    path = WEIGHTS / network / "uncertainty.json"
    if not path.is_file():
        return {}
    document: dict[str, dict[str, float]] = json.loads(path.read_text(encoding="utf-8"))["numbers"]
    return document

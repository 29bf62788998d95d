"""Facts in EchoXFlow's files about its recordings: the catalogue, the folds, the beams' geometry, the contours' owners."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from echogen.cine.scan_conversion import BeamGeometry
from echogen.datasets.tables import Source, read_rows
from echogen.errors import InputError

#: Name of the data set, and the place to get it.
SOURCE = Source("EchoXFlow", "the data are at https://huggingface.co/datasets/Ahus-AIM/EchoXFlow")
#: Folds of whole examinations.
FOLDS = (0, 1, 2, 3, 4)
#: File of the catalogue, and paths in a store of the brightness mode's frames and of the ECG.
CATALOGUE, FRAMES, ECG = "croissant.json", "data/2d_brightness_mode", "data/ecg"
_FOLD_COLUMNS = ("exam_id", "five_fold_split")
_MM_PER_M = 1000.0


@dataclass(frozen=True)
class Recording:
    """A row of the catalogue.

    exam_id: Id of the examination.
    recording_id: Id of the recording.
    zarr_path: Path of its store below the data set's folder.
    content_types: Kinds of content, such as "2d_brightness_mode".
    arrays: Paths of the arrays in its store.
    frames: Number of frames of its brightness mode, 0 where it has none.
    """

    exam_id: str
    recording_id: str
    zarr_path: str
    content_types: tuple[str, ...]
    arrays: frozenset[str]
    frames: int

    @property
    def name(self) -> str:
        """Name EXAM/RECORDING."""
        return f"{self.exam_id}/{self.recording_id}"

    def place(self, folder: Path) -> Path | None:
        """Path of the recording's store: that of the catalogue, or in a folder of its examination; None where it is missing."""
        stored = Path(self.zarr_path)
        below = (stored, Path("exams") / stored, Path("exams", self.exam_id, stored.name), Path(self.exam_id, stored.name))
        return next((folder / path for path in below if (folder / path).exists()), None)


@dataclass(frozen=True)
class ContourLink:
    """Contours in the store of a strain recording.

    role: View or ventricle of the contours, "4ch", "2ch", "3ch" or "rv".
    recording_id: Id of the recording in whose brightness mode they were drawn.
    points: Path of the array of points.
    times: Path of the array of times.
    """

    role: str
    recording_id: str
    points: str
    times: str


def times_of(path: str) -> str:
    """Path of the array that holds the times of an array."""
    return path.replace("data/", "timestamps/", 1)


def read_catalogue(folder: Path) -> list[Recording]:
    """Read the recordings that croissant.json lists. Raises `InputError` where it is missing or malformed."""
    path = folder / CATALOGUE
    if not path.is_file():
        raise InputError(f"There is no {CATALOGUE} in {folder}; name the folder of EchoXFlow ({SOURCE.where}).")
    try:
        sets = json.loads(path.read_text(encoding="utf-8"))["recordSet"]
        rows = next(one["data"] for one in sets if "recordings" in (one.get("@id"), one.get("name")))
        return [_recording({key.removeprefix("recordings/"): value for key, value in row.items()}) for row in rows]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
        raise InputError(f"{path} does not list recordings as EchoXFlow's does; get the file again ({SOURCE.where}).") from error


def _recording(row: Mapping[str, Any]) -> Recording:
    contents, arrays = tuple(row.get("content_types") or ()), frozenset(row.get("array_paths") or ())
    frames = (row.get("frame_counts_by_content_type") or {}).get("2d_brightness_mode", 2) if FRAMES in arrays else 0
    return Recording(str(row["exam_id"]), str(row["recording_id"]), str(row["zarr_path"]), contents, arrays, int(frames))


def exams_in(folder: Path, folds: Sequence[int]) -> set[str]:
    """Read the ids of the examinations in these folds (0..4). Raises `InputError` where no table lists the folds."""
    if unknown := sorted(set(folds) - set(FOLDS)):
        raise InputError(f"EchoXFlow has the folds 0 to 4, not {unknown[0]}; name some of these.")
    for path in sorted(folder.glob("*.csv")):
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            header = file.readline()
        if all(column in header for column in _FOLD_COLUMNS):
            rows = list(read_rows(path, _FOLD_COLUMNS, SOURCE))
            return {row.text("exam_id") for row in rows if row.number("five_fold_split") in folds}
    raise InputError(
        f"There is no CSV with the columns {' and '.join(_FOLD_COLUMNS)} in {folder}, so the folds are not known; {SOURCE.where}."
    )


def sector_geometry(manifest: Any, where: str) -> BeamGeometry:
    """Sector geometry of a recording's brightness mode, by its manifest. Raises `InputError` where the manifest lacks it."""
    for sector in _mappings(_get(manifest, "sectors")) + _mappings(_get(manifest, "linked_panels")):
        shown = {
            sector.get("semantic_id"),
            _path(sector.get("frames")),
            _get(sector.get("linked_recording"), "frames_array_path"),
        }
        geometry = sector.get("geometry")
        if not shown & {"bmode", FRAMES} or not isinstance(geometry, Mapping):
            continue
        depths = [_number(geometry, f"depth_{end}_m", f"Depth{end.title()}") for end in ("start", "end")]
        angles = [_number(geometry, f"angle_{end}_rad", f"Angle{end.title()}") for end in ("start", "end")]
        tilt, width = _number(geometry, "tilt_rad", "Tilt") or 0.0, _number(geometry, "width_rad", "Width")
        if None in angles and width is not None:
            angles = [tilt - width / 2, tilt + width / 2]
        if None not in depths + angles:
            return BeamGeometry(
                *(depth * _MM_PER_M for depth in depths if depth is not None), *(a for a in angles if a is not None)
            )
    raise InputError(f"{where} does not say where its beams lie (depths and angles of its sector); leave it out.")


def contour_links(manifest: Any) -> list[ContourLink]:
    """Contours of a strain recording that its manifest lists."""
    drawn: dict[str, tuple[str, str]] = {}
    for annotation in _mappings(_get(manifest, "annotations")):
        target, points = annotation.get("target"), _path(annotation.get("value"))
        if points and _get(target, "field") == "contour_points":
            drawn[str(_get(target, "semantic_id")).lower()] = points, _path(annotation.get("time")) or times_of(points)
    found = []
    for panel in _mappings(_get(manifest, "linked_panels")):
        role, linked = str(panel.get("role_id") or panel.get("view_code") or "").lower(), panel.get("linked_recording")
        # No path of a manifest is opened: a recording is looked up in the catalogue by its id.
        recording = _get(linked, "recording_id") or Path(str(_get(linked, "relative_zarr_path") or "")).stem
        if isinstance(recording, str) and role in drawn:
            found.append(ContourLink(role, recording, *drawn[role]))
    return found


def _get(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, Mapping) else None


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


def _path(value: Any) -> str | None:
    """Path of an array that a manifest refers to; None without one."""
    path = _get(value, "array_path") or _get(value, "zarr_path") or _get(value, "path")
    return path.strip("/") if isinstance(path, str) else None


def _number(values: Mapping[str, Any], *keys: str) -> float | None:
    """Value of the first key that holds a number; None without one."""
    return next((float(values[key]) for key in keys if isinstance(values.get(key), int | float)), None)

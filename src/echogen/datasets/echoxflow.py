"""EchoXFlow: 37,125 recordings of 666 examinations as the scanner kept them (beamspace), with their ECG on the same clock.

FOLDER/croissant.json   the catalogue: recordings with exam_id, recording_id, zarr_path, array_paths, frame counts
       exams/EXAM.tar   unpacked in place: one Zarr store (a folder or a zip file) for each recording
       *.csv            exam_id, five_fold_split (0..4)
In a store: data/2d_brightness_mode (frames, depths, beams) uint8, timestamps/2d_brightness_mode in s; data/ecg and
timestamps/ecg, which may begin at another time; the attribute `recording_manifest` with the geometry of the sector. Strain stores
hold contours: data/{4ch,2ch,3ch,rv}_contour (times, points, 2) in m to the right of the probe and below it,
timestamps/..._contour in s.

Source: arXiv 2605.05447; CC BY-NC-SA 4.0. An exam id is no patient id: one patient may have several.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from echogen.arrays import ByteArray, Floats
from echogen.cine.limits import check_size
from echogen.cine.scan_conversion import BeamGeometry, native_mm_per_pixel, scan_convert
from echogen.cine.stored import grey_levels
from echogen.datasets import zarr_store
from echogen.datasets.echoxflow_files import (
    CATALOGUE,
    ECG,
    FRAMES,
    SOURCE,
    ContourLink,
    Recording,
    contour_links,
    exams_in,
    read_catalogue,
    sector_geometry,
    times_of,
)
from echogen.datasets.tracings import outline_mask
from echogen.ecg.gaps import fill_short_gaps
from echogen.ecg.units import stated_mv
from echogen.errors import InputError
from echogen.records import STRUCTURES, Beat, Cine, Ecg, SecondsArray, Study

#: Views of a `Cine` by the data set's own words.
_VIEWS = {"4ch": "A4C", "2ch": "A2C"}
_MM_PER_M = 1000.0
#: Largest distance of an ECG sample from even spacing, in s, at which the spacing still counts as even.
_EVEN_WITHIN_S = 0.002


class Strain(NamedTuple):
    """Kind of contours.

    cavity: Cavity that they enclose, a name in `STRUCTURES`.
    across: Number of points across the wall, the innermost first.
    """

    cavity: str
    across: int


class Contours(NamedTuple):
    """Contours of a recording.

    store: Path of the store with their arrays.
    link: Paths of the arrays, and the recording in which they were drawn.
    strain: Their kind.
    """

    store: Path
    link: ContourLink
    strain: Strain


#: Kinds of contours by the content type of a strain recording.
STRAINS = {
    "2d_left_ventricular_strain": Strain("lv", 5),
    "2d_left_atrial_strain": Strain("la", 5),
    "2d_right_ventricular_strain": Strain("rv", 3),
}


class EchoXFlow:
    """Two-dimensional recordings of EchoXFlow as studies, in the order of the catalogue; each is read when it is asked for.

    folder: Folder of croissant.json.
    folds: Some of the five folds (0..4); None for all.
    with_ecg: True takes only recordings that have an ECG.
    outlined: True takes only recordings with contours of the left ventricle, cut to the outlined frames, with masks; pixels that
        no contour encloses are background.
    least_frames: Least number of frames of a recording.
    mm_per_pixel: Pixel size in mm of the Cartesian picture, 0.01..10; None: as fine as the samples along a beam.
    ecg_unit: Unit of the stored ECG, such as "uV". The data set states none: without it the trace is scaled so that the 99.5th
        percentile of its deviation from the median is 1, and is right in time and shape only.
    skip_missing: True leaves out listed recordings that are missing (their names are in `missing`); False raises `InputError`.

    A study begins with its first frame at 0 s; the ECG (one lead, "ECG") is moved by the same time. The view is known where a
    strain recording names it. The beat runs from the largest to the smallest outlined ventricle where this follows it.
    Raises `InputError` for a catalogue, a store or an array that is missing or malformed, or where zarr is not installed.
    """

    def __init__(
        self,
        folder: str | Path,
        folds: Sequence[int] | None = None,
        *,
        with_ecg: bool = True,
        outlined: bool = False,
        least_frames: int = 2,
        mm_per_pixel: float | None = None,
        ecg_unit: str | None = None,
        skip_missing: bool = False,
    ) -> None:
        self.folder, self.outlined, self.mm_per_pixel = Path(folder), outlined, mm_per_pixel
        self._mv_of_unit = stated_mv(ecg_unit)
        if mm_per_pixel is not None and not 0.01 <= mm_per_pixel <= 10:
            raise InputError(f"Pixels must be 0.01 to 10 mm wide (mm_per_pixel), not {mm_per_pixel}.")
        self._catalogue = read_catalogue(self.folder)
        if folds is not None:
            exams = exams_in(self.folder, folds)
            self._catalogue = [recording for recording in self._catalogue if recording.exam_id in exams]
        wanted = [one for one in self._catalogue if FRAMES in one.arrays and one.frames >= least_frames]
        if with_ecg:
            wanted = [one for one in wanted if {ECG, times_of(ECG)} <= one.arrays]
        self.missing = [one.name for one in wanted if one.place(self.folder) is None]
        if self.missing and not skip_missing:
            exam = self.missing[0].split("/")[0]
            packed = f"; unpack exams/{exam}.tar in place" if (self.folder / "exams" / f"{exam}.tar").is_file() else ""
            raise InputError(
                f"{len(self.missing)} of the {len(wanted)} recordings that {CATALOGUE} lists are not in {self.folder} "
                f"({self.missing[0]} is the first{packed}); get them again ({SOURCE.where}) or leave missing ones out."
            )
        absent = set(self.missing)
        self.recordings = [one for one in wanted if one.name not in absent]
        if outlined:
            self.recordings = [one for one in self.recordings if self._contours_of(one, "lv")]
        if not self.recordings:
            raise InputError(f"{self.folder} holds no recording that was asked for; {SOURCE.where}.")

    def __len__(self) -> int:
        return len(self.recordings)

    def __iter__(self) -> Iterator[Study]:
        return (self[index] for index in range(len(self)))

    @property
    def names(self) -> list[str]:
        """Name of each study, EXAM/RECORDING, in order."""
        return [recording.name for recording in self.recordings]

    def labels(self, index: int) -> dict[str, Any]:
        """Ids of the examination and the recording with this index, as plain values."""
        return {"exam_id": self.recordings[index].exam_id, "recording_id": self.recordings[index].recording_id}

    def __getitem__(self, index: int) -> Study:
        """Read the study with this index. Raises `InputError` where its store is damaged or its arrays do not fit together."""
        recording = self.recordings[index]
        where, place = f"The recording {recording.name}", recording.place(self.folder)
        if place is None:
            raise InputError(f"{where} is no longer in {self.folder}; get it again ({SOURCE.where}).")
        with zarr_store.opened(place, where) as store:
            geometry = sector_geometry(zarr_store.attributes(store).get("recording_manifest"), where)
            beams, times = timed_array(store, FRAMES, times_of(FRAMES), where)
            timed_ecg = timed_array(store, ECG, times_of(ECG), where) if {ECG, times_of(ECG)} <= recording.arrays else None
        if beams.ndim != 3 or not beams.size or beams.min() < 0 or beams.max() > 255:
            raise InputError(f"{where} holds no grey levels of frames, depths and beams; get it again ({SOURCE.where}).")
        if not beams.any(axis=(1, 2)).all():
            raise InputError(f"{where} has empty frames, so a part of its store is missing; unpack the exam again.")
        mm_per_pixel = self.mm_per_pixel or native_mm_per_pixel(geometry, beams.shape[1])
        left, top, right, bottom = geometry.bounds_mm
        check_size(where, len(beams), round((bottom - top) / mm_per_pixel), round((right - left) / mm_per_pixel))
        contours = self._contours_of(recording)
        view = next((_VIEWS[one.link.role] for one in contours if one.link.role in _VIEWS), None)
        first = float(times[0])
        cine = Cine(scan_convert(grey_levels(beams), geometry, mm_per_pixel), times - first, mm_per_pixel, view)
        ecg = None if timed_ecg is None else even_ecg(*timed_ecg, first, self._mv_of_unit, where)
        return self._with_contours(Study(ecg, cine), contours, first, geometry, where)

    def _with_contours(self, study: Study, contours: list[Contours], first_s: float, geometry: BeamGeometry, where: str) -> Study:
        """Add masks and beat to a study, and cut it to its outlined frames if `outlined`. first_s: Stored time of its start."""
        masks, found = np.zeros_like(study.cine.frames), np.zeros(len(study.cine.frames), dtype=bool)
        for one in contours:
            with zarr_store.opened(one.store, where) as store:
                points, times = timed_array(store, one.link.points, one.link.times, where)
            for frame, contour in _on_frames(points, times - first_s, study.cine).items():
                pixels = geometry.pixels(contour * _MM_PER_M, study.cine.mm_per_pixel or 1.0)
                _draw(masks[frame], pixels, one.strain)
                found[frame] |= one.strain.cavity == "lv"
        cavity = (masks == STRUCTURES["lv"]).sum(axis=(1, 2))
        outlined = np.flatnonzero(found & (cavity > 0))
        if self.outlined and not outlined.size:
            raise InputError(f"{where} has no contour at the time of any of its frames; leave it out.")
        if outlined.size > 1:
            ed, es = (int(outlined[choose(cavity[outlined])]) for choose in (np.argmax, np.argmin))
            if ed < es:
                study = replace(study, beats=(Beat(float(study.cine.times_s[ed]), float(study.cine.times_s[es])),))
        if self.outlined:
            cine = replace(study.cine, frames=study.cine.frames[outlined], times_s=study.cine.times_s[outlined])
            return replace(study, cine=cine, masks=masks[outlined])
        return replace(study, masks=masks) if len(outlined) == len(masks) else study

    def _contours_of(self, recording: Recording, cavity: str | None = None) -> list[Contours]:
        found = self._contours.get(recording.recording_id, [])
        return [one for one in found if cavity in (None, one.strain.cavity)]

    @cached_property
    def _contours(self) -> dict[str, list[Contours]]:
        """Contours by the id of their recording, the left ventricle last, so that it is drawn on top."""
        found: dict[str, list[Contours]] = {}
        for content, strain in reversed(STRAINS.items()):
            for recording in self._catalogue:
                place = recording.place(self.folder) if content in recording.content_types else None
                if place is None:
                    continue
                with zarr_store.opened(place, f"The recording {recording.name}") as store:
                    links = contour_links(zarr_store.attributes(store).get("recording_manifest"))
                for link in links:
                    found.setdefault(link.recording_id, []).append(Contours(place, link, strain))
        return found


def timed_array(store: Any, path: str, times_path: str, where: str) -> tuple[NDArray[np.generic], SecondsArray]:
    """Read an array and the increasing time in s of each of its rows. Raises `InputError` where one is missing or damaged."""
    values, times = zarr_store.numbers(store, path, where), zarr_store.numbers(store, times_path, where)
    if values is None or times is None:
        raise InputError(f"{where} lacks the array {path if values is None else times_path}; get it again ({SOURCE.where}).")
    seconds = times.astype(np.float64)
    if seconds.shape != values.shape[:1] or not np.isfinite(seconds).all() or (np.diff(seconds) <= 0).any():
        raise InputError(f"{where} has no increasing time for each row of {path}; get it again ({SOURCE.where}).")
    return values, seconds


def even_ecg(values: NDArray[np.generic], times_s: SecondsArray, zero_s: float, mv_of_unit: float | None, where: str) -> Ecg:
    """Convert a trace with a time for each sample into an ECG of one sampling rate; uneven samples are interpolated.

    values: Trace (samples,).
    times_s: Time of each sample in s.
    zero_s: Stored time in s at which the clock of the ECG begins.
    mv_of_unit: Unit of the trace in mV; None scales the trace to its own height (see `EchoXFlow`).
    where: Name of the recording in messages.
    Raises `InputError` for gaps of 0.2 s or more, a flat trace without a unit, and values that are no trace.
    """
    if values.ndim != 1 or len(values) < 2:
        raise InputError(f"{where} holds no ECG of one lead; get it again ({SOURCE.where}).")
    signal, count = values.astype(np.float64), len(values)
    start, end = float(times_s[0]), float(times_s[-1])
    step = (end - start) / (count - 1)
    if np.abs(times_s - (start + np.arange(count) * step)).max() > _EVEN_WITHIN_S:
        step = float(np.median(np.diff(times_s)))
        even = start + np.arange(int((end - start) / step + 1e-6) + 1) * step
        after = np.clip(np.searchsorted(times_s, even), 1, count - 1)
        in_gap = np.diff(times_s)[after - 1] > 1.5 * step
        near = np.minimum(even - times_s[after - 1], times_s[after] - even) < 0.5 * step
        signal = np.where(in_gap & ~near, np.nan, np.interp(even, times_s, signal))
    try:
        signal = fill_short_gaps(signal[None], 1.0 / step, ("ECG",))
    except InputError as error:
        raise InputError(f"The ECG of {where.removeprefix('The ')} has a gap of 0.2 s or more; leave it out.") from error
    if mv_of_unit is None:
        centred = signal - np.median(signal)
        height = float(np.percentile(np.abs(centred), 99.5))
        if not height > 0:
            raise InputError(f"The ECG of {where.removeprefix('The ')} is flat; leave it out.")
        signal, mv_of_unit = centred, 1.0 / height
    return Ecg((signal * mv_of_unit).astype(np.float32), 1.0 / step, ("ECG",), start - zero_s)


def _on_frames(points: NDArray[np.generic], times_s: SecondsArray, cine: Cine) -> dict[int, Floats]:
    """Contours (points, 2) by the index of the frame at whose time they were drawn, to half a frame."""
    within = 0.5 / cine.fps + 1e-6
    found: dict[int, tuple[float, Floats]] = {}
    for contour, time in zip(points.astype(np.float64), times_s, strict=True):
        away = np.abs(cine.times_s - time)
        frame = int(away.argmin())
        if away[frame] <= within and (frame not in found or away[frame] < found[frame][0]):
            found[frame] = float(away[frame]), contour
    return {frame: contour for frame, (_, contour) in found.items()}


def _draw(mask: ByteArray, points: Floats, strain: Strain) -> None:
    """Draw a contour (points, 2), in columns and rows, into a mask: its cavity, and of a left ventricle the wall around it."""
    if points.ndim != 2 or points.shape[1] != 2 or len(points) % strain.across:
        return
    rows = points.reshape(-1, strain.across, 2)
    rows = rows[np.isfinite(rows).all(axis=(1, 2))]
    if len(rows) < 3:
        return
    inner, outer = rows[:, 0], rows[:, -1]
    if strain.cavity == "lv":
        _fill(mask, np.concatenate([inner, outer[::-1]]), STRUCTURES["myocardium"])
    _fill(mask, inner, STRUCTURES[strain.cavity])


def _fill(mask: ByteArray, outline: Floats, value: int) -> None:
    """Set the pixels of a mask whose centres lie in an outline; only the rectangle around the outline is examined."""
    height, width = mask.shape
    left, top = np.clip(np.floor(outline.min(axis=0)).astype(int), 0, (width, height))
    right, bottom = np.clip(np.ceil(outline.max(axis=0)).astype(int) + 1, 0, (width, height))
    inside = outline_mask(outline - (left, top), bottom - top, right - left)
    mask[top:bottom, left:right][inside] = value

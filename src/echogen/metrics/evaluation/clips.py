"""Clips in a folder: the videos, and what is known about each from the JSON file beside it."""

from __future__ import annotations

import json
import math
import zlib
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from echogen.arrays import ByteArray, Floats
from echogen.cine.reading import read_cine
from echogen.cine.sector import CANONICAL_SIZE, to_sector
from echogen.errors import InputError
from echogen.measurement.geometry import lv_area
from echogen.measurement.reading import SHORTEST_S, Reading, read_masks
from echogen.measurement.segmentation import segment
from echogen.measurement.shipped import load_segmenter
from echogen.metrics.sets.features import FeatureNetwork, Features, TooShort, features_of
from echogen.records import Beat, Cine, Study

#: Suffixes of videos; of two files of one name the one further left counts.
VIDEO_SUFFIXES = (".npz", ".dcm", ".avi", ".mkv", ".mp4", ".mov", ".gif")
_TRUTH, _TRUE_VIDEO = "truth.json", "cine.npz"


@dataclass(frozen=True)
class ClipFile:
    """Place of a clip: its name (of the file without suffix, or of its folder), its video, and its JSON file, if any.

    fps: Frames per second in Hz, instead of what the video states.
    """

    name: str
    video: Path
    facts: Path | None
    fps: float | None = None


def find_clips(folder: str | Path, fps: float | None = None) -> dict[str, ClipFile]:
    """The clips of a folder by name, in order of their names.

    A clip is a video file (.npz .dcm .avi .mkv .mp4 .mov .gif, or DICOM of any name) with NAME.json beside it where that exists,
    or a folder that `echogen simulate` wrote (cine.npz and truth.json). Hidden files are passed over.
    fps: frames per second of the video files, instead of what they state.
    Raises `InputError` for a folder that is missing or holds no clip.
    """
    folder = Path(folder)
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise InputError(f"The folder {folder} {what}; name a folder of echo videos.")
    if _is_simulated(folder):
        return {folder.name: ClipFile(folder.name, folder / _TRUE_VIDEO, folder / _TRUTH)}
    found: dict[str, ClipFile] = {}
    ranked = sorted((_rank(path), path.name, path) for path in folder.iterdir() if not path.name.startswith("."))
    for rank, _, path in ranked:
        if path.is_dir() and _is_simulated(path):
            found.setdefault(path.name, ClipFile(path.name, path / _TRUE_VIDEO, path / _TRUTH))
        elif _is_waveform(path):
            continue
        elif path.is_file() and (rank < len(VIDEO_SUFFIXES) or _is_dicom(path)):
            name = path.stem if rank < len(VIDEO_SUFFIXES) else path.name
            beside = path.with_name(f"{name}.json")
            found.setdefault(name, ClipFile(name, path, beside if beside.is_file() else None, fps))
    if not found:
        raise InputError(f"There is no echo video in {folder}; name a folder of videos, or one that `echogen simulate` wrote.")
    return dict(sorted(found.items()))


def _is_simulated(folder: Path) -> bool:
    return (folder / _TRUTH).is_file() and (folder / _TRUE_VIDEO).is_file()


def _rank(path: Path) -> int:
    suffix = path.suffix.lower()
    return VIDEO_SUFFIXES.index(suffix) if suffix in VIDEO_SUFFIXES else len(VIDEO_SUFFIXES)


def _is_waveform(path: Path) -> bool:
    """True for the ECG file that `write` puts beside a DICOM video."""
    return path.name.endswith("_ecg.dcm") and path.with_name(path.name.removesuffix("_ecg.dcm") + ".dcm").is_file()


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


class Clip:
    """One clip, read and measured when something of it is first asked for; all times are in s on the clock of its ECG.

    Raises `InputError` with the clip's name for a file that cannot be used.
    """

    def __init__(self, file: ClipFile) -> None:
        self.file = file
        self._features: dict[tuple[str, int, bool], Features | None] = {}

    @classmethod
    def of(cls, name: str, study: Study) -> Clip:
        """A clip that lies in no file: the cine of a simulated study, whose EF, sex and beats are the truth about it.

        A changed copy of a clip is `Clip.of(name, replace(study, cine=...))`: it is judged by what the study says.
        """
        clip = cls(ClipFile(name, Path(name), Path(_TRUTH)))
        clip._facts = {"ef_percent": study.ef_percent, "sex": study.sex, "beats": [asdict(beat) for beat in study.beats]}
        clip.cine = study.cine
        return clip

    @cached_property
    def _facts(self) -> dict[str, Any]:
        if self.file.facts is None:
            return {}
        try:
            facts = json.loads(self.file.facts.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"{self.file.facts} is damaged and no JSON file; make it anew or take it away.") from error
        return facts if isinstance(facts, dict) else {}

    @property
    def _settings(self) -> dict[str, Any]:
        settings = self._facts.get("settings")
        return settings if isinstance(settings, dict) else {}

    @property
    def has_truth(self) -> bool:
        """True if the beats in the JSON file are the truth (of a simulated heart) and no measurement."""
        return self.file.facts is not None and self.file.facts.name == _TRUTH

    def _number(self, value: Any) -> float | None:
        usable = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        return float(value) if usable else None

    @cached_property
    def cine(self) -> Cine:
        """The video; MP4, GIF and AVI begin at 0 s, so `video_start_s` of the JSON file moves them to the clock of the ECG."""
        try:
            cine = read_cine(self.file.video, fps=self.file.fps)
        except InputError as error:
            raise InputError(f"The clip {self.file.video} cannot be used: {error}") from error
        start = self._number(self._facts.get("video_start_s"))
        return replace(cine, times_s=cine.times_s + start) if start and cine.times_s[0] == 0 else cine

    @cached_property
    def canonical(self) -> ByteArray:
        """(T, 128, 128) frames cropped to their sector."""
        frames = self.cine.frames
        if frames.shape[1:] == (CANONICAL_SIZE, CANONICAL_SIZE):
            return frames
        try:
            return to_sector(frames, CANONICAL_SIZE)[0]
        except InputError as error:
            raise InputError(f"The clip {self.file.video} cannot be used: {error}") from error

    def features(self, network: FeatureNetwork, *, at_random: bool) -> Features | None:
        """(n, dims) by `features_of`, from a random place that follows from the clip's name, or from its start; None: too short.

        They are kept for all metrics that ask for them.
        """
        key = (network.name, network.frames, at_random)
        if key not in self._features:
            seed = zlib.crc32(self.file.name.encode()) if at_random else None
            try:
                self._features[key] = features_of(network, [replace(self.cine, frames=self.canonical)], seed=seed)
            except TooShort:
                self._features[key] = None
        return self._features[key]

    @cached_property
    def masks(self) -> ByteArray:
        """(T, 128, 128) the chambers, by the shipped segmenter."""
        return segment(self.canonical, load_segmenter())

    @cached_property
    def reading(self) -> Reading | None:
        """Measurements of the video, volumes in cubic pixels; None for one that is too short or shows no left ventricle."""
        if self.cine.duration_s < SHORTEST_S:
            return None
        try:
            return read_masks(self.masks, self.cine.times_s, 1.0)
        except InputError:
            return None

    @cached_property
    def area(self) -> Floats:
        """(T,) area of the left ventricle in pixels."""
        return lv_area(self.masks, 1.0)

    @property
    def beats(self) -> tuple[Beat, ...]:
        """The beats that the video shows."""
        return () if self.reading is None else self.reading.beats

    @property
    def ef_percent(self) -> float | None:
        """EF in % as the video shows it, by volume."""
        return None if self.reading is None else self.reading.ef_percent

    @property
    def known_ef_percent(self) -> float | None:
        """EF in % that was asked for (`settings.ef_percent` of NAME.json), or that the simulated heart has (of truth.json)."""
        return self._number(self._facts.get("ef_percent") if self.has_truth else self._settings.get("ef_percent"))

    @cached_property
    def true_beats(self) -> tuple[Beat, ...]:
        """The beats of a simulated heart; none where the truth is not known."""
        if not self.has_truth:
            return ()
        try:
            keys = ("ed_s", "es_s", "edv_ml", "esv_ml", "r_s")
            return tuple(Beat(*(self._number(beat.get(key)) for key in keys)) for beat in self._facts["beats"])  # type: ignore[arg-type]
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{self.file.facts} lists no beats as `echogen simulate` does; make it anew.") from error

    @cached_property
    def r_s(self) -> Floats | None:
        """(beats,) R peaks of the ECG, or None where the JSON file tells none."""
        peaks = [beat.r_s for beat in self.true_beats] if self.has_truth else self._facts.get("r_s")
        if not isinstance(peaks, list):
            return None
        known = [peak for peak in map(self._number, peaks) if peak is not None]
        return np.sort(np.array(known)) if known else None

    @property
    def rhythm(self) -> str | None:
        """Rhythm that the JSON file states."""
        rhythm = self._facts.get("rhythm")
        return rhythm if isinstance(rhythm, str) else None

    @property
    def beat_kinds(self) -> list[str]:
        """Kind of each true beat, such as normal or pvc; empty text where the JSON file does not state it."""
        return [str(beat.get("kind", "")) for beat in self._facts.get("beats", [])]

    @property
    def sex(self) -> str | None:
        """ "m", "f" or None where it is not told."""
        sex = self._facts.get("sex", self._settings.get("sex"))
        return sex if sex in ("m", "f") else None


def same_moments(first: Cine, second: Cine) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Frames (indices, (n,) each) of two videos on one clock that show the same moments: each of the first over the time that
    both last, with the nearest of the second."""
    half = 0.5 / first.fps if len(first.times_s) > 1 else np.inf
    distance = np.abs(first.times_s[:, None] - second.times_s[None, :])
    nearest = distance.argmin(axis=1)
    kept = np.flatnonzero(
        distance[np.arange(len(nearest)), nearest] <= max(half, 0.5 / second.fps if len(second.times_s) > 1 else 0.0) + 1e-9
    )
    return kept, nearest[kept]

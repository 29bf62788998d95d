"""CAMUS: 500 patients, a two- and a four-chamber half cycle each, every frame segmented.

FOLDER/database_nifti/patientNNNN/patientNNNN_{2CH,4CH}_half_sequence[_gt].nii.gz   end-diastole to end-systole, or back
                                  patientNNNN_{2CH,4CH}_{ED,ES}[_gt].nii.gz
                                  Info_{2CH,4CH}.cfg       lines "Key: value": ED, ES (from 1), NbFrame, Sex, Age, EF, FrameRate
       database_split/subgroup_{training,validation,testing}.txt
The older release (training/, testing/ with patientNNNN_4CH_sequence.mhd and .raw) is read as well.

Source: Leclerc et al., IEEE TMI 38, 2019. Masks: 0 background, 1 left ventricle, 2 myocardium, 3 left atrium.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from echogen.arrays import ByteArray
from echogen.cine.mhd import read_mhd
from echogen.cine.nifti import read_nifti
from echogen.cine.stored import grey_levels, with_square_pixels
from echogen.errors import InputError
from echogen.records import STRUCTURES, Beat, Cine, Study

#: Names of the splits, as the data set writes them.
SPLITS = ("training", "validation", "testing")
#: Number of patients of each split in the whole data set.
COMPLETE = {"training": 400, "validation": 50, "testing": 50}
#: Names of the views of a `Cine` in the data set.
CHAMBERS = {"A4C": "4CH", "A2C": "2CH"}
#: End of a sentence with the address to get the data.
WHERE = "the data are at https://www.creatis.insa-lyon.fr/Challenge/camus"
_SUFFIXES = (".nii.gz", ".nii", ".mhd")
_SEQUENCES = ("half_sequence", "sequence")
_PATIENT_FOLDERS = ("database_nifti", "training", "testing", "")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CamusInfo:
    """Facts in an Info_*.cfg; a value that it lacks is None.

    ed_frame: Index of the end-diastolic frame, from 0.
    es_frame: Index of the end-systolic frame, from 0.
    fps: Frames per second.
    ef_percent: Ejection fraction in %.
    edv_ml: End-diastolic volume in ml.
    esv_ml: End-systolic volume in ml.
    sex: "m" or "f".
    image_quality: Quality of the picture in the data set's words.
    """

    ed_frame: int
    es_frame: int
    fps: float | None
    ef_percent: float | None
    edv_ml: float | None
    esv_ml: float | None
    sex: str | None
    image_quality: str | None


class Camus:
    """Sequences of CAMUS as studies, patient by patient; a sequence is read when it is asked for.

    outlined: Structures that the masks show; all else is background in them.
    folder: Folder as downloaded, or the folder of the patients.
    split: "training", "validation", "testing" or None for all.
    views: "A4C", "A2C" or both.
    fps: Frames per second where a cfg states none.
    skip_missing: True leaves out listed sequences that are missing (their names are in `missing`); False raises `InputError`.

    A study runs from end-diastole to end-systole: a sequence stored the other way is
    turned. It has masks of every frame where the file has them, no ECG, and pixels made square.
    Raises `InputError` for a file that is missing or malformed, or where nibabel is not installed.
    """

    outlined = ("lv", "myocardium", "la")

    def __init__(
        self,
        folder: str | Path,
        split: str | None = None,
        *,
        views: tuple[str, ...] = ("A4C", "A2C"),
        fps: float | None = None,
        skip_missing: bool = False,
    ) -> None:
        self.folder, self.fps = Path(folder), fps
        if unknown := [view for view in views if view not in CHAMBERS]:
            raise InputError(f"CAMUS has the views {', '.join(CHAMBERS)}, not {unknown[0]!r}; name these.")
        patients = _patients(self.folder)
        chosen = list(patients) if split is None else _read_split(self.folder, split)
        self._places: list[tuple[Path, str, Path]] = []
        self.missing: list[str] = []
        for patient in chosen:
            for view in views:
                path = None if patient not in patients else _find(patients[patient], f"{patient}_{CHAMBERS[view]}", _SEQUENCES)
                if path is None:
                    self.missing.append(f"{patient}_{CHAMBERS[view]}")
                else:
                    self._places.append((patients[patient], view, path))
        if self.missing and not skip_missing:
            raise InputError(
                f"{len(self.missing)} sequences are not in {self.folder} ({self.missing[0]}_half_sequence.nii.gz is the first); "
                f"get them again ({WHERE}) or leave missing ones out."
            )
        if not self._places:
            raise InputError(f"{self.folder} holds no sequence of the split {split or 'asked for'}; {WHERE}.")

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Study]:
        return (self[index] for index in range(len(self)))

    @property
    def names(self) -> list[str]:
        """Name of each study, patientNNNN_4CH or patientNNNN_2CH, in order."""
        return [f"{patient.name}_{CHAMBERS[view]}" for patient, view, _ in self._places]

    def labels(self, index: int) -> dict[str, str]:
        """Name of the patient of the sequence with this index; both views of a patient belong together."""
        return {"patient": self._places[index][0].name}

    def info(self, index: int) -> CamusInfo:
        """Read the cfg of the sequence with this index. Raises `InputError` where it is missing or malformed."""
        patient, view, _ = self._places[index]
        return read_info(patient / f"Info_{CHAMBERS[view]}.cfg")

    def __getitem__(self, index: int) -> Study:
        """Read the study with this index. Raises `InputError` where one of its files is damaged."""
        _, view, path = self._places[index]
        info = self.info(index)
        fps = info.fps or self.fps
        if fps is None:
            raise InputError(f"Info_{CHAMBERS[view]}.cfg beside {path} states no FrameRate; give the frames per second (fps).")
        frames, masks, mm_per_pixel = read_sequence(path, info)
        ed, es = info.ed_frame, info.es_frame
        if ed > es and path.name.removesuffix(_suffix(path)).endswith("half_sequence"):
            frames, ed, es = frames[::-1], len(frames) - 1 - ed, len(frames) - 1 - es
            masks = None if masks is None else masks[::-1]
        times = np.arange(len(frames)) / fps
        beats = (Beat(float(times[ed]), float(times[es]), info.edv_ml, info.esv_ml),) if ed < es else ()
        cine = Cine(np.ascontiguousarray(frames), times, mm_per_pixel, view)
        return Study(None, cine, info.ef_percent, info.sex, beats, None if masks is None else np.ascontiguousarray(masks))


def _patients(folder: Path) -> dict[str, Path]:
    """Folder of each patient, by name."""
    places = [folder / name for name in _PATIENT_FOLDERS if (folder / name).is_dir()]
    found = {path.name: path for place in reversed(places) for path in sorted(place.glob("patient*")) if path.is_dir()}
    if not found:
        raise InputError(f"There are no folders patientNNNN in {folder}; name the folder of CAMUS ({WHERE}).")
    return dict(sorted(found.items()))


def _read_split(folder: Path, split: str) -> list[str]:
    if split not in SPLITS:
        raise InputError(f"CAMUS has the splits {', '.join(SPLITS)}, not {split!r}; name one of these.")
    name = Path("database_split") / f"subgroup_{split}.txt"
    path = next((place / name for place in (folder, folder.parent) if (place / name).is_file()), None)
    if path is None:
        raise InputError(f"There is no {name} in {folder}, so the split {split} is not known; {WHERE}.")
    patients = path.read_text(encoding="utf-8", errors="replace").split()
    if not patients or not all(patient.startswith("patient") for patient in patients):
        raise InputError(f"{path} does not list patients (patient0001 and so on); get the file again ({WHERE}).")
    return patients


def _find(patient: Path, stem: str, kinds: tuple[str, ...]) -> Path | None:
    paths = (patient / f"{stem}_{kind}{suffix}" for kind in kinds for suffix in _SUFFIXES)
    return next((path for path in paths if path.is_file()), None)


def _suffix(path: Path) -> str:
    return next((suffix for suffix in _SUFFIXES if path.name.endswith(suffix)), path.suffix)


def _header(path: Path, where: str) -> dict[str, str]:
    """Read the lines "key: value" of a text file, with keys in lower case."""
    if not path.is_file():
        raise InputError(f"There is no {path.name} in {path.parent}; {where}.")
    lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    pairs = (line.split(":", 1) for line in lines if ":" in line)
    return {key.strip().lower(): value.strip() for key, value in pairs}


def read_info(path: str | Path, where: str = WHERE) -> CamusInfo:
    """Read an Info_2CH.cfg or Info_4CH.cfg, or one of TED.

    path: File of the facts.
    where: End of a message with the address to get the data.
    Raises `InputError` where it is missing, or names no frames ED and ES.
    """
    path = Path(path)
    said = _header(path, where)

    def number(*keys: str) -> float | None:
        for key in keys:
            try:
                value = float(said[key])
            except (KeyError, ValueError):
                continue
            if math.isfinite(value):
                return value
        return None

    ed, es, fps = number("ed"), number("es"), number("framerate")
    if ed is None or es is None or min(ed, es) < 1:
        raise InputError(f"{path} does not name the frames ED and ES, counted from 1; get the file again ({where}).")
    sex = said.get("sex", "").lower()[:1]
    return CamusInfo(
        ed_frame=int(ed) - 1,
        es_frame=int(es) - 1,
        fps=fps if fps and fps > 0 else None,
        ef_percent=number("ef", "lvef"),
        edv_ml=number("lvedv", "edv"),
        esv_ml=number("lvesv", "esv"),
        sex=sex if sex in ("m", "f") else None,
        image_quality=said.get("imagequality"),
    )


def read_sequence(path: Path, info: CamusInfo, where: str = WHERE) -> tuple[ByteArray, ByteArray | None, float | None]:
    """Read frames (T, H, W) uint8 of a sequence, masks (T, H, W) of the file NAME_gt beside it (None without), and mm per pixel.

    path: File of the sequence.
    info: Facts in its cfg.
    where: End of a message with the address to get the data.
    Raises `InputError` as `read_image`, for masks that do not fit, and where the cfg
    names frames that are not there.
    """
    frames, mm_per_pixel = read_image(path, where=where)
    suffix = _suffix(path)
    truth = path.with_name(path.name.removesuffix(suffix) + f"_gt{suffix}")
    masks = read_image(truth, labels=True, where=where)[0] if truth.is_file() else None
    if masks is not None and (masks.shape != frames.shape or masks.max() > STRUCTURES["la"]):
        raise InputError(f"{truth} does not hold the masks (labels 0..3) of {path.name}; get both again ({where}).")
    last = max(info.ed_frame, info.es_frame)
    if last >= len(frames):
        raise InputError(f"The cfg of {path} names frame {last + 1}, but there are {len(frames)}; get both again ({where}).")
    return frames, masks, mm_per_pixel


def read_image(path: str | Path, *, labels: bool = False, where: str = WHERE) -> tuple[ByteArray, float | None]:
    """Read frames (T, H, W) uint8, apex up as on the screen, and mm per pixel (None if not stated) of a NIfTI or MHD file.

    path: File of the frames.
    labels: True for a file of ids, which are never averaged.
    where: End of a message with the address to get the data.

    Pixels that are not square are resampled to squares of the smaller side.
    Raises `InputError` for a file that is missing, damaged or no grey image of 0..255, or where nibabel
    is not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"There is no {path.name} in {path.parent}; {where}.")
    image = read_mhd(path) if path.suffix == ".mhd" else read_nifti(path)
    values = image.values
    if not values.size or not np.isfinite(values).all() or values.min() < 0 or values.max() > 255:
        raise InputError(f"{path} does not hold grey values of 0..255; get the file again ({where}).")
    return with_square_pixels(grey_levels(values), image.width_mm, image.height_mm, labels=labels)

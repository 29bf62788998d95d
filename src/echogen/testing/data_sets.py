"""Fake copies of public data sets: their true layout and faults, with simulated hearts in place of patients."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from echogen.datasets.paired_folder import resize
from echogen.phantom.simulate import simulate
from echogen.records import STRUCTURES, Study

FILE_LIST = ("FileName", "EF", "ESV", "EDV", "FrameHeight", "FrameWidth", "FPS", "NumberOfFrames", "Split")
TRACINGS = ("FileName", "X1", "Y1", "X2", "Y2", "Frame")
CHORDS = 20


@lru_cache
def heart(seed: int, view: str = "A4C", seconds: float = 2.0, fps: float = 25.0) -> Study:
    """Simulated study whose EF in % follows from the seed: 35, 45, 55 or 65."""
    return simulate(seconds=seconds, fps=fps, seed=seed, view=view, ef_percent=35.0 + 10.0 * (seed % 4), heart_rate_bpm=70.0)


def chords(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Lines (21, 4) x1, y1, x2, y2 of a mask as EchoNet-Dynamic traces it: long axis, then horizontal chords from the apex."""
    rows = np.flatnonzero(mask.any(axis=1))
    lines = []
    for row in np.linspace(rows[0], rows[-1], CHORDS).round().astype(int):
        columns = np.flatnonzero(mask[row])
        lines.append((columns[0], row, columns[-1], row) if len(columns) else (0, row, 0, row))
    middles = [(a + c) / 2 for a, _, c, _ in lines]
    axis = (middles[0], rows[0], middles[-1], rows[-1])
    return np.array([axis, *lines], dtype=np.float64)


@dataclass(frozen=True)
class FakeVideo:
    """Video of the fake EchoNet-Dynamic: its name, split, the seed of its heart, and the faults that it has, if any.

    faults: "missing" (listed, not there), "short" (fewer frames than promised), "untraced", "swapped" (the ends of a chord),
    "es_first" (the traced end-systole lies before the traced end-diastole).
    """

    name: str
    split: str = "TEST"
    seed: int = 0
    faults: tuple[str, ...] = ()


def make_echonet_dynamic(folder: Path, videos: list[FakeVideo], size: int = 112) -> Path:
    """Write FileList.csv, VolumeTracings.csv and Videos/*.avi (Motion JPEG at a wrong rate, as echo containers often claim)."""
    (folder / "Videos").mkdir(parents=True)
    listed, traced = [], []
    for video in videos:
        study = heart(video.seed)
        cine, masks, beat = study.cine, study.masks, study.beats[0]
        assert masks is not None
        frames = resize(cine.frames, size)
        ed, es = (int(np.argmin(np.abs(cine.times_s - time))) for time in (beat.ed_s, beat.es_s))
        if "es_first" in video.faults:
            ed = int(np.argmin(np.abs(cine.times_s - study.beats[1].ed_s)))
        promised = len(frames)
        if "short" in video.faults:
            frames = frames[: es + 2]
        numbers = (beat.ef_percent, beat.esv_ml, beat.edv_ml, size, size, cine.fps, promised)
        listed.append((video.name, *numbers, video.split))
        if "missing" not in video.faults:
            write_avi(folder / "Videos" / f"{video.name}.avi", frames)
        for frame in () if "untraced" in video.faults else (es, ed):
            lines = chords(resize(np.asarray(masks[frame] == STRUCTURES["lv"], dtype=np.uint8) * 255, size) > 127)
            if "swapped" in video.faults:
                lines[5] = lines[5][[2, 3, 0, 1]]
            traced += [(f"{video.name}.avi", *(f"{value:.4f}" for value in line), frame) for line in lines]
    for name, header, rows in (("FileList", FILE_LIST, listed), ("VolumeTracings", TRACINGS, traced)):
        with (folder / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([header, *rows])
    return folder


def write_avi(path: Path, frames: NDArray[np.uint8], rate: int = 50) -> None:
    """Write grey frames (T, H, W) as Motion JPEG."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=rate, options={"qmin": "1", "qmax": "2"})
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuvj420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.repeat(frame[..., None], 3, 2), format="rgb24")))
        container.mux(stream.encode())


@dataclass(frozen=True)
class FakePatient:
    """Patient of the fake CAMUS. faults: "reversed" (end-systole first), "no_truth", "no_rate", "no_4ch", "flat_pixels"."""

    name: str
    split: str = "testing"
    seed: int = 0
    faults: tuple[str, ...] = ()


def half_cycle(study: Study) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Frames and masks (T, H, W) from end-diastole to end-systole of the first beat; masks of the labelled structures."""
    times, beat = study.cine.times_s, study.beats[0]
    assert study.masks is not None
    part = (times >= beat.ed_s - 1e-9) & (times <= beat.es_s + 1e-9)
    masks = np.where(study.masks[part] > STRUCTURES["la"], 0, study.masks[part])
    return study.cine.frames[part], masks.astype(np.uint8)


def make_camus(folder: Path, patients: list[FakePatient], *, suffix: str = ".nii.gz", fps: float = 25.0) -> Path:
    """Write database_nifti/patientNNNN with both views, and database_split; .mhd makes the older release in training/."""
    database = folder / ("training" if suffix == ".mhd" else "database_nifti")
    (folder / "database_split").mkdir(parents=True)
    for patient in patients:
        (database / patient.name).mkdir(parents=True)
        for chambers, view in (("4CH", "A4C"), ("2CH", "A2C")):
            if chambers == "4CH" and "no_4ch" in patient.faults:
                continue
            _make_view(database / patient.name, patient, chambers, heart(patient.seed, view, fps=fps), suffix)
    for split in ("training", "validation", "testing"):
        names = [patient.name for patient in patients if patient.split == split]
        (folder / "database_split" / f"subgroup_{split}.txt").write_text("\n".join(names) + "\n")
    return folder


def _make_view(place: Path, patient: FakePatient, chambers: str, study: Study, suffix: str) -> None:
    frames, masks = half_cycle(study)
    if "reversed" in patient.faults:
        frames, masks = frames[::-1], masks[::-1]
    count, spacing = len(frames), (0.7, 0.7)
    if "flat_pixels" in patient.faults:  # twice as many rows of half the height, as in the older release
        frames, masks, spacing = np.repeat(frames, 2, axis=1), np.repeat(masks, 2, axis=1), (0.7, 0.35)
    ed, es = (count, 1) if "reversed" in patient.faults else (1, count)
    ef = study.beats[0].ef_percent
    said = {"ED": ed, "ES": es, "NbFrame": count, "Sex": "F", "Age": 56, "ImageQuality": "Good", "EF": f"{ef:.1f}"}
    if "no_rate" not in patient.faults:
        said["FrameRate"] = f"{study.cine.fps:.1f}"
    (place / f"Info_{chambers}.cfg").write_text("".join(f"{key}: {value}\n" for key, value in said.items()))
    name = f"{patient.name}_{chambers}"
    sequence = "sequence" if suffix == ".mhd" else "half_sequence"
    images = {sequence: frames, f"{sequence}_gt": masks, "ED": frames[ed - 1], "ED_gt": masks[ed - 1]}
    images |= {"ES": frames[es - 1], "ES_gt": masks[es - 1]}
    for kind, values in images.items():
        if not ("no_truth" in patient.faults and kind.endswith("_gt")):
            write_medical(place / f"{name}_{kind}{suffix}", values, spacing)


def write_medical(path: Path, values: NDArray[np.uint8], spacing: tuple[float, float]) -> None:
    """Write frames (T, H, W) or (H, W) as NIfTI (first axis: columns) or as MHD with its raw file."""
    if path.suffix == ".mhd":
        path.with_suffix(".raw").write_bytes(np.ascontiguousarray(values).tobytes())
        sizes = " ".join(str(size) for size in values.shape[::-1])
        sides = " ".join(str(side) for side in (*spacing, 1.0)[: values.ndim])
        path.write_text(
            f"ObjectType = Image\nNDims = {values.ndim}\nDimSize = {sizes}\nElementSpacing = {sides}\n"
            f"ElementType = MET_UCHAR\nElementDataFile = {path.with_suffix('.raw').name}\n"
        )
        return
    import nibabel

    image = nibabel.Nifti1Image(np.ascontiguousarray(values.T), np.eye(4))
    image.header.set_zooms((*spacing, 1.0)[: values.ndim])
    nibabel.save(image, path)

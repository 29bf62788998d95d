"""Simulated hospital: patients in looks that no training saw, in the files that a hospital would export, without any truth.

EXPORT/train/patient-00000/clip.dcm     JPEG-coded DICOM in colour, the ECG drawn into the picture, as every second patient
             patient-00001/clip.mp4     with clip.hea and clip.dat (WFDB, 12 leads) or clip.csv (Apple Watch, lead I) beside it
      held_out/...                      further patients, whom no training sees
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path

import av
import numpy as np
import torch
import wfdb
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit, UltrasoundMultiFrameImageStorage, generate_uid

from echogen.datasets.clip_store import FIRST_TRAINING_SEED
from echogen.ecg.leads import STANDARD_LEADS
from echogen.files import whole_folder
from echogen.phantom.electrical import make_ecg
from echogen.phantom.rhythm import make_rhythm
from echogen.phantom.simulate import Heart, draw_heart, render
from echogen.testing.drawn_traces import AFTER_S, BEFORE_S, ECG_RATE_HZ, Recorded, draw
from echogen.testing.ecg_files.consumer import apple_csv
from echogen.testing.machine_styles import STYLES

#: Looks of the two machines of the hospital; no shipped network saw them.
LOOKS = ("crisp", "dark")
#: Seed of the first patient: none of a benchmark's cases, and none of those of the shipped trainings.
FIRST_SEED = 900_000
SECONDS = 4.0
#: Frame rates of the machines.
RATES = (25, 30, 40, 50)
#: Manners of drawing the ECG that a cardiac machine uses, by number in `STYLES`.
MANNERS = (0, 3, 4, 6, 7, 8)
APPLE_RATE_HZ = 512.0

assert FIRST_SEED + 1000 < FIRST_TRAINING_SEED


def patient(seed: int) -> tuple[Heart, Recorded, NDArray[np.float32]]:
    """Draw a patient: heart, recording with lead II, and 12 leads (12, samples) in mV at `ECG_RATE_HZ` from -`BEFORE_S` on."""
    rng = np.random.default_rng(seed)
    name = str(rng.choice(["sinus", "af", "pvc", "paced"], p=[0.72, 0.12, 0.10, 0.06]))
    rate = float(np.clip(rng.lognormal(np.log(74.0), 0.22), 45, 130))
    rhythm = make_rhythm(name, rate, -BEFORE_S, SECONDS + AFTER_S, rng)
    ecg = make_ecg(rhythm, -BEFORE_S, SECONDS + AFTER_S, rng, rate_hz=ECG_RATE_HZ)
    ef = float(np.clip(rng.normal(52, 14), 18, 76))
    view = "A4C" if rng.random() < 0.65 else "A2C"
    heart = draw_heart(rhythm, rng, ef_percent=ef, view=view, look=LOOKS[seed % 2])
    times = np.arange(round(SECONDS * (fps := int(rng.choice(RATES))))) / fps
    frames = render(heart, times, seed).frames
    lead = ecg.lead("II").astype(np.float64)
    return heart, Recorded(frames, times, lead, -BEFORE_S, rhythm.r_s, rate), ecg.signal_mv


def write_patient(folder: Path, seed: int, number: int) -> None:
    """Write the files of a patient, or nothing where they are there."""
    if folder.exists():
        return
    _, recorded, leads = patient(seed)
    with whole_folder(folder) as target:
        if number % 2 == 0:
            style = replace(STYLES[MANNERS[number // 2 % len(MANNERS)]], width=640, height=480, text=False)
            write_dicom(target / "clip.dcm", draw(recorded, style, seed), recorded.times_s, seed)
            return
        write_mp4(target / "clip.mp4", recorded)
        inside = leads[:, round(BEFORE_S * ECG_RATE_HZ) :]
        if number % 4 == 1:
            wfdb.wrsamp(
                "clip", fs=ECG_RATE_HZ, units=["mV"] * len(leads), sig_name=list(STANDARD_LEADS),
                p_signal=inside.T.astype(np.float64), fmt=["16"] * len(leads), write_dir=str(target),
            )  # fmt: skip
        else:
            times = np.arange(0.0, SECONDS + AFTER_S, 1.0 / APPLE_RATE_HZ)
            lead_i = np.interp(times, np.arange(inside.shape[1]) / ECG_RATE_HZ, inside[STANDARD_LEADS.index("I")])
            (target / "clip.csv").write_bytes(apple_csv(1000.0 * lead_i))


def write_dicom(path: Path, frames: NDArray[np.uint8], times_s: NDArray[np.float64], seed: int) -> None:
    """Write frames (T, height, width, 3) as a scanner does: JPEG, frame time in ms, no scale, an invented patient."""

    def jpeg(frame: NDArray[np.uint8]) -> bytes:
        packed = io.BytesIO()
        Image.fromarray(frame).save(packed, "JPEG", quality=88)
        return packed.getvalue()

    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = UltrasoundMultiFrameImageStorage
    data.SOPInstanceUID = generate_uid(entropy_srcs=[str(seed)])
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data.PatientName, data.PatientID, data.Modality = f"Simulated^{seed}", str(seed), "US"
    data.NumberOfFrames, data.Rows, data.Columns = frames.shape[:3]
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PlanarConfiguration = 3, "YBR_FULL_422", 0
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 8, 8, 7, 0
    data.FrameTime = f"{1000.0 * float(times_s[1]):.6g}"
    data.FrameIncrementPointer = 0x00181063
    data.PixelData = encapsulate([jpeg(frame) for frame in frames])
    data["PixelData"].is_undefined_length = True
    data.save_as(path, enforce_file_format=True)


def write_mp4(path: Path, recorded: Recorded) -> None:
    """Write the frames, three times as large, as H.264."""
    rate = Fraction(round(1.0 / float(recorded.times_s[1])))
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=rate, options={"crf": "16"})
        stream.width = stream.height = 384
        stream.pix_fmt = "yuv420p"
        for grey in recorded.frames:
            large = np.asarray(Image.fromarray(grey).resize((384, 384), Image.Resampling.BICUBIC))
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.repeat(large[..., None], 3, axis=2), format="rgb24")))
        file.mux(stream.encode())


def _one_thread() -> None:
    torch.set_num_threads(1)


def export(folder: Path, learned: int, held_out: int, processes: int) -> Iterator[int]:
    """Write so many patients to learn from and so many held out; yield the number written, as they come."""
    parts = [("train", number) for number in range(learned)] + [("held_out", learned + number) for number in range(held_out)]
    folders = [folder / part / f"patient-{number:05d}" for part, number in parts]
    for part in ("train", "held_out"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    seeds = [FIRST_SEED + number for _, number in parts]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=_one_thread) as pool:
        for done, _ in enumerate(pool.map(write_patient, folders, seeds, [number for _, number in parts])):
            yield done + 1

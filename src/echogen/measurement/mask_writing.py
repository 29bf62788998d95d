"""Outlines as files: NIfTI, NPZ or a DICOM Segmentation object, and the frames of ED and ES as PNG."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from echogen.cine.nifti import write_nifti
from echogen.errors import InputError
from echogen.files import whole_file
from echogen.measurement.dicom_segmentation import segmentation
from echogen.measurement.outlines import Outlines
from echogen.measurement.reading import Reading

#: Suffixes of files of masks.
MASK_SUFFIXES = (".nii", ".nii.gz", ".npz", ".dcm")


def mask_suffix(path: Path) -> str:
    """One of `MASK_SUFFIXES` that a file name ends in. Raises `InputError` for another one."""
    for suffix in (".nii.gz", ".nii", ".npz", ".dcm"):
        if path.name.lower().endswith(suffix):
            return suffix
    raise InputError(f"Masks are written as {', '.join(MASK_SUFFIXES)}, not as {path.name}; name such a file.")


def write_masks(outlines: Outlines, path: Path, source: Path) -> None:
    """Write the chambers on the pixels of the video's own pictures, whole or not at all.

    path: .nii, .nii.gz, .npz (array `masks`, frames x rows x columns; times_s; mm_per_pixel) or .dcm (DICOM Segmentation).
    source: File of the video; a DICOM Segmentation belongs to a DICOM image.
    Raises `InputError` for another suffix or source, or where highdicom or nibabel is needed and not installed.
    """
    suffix, masks, cine = mask_suffix(path), outlines.on_pictures(), outlines.cine
    frames = np.arange(len(cine.frames)) if outlines.frames is None else np.array(outlines.frames)
    times = cine.times_s[frames]
    if suffix == ".npz":
        pixel = np.nan if cine.mm_per_pixel is None else cine.mm_per_pixel
        with whole_file(path) as target:
            np.savez_compressed(target, masks=masks, times_s=times, mm_per_pixel=np.float64(pixel), frames=frames)
    elif suffix == ".dcm":
        held = segmentation(masks, frames, source)
        with whole_file(path) as target:
            held.save_as(target)
    else:
        with whole_file(path) as target:
            write_nifti(replace(cine, frames=masks, times_s=times), target)


def write_phases(outlines: Outlines, reading: Reading, folder: Path) -> list[Path]:
    """Write the frames at ED and ES of each beat as PNG, on the pixels of the video; return their paths.

    folder: Made where it does not exist. Names are beat1_ED.png, beat1_ES.png and so on.
    """
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"The folder {folder} cannot be made: {error.strerror}; name another.") from error
    written = []
    for number, beat in enumerate(reading.beats, start=1):
        for phase, moment in (("ED", beat.ed_s), ("ES", beat.es_s)):
            frame = int(np.argmin(np.abs(outlines.cine.times_s - moment)))
            path = folder / f"beat{number}_{phase}.png"
            with whole_file(path) as target:
                Image.fromarray(outlines.cine.frames[frame]).save(target)
            written.append(path)
    return written

"""Outlines that are given beside a video: NIfTI, NPZ, a folder of PNG masks, or EchoNet's table of traced frames."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from echogen.arrays import ByteArray
from echogen.cine.limits import MAXIMUM_DECODED_BYTES
from echogen.cine.nifti import read_nifti
from echogen.cine.reading import read_image
from echogen.datasets.echonet_dynamic import read_tracings, tracing_outline
from echogen.datasets.tracings import outline_mask
from echogen.errors import InputError
from echogen.measurement.outlines import Outlines
from echogen.records import STRUCTURES, Cine

#: Names of the arrays of an NPZ file that are taken for masks, the first of them that is there.
ARRAYS = ("masks", "outlines", "mask", "labels")


def read_given(path: Path, cine: Cine, name: str) -> Outlines:
    """Read the outlines of a video's chambers.

    path: NIfTI or NPZ (array `masks`) with a mask for each frame; a folder of PNG masks, each with the number of its frame,
    from 0, at the end of its name; or a table VolumeTracings.csv. Pixels are 0 background, 1 left ventricle, 2 myocardium, 3
    left atrium; a mask of 0 and 255 alone is one of the left ventricle. Columns and rows are those of the video's pictures.
    cine: The video. name: Name of the video's file without suffix, by which its rows in a table are found.
    Raises `InputError` for what cannot be read or does not belong to the video.
    """
    if path.is_dir():
        frames, masks = _from_pictures(path, len(cine.frames))
    elif path.suffix.lower() == ".csv":
        frames, masks = _from_tracings(path, cine, name)
    elif path.suffix.lower() == ".npz":
        frames, masks = None, _labels(_npz_array(path), path.name)
    else:
        frames, masks = None, _labels(read_nifti(path).values, path.name)
    if masks.shape[1:] != cine.frames.shape[1:]:
        raise InputError(
            f"The masks in {path.name} have {masks.shape[1]} x {masks.shape[2]} pixels and the video has "
            f"{cine.frames.shape[1]} x {cine.frames.shape[2]}; give masks on the pixels of the video."
        )
    if frames is None and len(masks) != len(cine.frames):
        raise InputError(f"{path.name} holds {len(masks)} masks for {len(cine.frames)} frames; give one for each frame.")
    return Outlines(cine, masks, None if frames is None or len(frames) == len(cine.frames) else frames)


def _labels(values: NDArray[np.generic], name: str) -> ByteArray:
    """(T, H, W) uint8 chamber ids. Raises `InputError` for other values or shapes."""
    if values.ndim == 2:
        values = values[None]
    if values.ndim != 3 or values.dtype.kind not in "fiub" or not values.size:
        raise InputError(f"{name} holds no masks; it needs whole numbers, frames x rows x columns.")
    found = np.unique(values)
    if set(found.tolist()) <= {0, 255} and 255 in found:
        return (values == 255).astype(np.uint8) * np.uint8(STRUCTURES["lv"])
    if not set(found.tolist()) <= set(STRUCTURES.values()):
        raise InputError(
            f"{name} holds other values than masks do; use 0 background, 1 left ventricle, 2 myocardium, 3 left atrium."
        )
    return values.astype(np.uint8)


def _npz_array(path: Path) -> NDArray[np.generic]:
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > MAXIMUM_DECODED_BYTES:
            raise InputError(f"{path.name} is too large; give masks of at most {MAXIMUM_DECODED_BYTES / 1e9:.0f} GB.")
        with np.load(path, allow_pickle=False) as held:
            for name in ARRAYS:
                if name in held.files:
                    return np.asarray(held[name])
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{path.name} is damaged or no NPZ file; write it again.") from error
    raise InputError(f"{path.name} holds none of the arrays {', '.join(ARRAYS)}; name the masks so.")


def _from_pictures(folder: Path, count: int) -> tuple[tuple[int, ...], ByteArray]:
    """Frame numbers and masks of the PNG files in a folder; of a pair NAME_ED, NAME_ES the first and the last frame."""
    by_frame: dict[int, Path] = {}
    for path in sorted(folder.glob("*.png")):
        phase = re.search(r"(?:^|[_-])(ED|ES)(?:[_-](?:gt|mask))?$", path.stem, re.IGNORECASE)
        number = re.search(r"(\d+)$", path.stem)
        if phase:
            frame = 0 if phase[1].upper() == "ED" else count - 1
        elif number:
            frame = int(number[1])
        else:
            raise InputError(f"The name of {path.name} ends in no frame number, ED or ES; rename the mask.")
        if frame >= count or frame in by_frame:
            raise InputError(f"{path.name} names frame {frame}, which the video lacks or another mask has; rename it.")
        by_frame[frame] = path
    if len(by_frame) < 2:
        raise InputError(f"{folder} holds fewer than two PNG masks; give one at ED and one at ES, or one for each frame.")
    masks = [_labels(read_image(by_frame[frame]), by_frame[frame].name)[0] for frame in sorted(by_frame)]
    if len({mask.shape for mask in masks}) > 1:
        raise InputError(f"The masks in {folder} differ in size; give masks on the pixels of the video.")
    return tuple(sorted(by_frame)), np.stack(masks)


def _from_tracings(table: Path, cine: Cine, name: str) -> tuple[tuple[int, ...], ByteArray]:
    traced = read_tracings(table).get(name, {})
    if len(traced) < 2:
        raise InputError(f"{table.name} has no two traced frames of {name}; give the table of this video.")
    if max(traced) >= len(cine.frames):
        raise InputError(f"{table.name} names frame {max(traced)} of {name}, which has {len(cine.frames)}; get the video again.")
    height, width = cine.frames.shape[1:]
    masks = [outline_mask(tracing_outline(np.asarray(traced[frame])), height, width) for frame in sorted(traced)]
    return tuple(sorted(traced)), np.stack(masks).astype(np.uint8) * np.uint8(STRUCTURES["lv"])

"""True answers about a window's pictures: the cavity in cells, its length and width, and beats; from truth or from outlines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from echogen.arrays import ByteArray, Floats
from echogen.datasets.canonical_samples import outlined_frames
from echogen.datasets.clip_store import cavity_cells
from echogen.ecg_window.beats import Beats, find_beats
from echogen.errors import InputError
from echogen.measurement.geometry import lv_geometry
from echogen.records import STRUCTURES, UNLABELLED
from echogen.training.source.window import Window


def covered_cells(window: Window) -> ByteArray | None:
    """Share 0..255 (frames, 32, 32) of each cell that the cavity covers; None unless all frames are outlined."""
    if "cavity" in window.maps:
        return np.asarray(window.maps["cavity"], dtype=np.uint8)
    if window.masks is None or not outlined_frames(window.masks).all():
        return None
    return cavity_cells(window.masks == STRUCTURES["lv"])


def cavity_outline(window: Window) -> Floats:
    """Length and width (frames, 2) of the cavity in pixels of the canonical picture; the width is area over length.

    nan in frames in which they are not known.
    """
    if "outline" in window.maps:
        return np.asarray(window.maps["outline"], dtype=np.float64)
    found = np.full((len(window.times_s), 2), np.nan)
    if window.masks is None:
        return found
    outlined = outlined_frames(window.masks)
    if outlined.any():
        area, length = lv_geometry(window.masks[outlined], 1.0)
        found[outlined] = np.stack([length, area / length], axis=1)
    return found


def loss_labels(window: Window, frame: int) -> tuple[ByteArray, np.ndarray]:
    """Ids (height, width) of a frame of a window, and which structures its outlines tell apart, (`STRUCTURES`,) True.

    A structure that nobody outlined is background in the masks, so it cannot be told from background. Raises `InputError` for a
    frame that nobody outlined.
    """
    if window.masks is None or window.masks[frame, 0, 0] == UNLABELLED:
        raise InputError(f"Frame {frame} of a window of {window.key} has no outlines.")
    outlined = window.labels.get("outlined")
    told = np.array([outlined is None or name in outlined for name in STRUCTURES])
    told[STRUCTURES["background"]] = True
    return window.masks[frame], told


def beats_of_window(window: Window) -> Beats:
    """Beats of the sample of a window: those of a simulated heart, or those that are found in all of its ECG.

    Raises `InputError` for an ECG without a QRS complex.
    """
    known: Mapping[str, Any] = window.labels
    if "qrs_onset_s" in known:
        p_onset = np.array([np.nan if value is None else value for value in known["p_onset_s"]], dtype=np.float64)
        r, onset = (np.asarray(known[name], dtype=np.float64) for name in ("r_s", "qrs_onset_s"))
        return Beats(r, onset, p_onset, np.asarray(known["wide_qrs"], dtype=bool))
    if window.ecg is None or window.recording is None:
        raise InputError(f"{window.key} has no ECG around a window.")
    return find_beats(window.recording)


def wall_contrast_of(window: Window) -> float | None:
    """Contrast of wall and cavity in a window's first outlined frame: the wall's lower quartile minus the cavity's mean, in grey.

    None where the source does not know its pictures without speckle, or no frame is outlined.
    """
    if "structure" not in window.maps or window.masks is None or not outlined_frames(window.masks).any():
        return None
    frame = int(np.argmax(outlined_frames(window.masks)))
    labels, picture = window.masks[frame], window.maps["structure"][frame].astype(np.float64)
    cavity, wall = (picture[labels == STRUCTURES[name]] for name in ("lv", "myocardium"))
    return float(np.percentile(wall, 25) - cavity.mean()) if cavity.size and wall.size else 0.0

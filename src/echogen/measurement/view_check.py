"""Refusal of pictures that the reader never learned from: views other than apical ones, and colour or tissue Doppler."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from echogen.arrays import ByteArray, Floats, Mask
from echogen.cine.colour import read_colour
from echogen.cine.sector import find_sector
from echogen.errors import InputError
from echogen.measurement.apical import share_brighter
from echogen.measurement.segmentation import segment
from echogen.measurement.shipped import load_segmenter
from echogen.networks.segmenter import Segmenter
from echogen.records import STRUCTURES

#: Sentence about a picture that is no apical view.
OTHER_VIEW = (
    "This does not look like an apical four- or two-chamber view: the outlines found in it are no ventricle with its wall "
    "around it and its atrium below. Give such a view; nothing is measured in others."
)
#: Sentence about a picture in colour.
DOPPLER = "This is colour or tissue Doppler, in which no outlines are drawn; give the same view without colour."

#: The shipped network that tells other views.
JUDGE = "segmenter"
#: Frames that are looked at. They lie far apart, and the network takes them for neighbours: where there is no ventricle that
#: it knows, its outlines then fall apart sooner than those of an apical view.
_FRAMES = 9
#: Outlines that raise no doubt and those that raise a whole one, in the order of `_plausibility`. Simulated hearts raise none.
_PLAUSIBLE = np.array([0.05, 0.025, 0.70, 0.70, 0.75, 0.50])
_IMPLAUSIBLE = np.array([0.03, 0.010, 0.50, 0.20, 0.50, 0.25])
#: Weights of these doubts: a ventricle that is hardly found counts twice.
_WEIGHTS = np.array([2.0, 1.0, 1.0, 1.0, 1.0, 1.0])
#: Sum of doubts from which a picture is refused: 228 patients in apical views reach at most 2.2, four in parasternal views at
#: least 2.5, simulated hearts at most 0.7.
_LEAST_DOUBT = 2.4
_SMOOTHING = 1.5
#: Least brightness and saturation of a coloured pixel, and largest saturation of a grey one.
_BRIGHT, _SATURATED, _GREY = 60, 0.4, 0.12
#: Rows, as a share of the picture's, below which what is coloured is a line or a letter.
_THIN = 1 / 60
#: Least share of the sector's bright pixels that Doppler colours: fewer are marks.
_MARKS = 0.03
#: Least share of the bright pixels that are grey beside Doppler; the tint of a whole picture leaves none.
_GREY_SHARE = 0.1
#: Distance of two hues in degrees that no tint has, and least share of the coloured pixels that are so far from the usual hue.
_OTHER_HUE, _OTHER_SHARE = 60.0, 0.1


def other_view(frames: ByteArray, segmenter: Segmenter | None = None) -> str | None:
    """A sentence where a picture is no apical view, else None.

    frames: uint8 (T, 128, 128) in the canonical geometry; at most nine of them are looked at.
    segmenter: Network whose outlines are judged: the ventricle's size, the wall around it, the atrium's size and place, and the
        agreement with the outlines of the mirrored picture. None is the shipped segmenter, for which the limits were set; the
        reader, which was taught more kinds of pictures, finds a ventricle in parasternal views, too.
    """
    chosen = frames[np.unique(np.linspace(0, len(frames) - 1, _FRAMES).astype(int))]
    segmenter = segmenter or load_segmenter(JUDGE)
    masks = segment(chosen, segmenter)
    mirrored = segment(np.ascontiguousarray(chosen[..., ::-1]), segmenter)[..., ::-1]
    return OTHER_VIEW if _doubt(_plausibility(chosen, masks, mirrored)) >= _LEAST_DOUBT else None


def _doubt(plausibility: Floats) -> float:
    """Sum of the doubts that outlines raise."""
    share = (_PLAUSIBLE - plausibility) / (_PLAUSIBLE - _IMPLAUSIBLE)
    return float((_WEIGHTS * np.clip(share, 0.0, 1.0)).sum())


def _plausibility(frames: ByteArray, masks: ByteArray, mirrored: ByteArray) -> Floats:
    """Six numbers that are high for the outlines (T, 128, 128) of an apical view, given those of the mirrored pictures.

    Areas of the left ventricle and of its atrium, as shares of the picture; share of the ventricle's rim that is wall; distance
    of the atrium below the ventricle, in square roots of the ventricle's area; share of pairs in which the wall's pixel is
    brighter than the atrium's; Dice overlap of the wall with that of the mirrored pictures.
    """
    lv, wall, la = (masks == STRUCTURES[name] for name in ("lv", "myocardium", "la"))
    other_wall = mirrored == STRUCTURES["myocardium"]
    smooth = np.stack([ndimage.gaussian_filter(frame.astype(np.float32), _SMOOTHING) for frame in frames])
    return np.array(
        [
            np.median(lv.mean(axis=(1, 2))),
            np.median(la.mean(axis=(1, 2))),
            np.median([ring(*pair) for pair in zip(lv, wall, strict=True)]),
            np.median([_below(*pair) for pair in zip(lv, la, strict=True)]),
            share_brighter(smooth[wall], smooth[la]),
            2.0 * (wall & other_wall).sum() / max(1, int(wall.sum() + other_wall.sum())),
        ]
    )


def ring(lv: Mask, wall: Mask) -> float:
    """Share of the two pixels around a ventricle that are wall; 0 without a ventricle."""
    rim = ndimage.binary_dilation(lv, iterations=2) & ~lv
    return float((wall & rim).sum() / max(1, int(rim.sum())))


def _below(lv: Mask, la: Mask) -> float:
    """Rows from the middle of the ventricle to that of the atrium, in square roots of the ventricle's area; 0 without one."""
    if not (lv.any() and la.any()):
        return 0.0
    return float((np.nonzero(la)[0].mean() - np.nonzero(lv)[0].mean()) / np.sqrt(lv.sum()))


def doppler(frames: ByteArray) -> str | None:
    """A sentence where a cine shows colour or tissue Doppler, else None.

    frames: (T, H, W, 3) uint8 RGB, as stored; at most nine of them are looked at. Part of the sector is coloured, or all of it
    in several hues; a tint of the whole picture, marks and a drawn ECG are not taken for it.
    Raises `InputError` for coloured frames that show no sector.
    """
    chosen = frames[np.unique(np.linspace(0, len(frames) - 1, _FRAMES).astype(int))]
    highest, lowest = chosen.max(axis=-1).astype(np.float32), chosen.min(axis=-1)
    saturation = (highest - lowest) / np.maximum(highest, 1.0)
    if not ((highest > _BRIGHT) & (saturation > _SATURATED)).any():
        return None
    inside = find_sector(chosen.max(axis=-1)).inside(*chosen.shape[1:3])
    bright = (highest > _BRIGHT) & inside
    thin = max(3, round(_THIN * chosen.shape[1]))
    coloured = ndimage.binary_opening(bright & (saturation > _SATURATED), structure=np.ones((1, thin, thin)))
    count = max(1, int(bright.sum()))
    if coloured.sum() < _MARKS * count:
        return None
    beside = (bright & (saturation < _GREY)).sum() > _GREY_SHARE * count
    return DOPPLER if beside or _other_hues(chosen[coloured].astype(np.float32)) > _OTHER_SHARE else None


def doppler_in_file(path: Path, fps: float | None = None) -> str | None:
    """A sentence where a file shows colour or tissue Doppler, else None; None too where it is too large in colour.

    path, fps: as `read_colour` takes them.
    """
    try:
        return doppler(read_colour(path, fps=fps).frames)
    except InputError:
        return None


def _other_hues(pixels: NDArray[np.float32]) -> float:
    """Share of (n, 3) pixels whose hue is far from the mean one."""
    red, green, blue = pixels.T
    hue = np.exp(1j * np.arctan2(np.sqrt(3.0) * (green - blue), 2.0 * red - green - blue))
    return float((np.abs(np.angle(hue / hue.mean(), deg=True)) > _OTHER_HUE).mean())

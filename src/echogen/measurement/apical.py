"""Check that a picture is an apical view, by the brightness of the segmenter's walls and cavities."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from echogen.arrays import ByteArray
from echogen.measurement.segmentation import segment
from echogen.networks.segmenter import Segmenter
from echogen.records import STRUCTURES

#: Least share of pairs in which the wall's pixel is brighter than the cavity's: in three real apical recordings 0.82 (ventricle)
#: and 0.79 (atrium), in phantoms 0.80 and 0.87; in a sector of mere speckle or with a heart that lies across, at most 0.53.
LEAST_SHARE = 0.6
_FRAMES = 5
_COMPARED = 500
_SMOOTHING = 1.5
DOUBT = (
    "This may be no apical view: what would be the walls of its ventricle is hardly brighter than what would be its cavities. "
    "Give an apical four- or two-chamber view; what is made or measured of this one means nothing."
)


def apical_doubt(frames: ByteArray, segmenter: Segmenter) -> str | None:
    """A sentence where a picture does not look like an apical view, else None.

    frames: uint8 (T, 128, 128) in the canonical geometry; at most five of them are looked at. The segmenter outlines a heart in
    everything; only where there is one do its outlines follow what is bright and dark. A short-axis ring that happens to lie
    where the ventricle is expected is not noticed.
    """
    chosen = frames[np.unique(np.linspace(0, len(frames) - 1, _FRAMES).astype(int))]
    masks = segment(chosen, segmenter)
    smooth = np.stack([ndimage.gaussian_filter(frame.astype(np.float32), _SMOOTHING) for frame in chosen])
    wall = smooth[masks == STRUCTURES["myocardium"]]
    for cavity in ("lv", "la"):
        if share_brighter(wall, smooth[masks == STRUCTURES[cavity]]) < LEAST_SHARE:
            return DOUBT
    return None


def share_brighter(wall: np.ndarray, cavity: np.ndarray) -> float:
    """Share of pairs in which the wall is brighter, of up to 500 evenly spaced ranks each; 0 where one is empty."""
    if not (wall.size and cavity.size):
        return 0.0
    ranks = np.linspace(0, 1, _COMPARED)
    return float((np.quantile(wall, ranks)[:, None] > np.quantile(cavity, ranks)[None]).mean())

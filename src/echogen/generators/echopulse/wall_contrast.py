"""Contrast of a drawn ventricle: how much brighter the wall is than the cavity that it encloses."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from echogen.arrays import Floats

#: Distance in pixels from the cavity at which the wall begins: nearer lies the blurred edge.
NEAR_PX = 1.5
#: Distance in pixels from the cavity up to which the wall is looked for: about its thickness.
FAR_PX = 7.0
#: Percentile of the wall's grey levels that counts: its darkest parts, so that a wall missing somewhere is noticed.
DARKEST_PERCENT = 30.0
#: Smallest cavity in pixels; less is noise of the cells.
LEAST_CAVITY_PX = 200


def wall_contrast(structure: Floats, cells: Floats) -> float:
    """Grey levels by which the wall's darkest parts are brighter than the cavity, in a picture (height, width) without speckle.

    cells: (rows, columns) share of each square cell that is cavity, 0..1. Minus infinity without a cavity.
    """
    cavity = ndimage.zoom(cells, structure.shape[0] / cells.shape[0], order=1) > 0.5
    if cavity.sum() < LEAST_CAVITY_PX:
        return -np.inf
    distance = ndimage.distance_transform_edt(~cavity)
    wall = structure[(distance > NEAR_PX) & (distance < FAR_PX)]
    return float(np.percentile(wall, DARKEST_PERCENT) - np.median(structure[cavity]))

"""How well a drawn heart can be seen: how much brighter the wall is than the cavity that it encloses."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from echogen.arrays import Floats

#: The wall is looked for between these distances from the cavity, in pixels; its darkest parts count.
NEAR_PX, FAR_PX, DARKEST_PERCENT = 1.5, 7.0, 30.0
#: A smaller cavity, in pixels, is none.
LEAST_CAVITY_PX = 200


def wall_contrast(structure: Floats, cells: Floats) -> float:
    """Grey levels by which the wall's darkest parts are brighter than the cavity in a picture (H, W) without speckle.

    cells: how much of each of its square cells (rows, columns) is cavity, 0..1. A wall that is missing somewhere makes it small;
    without a cavity it is minus infinity.
    """
    cavity = ndimage.zoom(cells, structure.shape[0] / cells.shape[0], order=1) > 0.5
    if cavity.sum() < LEAST_CAVITY_PX:
        return -np.inf
    distance = ndimage.distance_transform_edt(~cavity)
    wall = structure[(distance > NEAR_PX) & (distance < FAR_PX)]
    return float(np.percentile(wall, DARKEST_PERCENT) - np.median(structure[cavity]))

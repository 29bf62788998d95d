"""Names for the array types that all parts use."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: 64-bit floating-point numbers: times, volumes, curves.
Floats = NDArray[np.float64]
#: True or false for each element, such as the pixels of one chamber.
Mask = NDArray[np.bool_]
#: 8-bit numbers: grey levels, or the structure at each pixel.
ByteArray = NDArray[np.uint8]

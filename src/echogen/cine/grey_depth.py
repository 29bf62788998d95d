"""Grey values of more than eight bits as bytes, by the bits that a file really uses."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from echogen.arrays import ByteArray

#: Depths in bits that machines use inside wider words.
_DEPTHS = (8, 10, 12, 14, 16)


def as_bytes(values: NDArray[np.generic], stored_bits: int, name: str) -> tuple[ByteArray, tuple[str, ...]]:
    """Grey levels of any integer type as uint8 of the same shape, and a note where fewer bits are used than stated.

    values: whole numbers of all frames of a file; negative ones are shifted up. stored_bits: what the file states. A file whose
    largest value needs fewer bits is taken to use that many of them, so that it is not black. name: of the file, for the note.
    """
    low, high = min(int(values.min()), 0), int(values.max())
    needed = (high - low).bit_length()
    used = min(next((depth for depth in _DEPTHS if depth >= needed), stored_bits), max(stored_bits, 1))
    scale = 255.0 / (2**used - 1)
    if needed <= _DEPTHS[-1]:
        table = np.clip(np.arange(high - low + 1) * scale, 0, 255).round().astype(np.uint8)
        grey = table[values.astype(np.int64) - low if low < 0 else values]
    else:
        grey = np.clip((values.astype(np.float64) - low) * scale, 0, 255).round().astype(np.uint8)
    if used == stored_bits or high == low:
        return grey, ()
    return grey, (f"{name} states {stored_bits} bits a pixel and uses {used}: its grey levels were spread over those {used}.",)

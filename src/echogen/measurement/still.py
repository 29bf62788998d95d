"""Outlines of the chambers in one still, at its own resolution."""

from __future__ import annotations

from echogen.arrays import ByteArray
from echogen.cine.sector import canonical_view
from echogen.errors import InputError
from echogen.measurement.segmentation import segment
from echogen.measurement.shipped import load_segmenter
from echogen.measurement.view_check import other_view

#: Network that outlines the still: the one that also reads patients.
STILL_READER = "reader"


def outline_still(still: ByteArray, network: str = STILL_READER) -> ByteArray:
    """Return the ids of `STRUCTURES` (height, width) in a grey still of any size (height, width) uint8.

    network: shipped network that outlines. Raises `InputError` for a picture that shows no sector or no apical view.
    """
    view = canonical_view(still)
    small, reader = view.frames(still)[None], load_segmenter(network)
    if refusal := other_view(small, reader):
        raise InputError(refusal)
    return view.recorded_masks(segment(small, reader)[0], *still.shape)

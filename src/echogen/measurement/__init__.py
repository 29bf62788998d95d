"""From echo video to numbers: segment, volume curve, beats, EF and times."""

from echogen.measurement.beats import ES_OFFSET_S, find_beats, smooth_volume
from echogen.measurement.geometry import lv_geometry
from echogen.measurement.reading import Reading, measure, read_masks
from echogen.measurement.segmentation import segment, without_islands
from echogen.measurement.shipped import load_segmenter, truth_error

__all__ = [
    "ES_OFFSET_S",
    "Reading",
    "find_beats",
    "load_segmenter",
    "lv_geometry",
    "measure",
    "read_masks",
    "segment",
    "smooth_volume",
    "truth_error",
    "without_islands",
]

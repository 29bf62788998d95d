"""Labels that a data set lacks, filled in by the shipped reader and marked as measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from echogen.cine.sector import canonical_view
from echogen.datasets.shards import Sample
from echogen.errors import InputError
from echogen.measurement.reading import read_masks
from echogen.measurement.segmentation import segment, without_islands
from echogen.measurement.shipped import load_segmenter
from echogen.measurement.view_check import doppler_in_file, other_view
from echogen.networks.segmenter import Segmenter

#: Network that measures: the one that is best on pictures of patients.
READER = "reader"
#: Distance of end-systoles in s up to which a measured beat is one that the data set states.
SAME_BEAT_S = 0.3


def with_measured_labels(sample: Sample, *, further_beats: bool = False, file: Path | None = None) -> Sample:
    """Sample with masks, beats and EF, those that it lacks measured by the reader.

    sample: Sample with a cine.
    further_beats: Measure the beats of the video beside those that the data set states, too.
    file: File of the video, whose colours show Doppler; None where it is not known.

    The label "measured" names what was measured, "measured_by" the network; "not_measured" says why something could not be, for
    instance in a clip shorter than a beat, or in another view than an apical one. Labels that the data set states stay as they
    are. Raises `InputError` for a sample without a cine.
    """
    if sample.cine is None:
        raise InputError(f"{sample.key} holds no echo video, so nothing can be measured in it; leave --labels out.")
    has_beats, has_ef = bool(sample.labels.get("beats")), sample.labels.get("ef_percent") is not None
    if sample.masks is not None and has_beats and has_ef and not further_beats:
        return sample
    cine, measured = sample.cine, []
    labels: dict[str, Any] = dict(sample.labels)
    try:
        view = canonical_view(cine.frames)
        shown = view.frames(cine.frames)
    except InputError as error:
        return replace(sample, labels=labels | {"not_measured": str(error)})
    # Only the colours matter, so any rate does for a file that states none.
    if file is not None and (refusal := doppler_in_file(file, fps=25.0)):
        return replace(sample, labels=labels | {"not_measured": refusal})
    # One still is not enough to tell views apart.
    if len(shown) > 1 and (refusal := other_view(shown)):
        return replace(sample, labels=labels | {"not_measured": refusal})
    found = without_islands(segment(shown, _reader()))
    masks = sample.masks
    if masks is None:
        masks = view.recorded_masks(found, *cine.frames.shape[1:])
        measured.append("masks")
    try:
        mm_per_pixel = None if cine.mm_per_pixel is None else cine.mm_per_pixel * view.factor
        reading = read_masks(found, cine.times_s, mm_per_pixel)
        stated = list(labels.get("beats") or ())
        fractions = zip(reading.beats, reading.beat_ef_percent, strict=True)
        new = [{**asdict(beat), "ef_percent": ef} for beat, ef in fractions if _apart(beat.es_s, stated)]
        if new and (further_beats or not has_beats):
            labels["beats"] = sorted([*stated, *new], key=lambda beat: float(beat["ed_s"]))
            measured.append("further_beats" if has_beats else "beats")
        if not has_ef and reading.ef_percent is not None:
            labels["ef_percent"] = reading.ef_percent
            measured.append("ef_percent")
        if not reading.beats:
            labels["not_measured"] = "No whole beat lies within the video."
    except InputError as error:
        labels["not_measured"] = str(error)
    return replace(sample, masks=masks, labels=labels | {"measured": measured, "measured_by": READER})


def _apart(es_s: float, stated: Sequence[Mapping[str, Any]]) -> bool:
    """True for an end-systole that is none of a stated beat."""
    return all(abs(es_s - float(beat["es_s"])) > SAME_BEAT_S for beat in stated)


@lru_cache(maxsize=1)
def _reader() -> Segmenter:
    return load_segmenter(READER)

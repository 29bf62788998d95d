"""The parts of a sample that tasks need, and the sentences for a source that lacks them."""

from __future__ import annotations

from dataclasses import dataclass

from echogen.datasets.canonical_samples import outlined_frames
from echogen.datasets.shards import Sample
from echogen.ecg.leads import STANDARD_LEADS
from echogen.errors import InputError
from echogen.records import Ecg

#: Parts that a sample may have, each with the sentence that tells how to get it.
PARTS = {
    "frames": "give echo videos: a data set with cines, a folder of videos, shards of them, or `phantom`",
    "ecg": (
        "prepare it with `echogen prepare --ecg drawn` where the ECG is part of the picture, "
        "or give a source with ECGs on the clock of the video"
    ),
    "ef": "prepare it with `echogen prepare --labels measured`, which measures the EF, or give a data set that states it",
    "masks": "prepare it with `echogen prepare --labels measured`, which outlines the chambers, or give a data set with masks",
    "twelve_leads": "give an archive of 12-lead ECGs, or `phantom`",
    "beats": "prepare it with `echogen prepare --labels measured`, which finds the beats, or give a data set that states them",
    "structure": "only the phantom knows its picture without speckle: give `phantom` or a clip store",
    "displacement": "only the phantom knows how its tissue moves: give `phantom` or a clip store",
}


@dataclass(frozen=True)
class Needs:
    """Parts (names of `PARTS`) that a task's windows must have, and those it takes where they are there.

    needed: Parts without which a sample is of no use to the task.
    optional: Parts that are dropped, like a condition that is not given, where a sample lacks them.
    """

    needed: frozenset[str]
    optional: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        unknown = sorted((self.needed | self.optional) - set(PARTS))
        if unknown:
            raise InputError(f"A sample has no part {unknown[0]!r}; its parts are {', '.join(PARTS)}.")


def parts_of(sample: Sample) -> frozenset[str]:
    """Names of the parts that a sample has."""
    synchronous = sample.labels.get("synchronous", True) is not False
    there = {
        "frames": sample.cine is not None and len(sample.cine.frames) > 0,
        "ecg": sample.ecg is not None and (sample.cine is None or synchronous),
        "twelve_leads": sample.ecg is not None and _has_twelve_leads(sample.ecg),
        "ef": sample.labels.get("ef_percent") is not None,
        "masks": sample.masks is not None and bool(outlined_frames(sample.masks).any()),
        "beats": bool(sample.labels.get("beats")),
        "structure": "structure" in sample.maps,
        "displacement": "displacement" in sample.maps,
    }
    return frozenset(name for name, present in there.items() if present)


def _has_twelve_leads(ecg: Ecg) -> bool:
    """True for an ECG with all twelve standard leads."""
    names = {name.upper() for name in ecg.lead_names}
    return all(name.upper() in names for name in STANDARD_LEADS)


def lacking_sentence(source: str, lacking: frozenset[str]) -> str:
    """One sentence about a source that lacks parts, and the way to get the first of them."""
    part = next(name for name in PARTS if name in lacking)
    apart = " on the clock of its videos" if part == "ecg" else ""
    return f"The source {source} has no {part.replace('_', ' ')}{apart}; {PARTS[part]}."

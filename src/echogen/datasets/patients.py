"""Patients of samples, by which all splits are made."""

from __future__ import annotations

import hashlib

from echogen.datasets.shards import Sample

#: Labels that may name a patient, the first that is there counts.
LABELS = ("patient", "patient_id", "subject_id", "subject", "exam")
#: Parts into which patients are divided by their hash; a training holds out the first ones.
BUCKETS = 10_000


def patient_of(sample: Sample) -> str:
    """Name of a sample's patient by its labels, else the sample's key."""
    for name in LABELS:
        if sample.labels.get(name) is not None:
            return str(sample.labels[name])
    return sample.key


def hash_of(text: str) -> int:
    """A number from a text, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def group_of(name: str, groups: int) -> int:
    """Group 0..groups-1 of a patient's name: runs of buckets, so that patients held out for training fill whole groups first."""
    return hash_of(name) % BUCKETS * groups // BUCKETS

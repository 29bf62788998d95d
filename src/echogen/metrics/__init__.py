"""Scores of a video: timing against an ECG, ejection fraction, picture likeness, speckle."""

from echogen.metrics.heart.ejection import EjectionReport, ejection_report
from echogen.metrics.heart.timing import TimingReport, match_beats, shuffled_beats, timing_report
from echogen.metrics.pictures.speckle import SpeckleStatistics, speckle_statistics

__all__ = [
    "EjectionReport",
    "SpeckleStatistics",
    "TimingReport",
    "ejection_report",
    "match_beats",
    "shuffled_beats",
    "speckle_statistics",
    "timing_report",
]

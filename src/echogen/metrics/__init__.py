"""What scores a video: timing against an ECG, ejection fraction, picture likeness, speckle."""

from echogen.metrics.ejection import EjectionReport, ejection_report
from echogen.metrics.speckle import SpeckleStatistics, speckle_statistics
from echogen.metrics.timing import TimingReport, match_beats, shuffled_beats, timing_report

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

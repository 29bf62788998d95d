"""Scores of a video: timing against an ECG, ejection fraction, picture likeness, speckle.

The names here are the public functions for clips in memory; `echogen.evaluate` runs all metrics over folders.
"""

from echogen.metrics.heart.agreement import (
    cycle_correlation,
    delay_errors,
    ectopic_response,
    phase_errors,
    shift_response,
)
from echogen.metrics.heart.ejection import EjectionReport, ejection_report, reconstructed_ejection
from echogen.metrics.heart.timing import TimingReport, match_beats, shuffled_beats, timing_report
from echogen.metrics.heart.volumes import biplane_ef_percent, ef_of_masks
from echogen.metrics.pictures.speckle import SpeckleStatistics, speckle_statistics

__all__ = [
    "EjectionReport",
    "SpeckleStatistics",
    "TimingReport",
    "biplane_ef_percent",
    "cycle_correlation",
    "delay_errors",
    "ectopic_response",
    "ef_of_masks",
    "ejection_report",
    "match_beats",
    "phase_errors",
    "reconstructed_ejection",
    "shift_response",
    "shuffled_beats",
    "speckle_statistics",
    "timing_report",
]

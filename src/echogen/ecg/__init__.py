"""ECGs: reading every format, cleaning, landmarks, lead choice and signal quality."""

from echogen.ecg.filters import clean, resample
from echogen.ecg.formats import EcgInfo, ecg_info, read_around_gaps, read_ecg
from echogen.ecg.landmarks import Landmarks, find_landmarks
from echogen.ecg.quality import Quality, choose_lead, lead_signal, signal_quality

__all__ = [
    "EcgInfo",
    "Landmarks",
    "Quality",
    "choose_lead",
    "clean",
    "ecg_info",
    "find_landmarks",
    "lead_signal",
    "read_around_gaps",
    "read_ecg",
    "resample",
    "signal_quality",
]

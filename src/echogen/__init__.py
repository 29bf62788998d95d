"""echogen: echocardiogram video from an electrocardiogram, and measurements of what was made."""

from echogen.errors import InputError
from echogen.records import Beat, Cine, Conditions, Ecg, Study

__version__ = "0.1.0"

__all__ = ["Beat", "Cine", "Conditions", "Ecg", "InputError", "Study"]

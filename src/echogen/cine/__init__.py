"""Echo video: reading, writing, the sector, and the ECG strip under it."""

from echogen.cine.reading import read_cine, read_image
from echogen.cine.sector import Sector, find_sector, to_sector
from echogen.cine.strip import EcgStrip, filmstrip
from echogen.cine.timing import resample_frames
from echogen.cine.writing import write

__all__ = ["EcgStrip", "Sector", "filmstrip", "find_sector", "read_cine", "read_image", "resample_frames", "to_sector", "write"]

"""Writers of small ECG files, made after the specifications of the formats and apart from the readers."""

from echogen.testing.ecg_files.consumer import (
    APPLE_XML,
    Canvas,
    apple_csv,
    atc,
    atc_block,
    bdf,
    code15,
    ishne,
    matlab4,
    nested_cells,
)
from echogen.testing.ecg_files.hospital import EIGHT, TWELVE, aecg, aecg_set, beats, muse, philips, xli
from echogen.testing.ecg_files.scp_ecg import DEFAULT_CODES, TWO_TABLES, huffman, scp

__all__ = [
    "APPLE_XML", "DEFAULT_CODES", "EIGHT", "TWELVE", "TWO_TABLES", "Canvas", "aecg", "aecg_set", "apple_csv", "atc", "atc_block",
    "bdf", "beats", "code15", "huffman", "ishne", "matlab4", "muse", "nested_cells", "philips", "scp", "xli",
]  # fmt: skip

"""Real recordings, command-line options, tables and pictures, as all benchmarks use them."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

DOCS = Path(__file__).parent.parent / "docs"


@dataclass(frozen=True)
class Recording:
    """A real ECG: what to call it, its file, whether the file holds a minute, and whether its trace may be shown here."""

    name: str
    path: Path
    long: bool = False
    shown: bool = False


def recordings() -> list[Recording]:
    """The real ECGs at hand: pydicom's always, the others where $ECHOGEN_TEST_DATA is set."""
    from pydicom.data import get_testdata_file

    found = [Recording("DICOM 12-lead (pydicom)", Path(str(get_testdata_file("waveform_ecg.dcm"))), shown=True)]
    folder = os.environ.get("ECHOGEN_TEST_DATA")
    if folder:
        at = Path(folder)
        found = [
            Recording("MIT-BIH 100", at / "ecg_wfdb/100.hea", True),
            Recording("PTB s0010_re", at / "ecg_wfdb/s0010_re.hea"),
            Recording("PTB-XL 00001_lr", at / "ecg_wfdb/00001_lr.hea"),
            Recording("Apple Watch 2021-12-17", at / "ecg_apple/ecg_2021-12-17_redacted.csv"),
            Recording("Apple Watch 2023-09-26", at / "ecg_apple/ecg_2023-09-26_redacted.csv"),
            *found,
            Recording("Actiwave EDF", at / "ecg_edf/sample_actiwave.edf", True),
        ]
    return found


def arguments(description: str, **defaults: float | str) -> argparse.Namespace:
    """--model and one option for each default."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--model", default="phantom-128", help="name or folder of the generator")
    for name, value in defaults.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    return parser.parse_args()


def save_picture(picture: NDArray[np.uint8], path: Path) -> None:
    """A picture of a document, (height, width) or (height, width, 3), as WebP: speckle takes a quarter of the room of a PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path, quality=82, method=6)

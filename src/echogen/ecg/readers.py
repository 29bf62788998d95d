"""Readers of ECG files by name, one for each format that is recognised by its content."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from echogen.ecg.alivecor import SIGNATURE as ATC
from echogen.ecg.alivecor import open_atc
from echogen.ecg.apple_health import is_apple_health, open_apple_health
from echogen.ecg.arrays import is_ecg_npz, open_npy, open_npz
from echogen.ecg.code15 import open_code15
from echogen.ecg.dicom import is_dicom, open_dicom
from echogen.ecg.edf import open_edf
from echogen.ecg.hdf5 import SIGNATURE as HDF5
from echogen.ecg.hl7_aecg import open_hl7_aecg
from echogen.ecg.ishne import SIGNATURE as ISHNE
from echogen.ecg.ishne import open_ishne
from echogen.ecg.matlab import is_matlab, open_matlab
from echogen.ecg.muse import open_muse
from echogen.ecg.pdf_trace import open_pdf
from echogen.ecg.philips import open_philips
from echogen.ecg.pickles import is_pickle, open_pickle
from echogen.ecg.scp import is_scp, open_scp
from echogen.ecg.source import Source
from echogen.ecg.xlsx import is_xlsx, open_xlsx
from echogen.ecg.xml_file import root_name
from echogen.registry import Registry


@dataclass(frozen=True)
class Reader:
    """Reader of one format.

    recognises: called with a path and the first 4096 bytes (none for a folder); True if the file is of this format.
    open: called with the path, mV per unit of the stored values and the sampling rate in Hz, each None unless the user states it,
        and, where `several`, the name of one recording or None. Returns a `Source`; raises `InputError` for a damaged file.
    several: True if a file may hold several recordings.
    says: one line for people.
    """

    recognises: Callable[[Path, bytes], bool]
    open: Callable[..., Source]
    several: bool = False
    says: str = ""


#: Asked in this order; the first that recognises a file opens it. A WFDB header beside a file goes first, text comes last.
#: A package adds its own, asked after these, by an entry point of `echogen.ecg_readers`.
ECG_READERS: Registry[Reader] = Registry(
    "ECG reader",
    "echogen.ecg_readers",
    "echogen.ecg.readers:Reader",
    {
        "dicom": Reader(lambda path, start: is_dicom(start), open_dicom, says="DICOM waveforms"),
        "edf": Reader(lambda path, start: start[:8] in (b"0       ", b"\xffBIOSEMI"), open_edf, says="EDF, EDF+ and BDF"),
        "npy": Reader(lambda path, start: start[:6] == b"\x93NUMPY", open_npy, says="arrays of NumPy"),
        "npz": Reader(
            lambda path, start: start[:4] == b"PK\x03\x04" and is_ecg_npz(path), open_npz, says="an `Ecg` as echogen stores it"
        ),
        "xlsx": Reader(
            lambda path, start: start[:4] == b"PK\x03\x04" and is_xlsx(path), open_xlsx, several=True, says="Excel workbooks"
        ),
        "ishne": Reader(lambda path, start: start.startswith(ISHNE), open_ishne, says="ISHNE Holter recordings"),
        "alivecor": Reader(lambda path, start: start.startswith(ATC), open_atc, says="AliveCor ATC"),
        "matlab": Reader(is_matlab, open_matlab, several=True, says="MATLAB files"),
        "code-15": Reader(lambda path, start: start.startswith(HDF5), open_code15, several=True, says="CODE-15 HDF5"),
        "apple-health": Reader(is_apple_health, open_apple_health, several=True, says="Apple Health exports"),
        "pickle": Reader(is_pickle, open_pickle, says="pickled arrays, of which no code is run"),
        "pdf": Reader(lambda path, start: b"%PDF-" in start[:1024], open_pdf, says="PDFs that draw the trace as lines"),
        "scp": Reader(lambda path, start: is_scp(start, path.stat().st_size), open_scp, says="SCP-ECG"),
        "hl7-aecg": Reader(lambda path, start: root_name(start) == "AnnotatedECG", open_hl7_aecg, says="HL7 aECG XML"),
        "muse": Reader(lambda path, start: root_name(start) == "RestingECG", open_muse, says="MUSE XML"),
        "philips": Reader(lambda path, start: root_name(start) == "restingecgdata", open_philips, says="Philips XML"),
    },
    meaning=lambda reader: reader.says,
)

"""Small undamaged ECG files of every format: made here, and real ones where $ECHOGEN_TEST_DATA is set."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from echogen.arrays import Floats
from echogen.testing import ecg_files as w
from echogen.testing.fuzz.making import Files, written, zipped

#: Larger real files are left out: thousands of their copies are read.
LARGEST_REAL_BYTES = 600_000
#: Suffixes of the real files that are read as an ECG.
_ECG_SUFFIXES = (".hea", ".dat", ".edf", ".bdf", ".csv", ".txt", ".dcm", ".xml", ".scp", ".mat", ".ecg", ".pkl", ".pdf")


def _written(suffix: str, write: Callable[[Path], object]) -> Files:
    return {f"x.{suffix}": written(f"x.{suffix}", write)}


def _edf(kind: str) -> Files:
    import edfio

    signal: Any
    whole: Any
    signal, whole = (edfio.BdfSignal, edfio.Bdf) if kind == "bdf" else (edfio.EdfSignal, edfio.Edf)
    trace = np.sin(np.arange(500) / 9.0)
    leads = [signal(trace, 250, label=f"ECG {name}", physical_dimension="mV") for name in ("I", "II")]
    return _written(kind, whole(leads).write)


def interrupted_edf() -> bytes:
    """EDF+D of sixty records of 0.1 s, of which the third was not recorded."""
    import edfio

    leads = [edfio.EdfSignal(np.sin(np.arange(1500) / 9.0), 250, label=name, physical_dimension="mV") for name in ("I", "II")]
    whole = edfio.Edf(leads, annotations=[edfio.EdfAnnotation(0.5, None, "note")], data_record_duration=0.1).to_bytes()
    size = int(whole[184:192])
    records = np.frombuffer(whole[size:], np.uint8).reshape(60, -1)
    head = whole[:192] + b"EDF+D" + whole[197:236] + b"59      " + whole[244:size]
    return head + np.delete(records, 2, axis=0).tobytes()


def labchart_variables(lead: Floats) -> dict[str, Any]:
    """Variables of LabChart's MATLAB export: two channels in two blocks, the second 2.6 s after the first began."""
    half = len(lead) // 2
    return {
        "data": np.concatenate([lead[:half], 60 * lead[:half], lead[half:], 60 * lead[half:]])[None],
        "datastart": np.array([[1, 2 * half + 1], [half + 1, 3 * half + 1]]),
        "dataend": np.array([[half, 3 * half], [2 * half, 4 * half]]),
        "titles": np.array(["ECG", "Pressure"]),
        "unittext": np.array(["mV", "mmHg"]),
        "unittextmap": np.array([[1, 1], [2, 2]]),
        "samplerate": np.full((2, 2), 240.0),
        "blocktimes": np.array([[738_000.0, 738_000.0 + 2.6 / 86_400]]),
    }


def made_from_devices() -> dict[str, Files]:
    """Files of Holter, consumer and research formats; those whose packages are not installed are left out."""
    random = np.random.default_rng(0)
    spikes = np.exp(-0.5 * (((np.arange(1200) % 240) - 100) / 4.0) ** 2) + 0.02 * random.standard_normal((12, 1200))
    counts = np.rint(1000 * spikes).astype(np.int64)
    watch = w.apple_csv(1000 * spikes[0])
    found = {
        "ISHNE": {"x.ecg": w.ishne(counts[:3], ("I", "II", "V1"), (1000, 1000, 1000), crc=0)},
        "AliveCor": {"x.atc": w.atc(counts[:6])},
        "MATLAB 4": {"x.mat": w.matlab4({"val": spikes, "fs": np.array([[240.0]])})},
        "Pickle": {"x.pkl": pickle.dumps(spikes)},
        "Apple Health": {
            "x.zip": zipped({"e/export.xml": w.APPLE_XML, "e/electrocardiograms/ecg_2021-12-17.csv": watch}),
        },
    }

    def pdf(path: Path) -> None:
        page = w.Canvas()
        page.grid()
        page.text("25 mm/s  10 mm/mV", 10, 5)
        page.text("II", 11, 96)
        page.line(np.column_stack([10 + np.arange(900) / 10, 80 + 10 * spikes[0, :900]]))
        page.write(path)

    def workbook(path: Path) -> None:
        import openpyxl

        book = openpyxl.Workbook()
        for row in [("time_s", "I", "II"), *zip((np.arange(1200) / 240).tolist(), *spikes[:2].tolist(), strict=True)]:
            book.active.append(row)
        book.save(path)
        # The time of writing stands in the archive.
        with zipfile.ZipFile(path) as archive:
            names = {name: archive.read(name) for name in archive.namelist() if name != "docProps/core.xml"}
        path.write_bytes(zipped(names))

    def matlab(path: Path) -> None:
        import scipy.io

        scipy.io.savemat(path, {"ecg": spikes, "fs": 240, "units": "mV"})
        # The time of writing stands in the first line.
        path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(116) + path.read_bytes()[116:])

    def labchart(path: Path) -> None:
        import scipy.io

        scipy.io.savemat(path, labchart_variables(spikes[0]))
        path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(116) + path.read_bytes()[116:])

    for name, suffix, write in (
        ("LabChart MATLAB", "mat", labchart),
        ("MATLAB 5", "mat", matlab),
        ("PDF", "pdf", pdf),
        ("Excel", "xlsx", workbook),
        ("CODE-15", "hdf5", lambda path: w.code15(path, {7: spikes}, samples=1500)),
    ):
        with suppress(ImportError):
            found[name] = _written(suffix, write)
    return found


def made() -> dict[str, Files]:
    """Small files of text, hospital and array formats, by name."""
    twelve, eight = w.beats(w.TWELVE, 400), w.beats(w.EIGHT, 400)
    table = np.stack(list(twelve.values())) / 1000
    npz, npy = io.BytesIO(), io.BytesIO()
    np.savez(npz, signal_mv=table, rate_hz=250.0, lead_names=np.array(w.TWELVE))
    np.save(npy, table)
    rows = "\n".join(",".join(f"{value:.3f}" for value in row) for row in table[:3].T)
    apple = "Name,\nRecorded Date,2021-12-17 10:00:00 +0100\nSample Rate,512 hertz\nLead,Lead I\nUnit,µV\n\n\n"
    header = f"x 2 250 400\nx.dat 16 1000/mV 16 0 {twelve['I'][0]} 0 0 I\nx.dat 16 1000/mV 16 0 {twelve['II'][0]} 0 0 II\n"
    zones: dict[str, Any] = {
        "protected": [(1, 40), (201, 240)],
        "beat_ms": 80,
        "subtracted": [(0, 1, 10, 40), (0, 201, 210, 240)],
        "fiducial": 10,
    }
    stored = {name: np.concatenate([v[:40], v[40:200:4], v[200:240], v[240::4]]) for name, v in twelve.items()}
    whole = dict.fromkeys(twelve, 400)
    return {
        "WFDB": {"x.hea": header.encode(), "x.dat": np.stack([twelve["I"], twelve["II"]], 1).astype("<i2").tobytes()},
        "WFDB signal": {"x.dat": np.stack([twelve["I"], twelve["II"]], 1).astype("<i2").tobytes(), "x.hea": header.encode()},
        "EDF": _edf("edf"),
        "BDF": _edf("bdf"),
        "EDF+D": {"x.edf": interrupted_edf()},
        "NPY": {"x.npy": npy.getvalue()},
        "NPZ": {"x.npz": npz.getvalue()},
        "CSV": {"x.csv": f"time,I,II,V1\n{rows}\n".encode()},
        "Apple Watch": {"x.csv": (apple + "\n".join(str(value) for value in twelve["I"].tolist())).encode()},
        "SCP-ECG, raw": {"x.scp": w.scp(twelve, tables=None, order=0, checksums=False)},
        "SCP-ECG, Huffman": {"x.scp": w.scp(twelve, checksums=False)},
        "SCP-ECG, own tables": {"x.scp": w.scp(twelve, tables=w.TWO_TABLES, switch_every=7, checksums=False)},
        "SCP-ECG, bimodal": {"x.scp": w.scp(stored, interval_us=8000, bimodal=True, lasts=whole, checksums=False, **zones)},
        "HL7 aECG": {"x.xml": w.aecg(w.aecg_set(twelve), derived=w.aecg_set(eight))},
        "MUSE": {"x.xml": w.muse(eight, median=eight, checksums=False)},
        "Philips 1.03": {"x.xml": w.philips(twelve, version="1.03", spare_channels=4)},
        "Philips 1.04": {"x.xml": w.philips(twelve, charset="utf-16")},
        "Philips, single leads": {"x.xml": w.philips(twelve, single=True, compression="", encoding="Plain")},
    }


def real() -> dict[str, Files]:
    """Real ECG files: pydicom's, and those of $ECHOGEN_TEST_DATA of up to 0.6 MB, with their header where they need one."""
    from pydicom.data import get_testdata_file

    found: dict[str, Files] = {"DICOM (pydicom)": {"x.dcm": Path(str(get_testdata_file("waveform_ecg.dcm"))).read_bytes()}}
    folder = os.environ.get("ECHOGEN_TEST_DATA")
    places = ("ecg_*/*", "stmem_dummy/*.pkl", "reported/*")
    for path in sorted(path for place in places for path in Path(folder).glob(place)) if folder else ():
        if path.stat().st_size > LARGEST_REAL_BYTES or path.suffix.lower() not in _ECG_SUFFIXES:
            continue
        files = [path]
        if path.suffix in (".hea", ".dat"):
            files += [one for one in path.parent.glob(f"{path.stem}*") if one != path and one.suffix in (".hea", ".dat", ".xyz")]
        files = [one for one in files if one.stat().st_size <= LARGEST_REAL_BYTES]
        found[f"{path.parent.name}/{path.name}"] = {one.name: one.read_bytes() for one in files}
    return found


def corpus() -> dict[str, Files]:
    """All files of this module, by name."""
    return made() | made_from_devices() | real()


def read(path: Path, **arguments: Any) -> None:
    """Read a file of `corpus` as a user would."""
    from echogen.ecg import read_ecg

    read_ecg(path, **arguments)

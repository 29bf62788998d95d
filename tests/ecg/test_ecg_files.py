"""Every format of ECG file: what is read equals what was written, and bad files are refused in one sentence."""

import gzip
import os
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from echogen import Ecg, InputError
from echogen.ecg import ecg_info, read_ecg

writes_files = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15, deadline=None)
signals = hnp.arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(300, 900)), elements=st.floats(-2.5, 2.5, width=32))
rates = st.sampled_from([100.0, 128.0, 250.0, 360.0, 500.0])
NAMES = ("II", "V1", "aVR", "MLII")


def beats(leads=2, seconds=10, rate=250.0):
    times = np.arange(int(seconds * rate)) / rate
    trace = np.exp(-0.5 * (((times % 0.8) - 0.4) / 0.012) ** 2)
    return np.stack([trace / (n + 1) for n in range(leads)])


def refused(path, *words, **arguments):
    with pytest.raises(InputError) as caught:
        read_ecg(path, **arguments)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    for word in words:
        assert word in message, message


# What is written comes back.


@writes_files
@given(signals, rates, st.data())
def test_wfdb_comes_back_whole_and_in_parts(tmp_path, signal, rate, data):
    import wfdb

    count, samples = signal.shape
    wfdb.wrsamp(
        "made",
        fs=rate,
        units=["mV"] * (count - 1) + ["uV"],
        sig_name=[name.lower() for name in NAMES[:count]],
        p_signal=signal.T.astype(np.float64) * np.array([1.0] * (count - 1) + [1000.0]),
        fmt=["16"] * count,
        write_dir=str(tmp_path),
        adc_gain=[8000.0] * (count - 1) + [8.0],
        baseline=[0] * count,
    )
    first = data.draw(st.integers(0, samples - 2))
    last = data.draw(st.integers(first + 1, samples))
    for path in (tmp_path / "made.hea", tmp_path / "made.dat", tmp_path / "made"):
        ecg = read_ecg(path, start_s=first / rate, seconds=(last - first) / rate)
        assert ecg.lead_names == NAMES[:count]
        assert ecg.start_s == pytest.approx(first / rate)
        np.testing.assert_allclose(ecg.signal_mv, signal[:, first:last], atol=2e-4)
    assert ecg_info(tmp_path / "made").duration_s == pytest.approx(samples / rate)


@writes_files
@given(signals, st.sampled_from([100, 250, 500]), st.booleans(), st.data())
def test_edf_and_bdf_come_back_whole_and_in_parts(tmp_path, signal, rate, bdf, data):
    import edfio

    count, seconds = signal.shape[0], 3
    signal = np.resize(signal, (count, rate * seconds))
    kind, whole = (edfio.BdfSignal, edfio.Bdf) if bdf else (edfio.EdfSignal, edfio.Edf)
    leads = [
        kind(1000.0 * row.astype(np.float64), rate, label=f"ECG {name}", physical_dimension="uV", physical_range=(-3000, 3000))
        for row, name in zip(signal, NAMES, strict=False)
    ]
    belt = kind(np.zeros(32 * seconds), 32, label="X", physical_dimension="m/s^2", physical_range=(-1, 1))
    path = tmp_path / "made.edf"
    whole([belt, *leads]).write(path)
    first = data.draw(st.integers(0, rate * seconds - 2))
    last = data.draw(st.integers(first + 1, rate * seconds))
    ecg = read_ecg(path, start_s=first / rate, seconds=(last - first) / rate)
    assert ecg.lead_names == NAMES[:count]
    assert ecg.rate_hz == rate
    np.testing.assert_allclose(ecg.signal_mv, signal[:, first:last], atol=1e-3)
    assert ecg_info(path).format == ("BDF" if bdf else "EDF")


@writes_files
@given(signals, st.sampled_from([",", ";", "\t", " "]), st.booleans(), st.booleans(), st.sampled_from(["mV", "uV"]))
def test_text_tables_come_back(tmp_path, signal, delimiter, comma, header, unit):
    if delimiter == ",":
        comma = False
    count, samples = signal.shape
    table = np.column_stack([np.arange(samples) / 250.0, signal.T * (1000.0 if unit == "uV" else 1.0)])
    lines = [delimiter.join(f"{value:.6f}" for value in row) for row in table]
    if comma:
        lines = [line.replace(".", ",") for line in lines]
    if header:
        lines.insert(0, delimiter.join(["time", *(f"{name}({unit})" for name in NAMES[:count])]))
    path = tmp_path / "made.txt"
    path.write_text("# an export\n" + "\n".join(lines) + "\n", encoding="utf-8")
    ecg = read_ecg(path, rate_hz=250.0, unit=None if header else unit)
    if header:
        assert ecg.lead_names == NAMES[:count]
    np.testing.assert_allclose(ecg.signal_mv, signal, atol=1e-5)
    part = read_ecg(path, rate_hz=250.0, unit=unit, start_s=0.4, seconds=0.5)
    np.testing.assert_allclose(part.signal_mv, signal[:, 100:225], atol=1e-5)
    assert part.start_s == pytest.approx(0.4)


@writes_files
@given(signals, st.booleans(), st.sampled_from(["f4", "f8", "i2"]))
def test_npy_comes_back_in_either_order(tmp_path, signal, samples_first, kind):
    stored = np.rint(signal * 1000).astype(np.int16) if kind == "i2" else signal.astype(kind)
    np.save(tmp_path / "made.npy", stored.T if samples_first else stored)
    ecg = read_ecg(tmp_path / "made.npy", rate_hz=513.6, unit="uV" if kind == "i2" else None)
    expected = stored.astype(np.float64) * (1e-3 if kind == "i2" else 1.0)
    assert ecg.rate_hz == 513.6
    np.testing.assert_allclose(ecg.signal_mv, expected, atol=1e-6)


def test_npz_of_an_ecg_comes_back(tmp_path):
    np.savez(tmp_path / "ecg.npz", signal_mv=beats(), rate_hz=250.0, lead_names=np.array(["II", "avf"]))
    ecg = read_ecg(tmp_path / "ecg.npz")
    assert ecg.lead_names == ("II", "aVF")
    np.testing.assert_allclose(ecg.signal_mv, beats(), atol=1e-6)


APPLE = {
    "en": ("Name,Anna\nSample Rate,512.508 hertz\n\n\nLead,Lead I\nUnit,µV\n\n", "."),
    "de": ('Name\nMessrate,"511,562\u00a0Hertz"\n\n\nAbleitung,Ableitung I\nEinheit,µV\n\n', ","),
    "fr": ('\ufeffNom,"Anna, B."\r\nFréquence,"513,625\u202fhertz"\r\n\r\nDérivation,Dérivation I\r\nUnité,μV\r\n\r\n', ","),
    "ru": ("Имя\nВерсия,1.90\nЧастота,512.508 Гц\nОтведение,Отведение I\nЕдиница,mV\n\n", "."),
}


@pytest.mark.parametrize("language", APPLE)
def test_apple_watch_exports_in_any_language(tmp_path, language):
    header, decimal = APPLE[language]
    unit = 1.0 if language == "ru" else 1000.0
    values = beats(1, seconds=30, rate=512.0)[0] * unit
    path = tmp_path / "ecg.csv"
    path.write_text(header + "\n".join(f"{value:.3f}".replace(".", decimal) for value in values), encoding="utf-8")
    ecg = read_ecg(path)
    assert ecg.lead_names == ("I",)
    assert ecg.rate_hz == {"en": 512.508, "de": 511.562, "fr": 513.625, "ru": 512.508}[language]
    np.testing.assert_allclose(ecg.signal_mv[0] * unit, values, atol=0.01)
    assert ecg_info(path).format == "Apple Watch"


# The real files and their traps.


def test_the_dicom_ecg_gives_its_rhythm_strip(dicom_ecg_path):
    ecg = read_ecg(dicom_ecg_path)
    assert ecg.lead_names == ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
    assert (ecg.rate_hz, ecg.signal_mv.shape) == (1000.0, (12, 10_000))
    # Einthoven: II = I + III.
    assert np.abs(ecg.lead("II") - ecg.lead("I") - ecg.lead("III")).max() < 0.01
    part = read_ecg(dicom_ecg_path, start_s=2.0, seconds=3.0)
    np.testing.assert_array_equal(part.signal_mv, ecg.signal_mv[:, 2000:5000])
    assert (part.start_s, part.end_s) == (2.0, 5.0)


@pytest.mark.filterwarnings("ignore:Invalid value:UserWarning")
@pytest.mark.parametrize("keyword", ["ChannelSensitivity", "ChannelSensitivityCorrectionFactor", "ChannelBaseline"])
def test_a_dicom_number_that_is_none_is_one_sentence(tmp_path, dicom_ecg_path, keyword):
    from pydicom.datadict import tag_for_keyword

    content = bytearray(dicom_ecg_path.read_bytes())
    group, element = divmod(tag_for_keyword(keyword), 65536)
    at = content.index(struct.pack("<HH", group, element) + b"DS") + 6
    length = int.from_bytes(content[at : at + 2], "little")
    content[at + 2 : at + 2 + length] = b"x".ljust(length)
    (tmp_path / "a.dcm").write_bytes(content)
    refused(tmp_path / "a.dcm", "damaged")
    # Without a value it counts as not stated.
    content[at + 2 : at + 2 + length] = b" " * length
    (tmp_path / "a.dcm").write_bytes(content)
    assert read_ecg(tmp_path / "a.dcm").rate_hz == 1000.0


def test_real_files_have_the_leads_of_the_manifest(test_data):
    expected = {
        "ecg_wfdb/100": ("WFDB", ("MLII", "V5"), 360.0, 1805.56),
        "ecg_wfdb/s0010_re.xyz": ("WFDB", None, 1000.0, 38.4),
        "ecg_wfdb/03700181.hea": ("WFDB", ("MCL1",), 500.0, 600.0),
        "ecg_wfdb/041s": ("WFDB", ("III", "I", "V"), 500.0, 16.0),
        "ecg_wfdb/00001_lr.dat": ("WFDB", None, 100.0, 10.0),
        "ecg_dicom/test_ecg.dcm": ("DICOM", None, 240.0, 10.0),
        "ecg_edf/sample_actiwave.edf": ("EDF", ("ECG0",), 1024.0, 181.0),
        "ecg_edf/contec_0000050.ECG.edf": ("EDF", None, 800.0, 47.32),
    }
    twelve = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
    for name, (kind, leads, rate, length) in expected.items():
        info = ecg_info(test_data / name)
        assert (info.format, info.lead_names, info.rate_hz) == (kind, leads or twelve, rate), name
        assert info.duration_s == pytest.approx(length, abs=0.01), name


def test_parts_cross_the_seam_of_segments(test_data):
    whole = read_ecg(test_data / "ecg_wfdb" / "041s")
    part = read_ecg(test_data / "ecg_wfdb" / "041s.hea", start_s=7.0, seconds=2.0)
    np.testing.assert_array_equal(part.signal_mv, whole.signal_mv[:, 3500:4500])


def test_the_dialects_of_one_apple_watch_recording_agree(test_data):
    folder = test_data / "ecg_apple"
    ecgs = [read_ecg(path) for path in sorted(folder.glob("*2021-12-17*.csv"))]
    assert len(ecgs) == 3
    for ecg in ecgs:
        assert ecg.rate_hz == 513.625
        np.testing.assert_array_equal(ecg.signal_mv, ecgs[0].signal_mv)


def test_foreign_files_of_the_folder_are_refused(test_data):
    for name, word in {
        "ecg_edf/test_generator.bdf": "no ECG channel",
        "ecg_other/biosppy_ecg.txt": "unit",
        "ecg_other/code_15_meta.csv": "not a table",
        "echo_dicom/examples_ybr_color.dcm": "no waveform",
        "echo_video/echotracker_input.mp4": "a video",
        "stmem_dummy/index.csv": "no ECG channel",
    }.items():
        refused(test_data / name, word)
    assert read_ecg(test_data / "ecg_other" / "biosppy_ecg.txt", unit="uV").rate_hz == 1000.0


# A day-long file is never loaded whole.


def test_a_part_of_a_day_takes_little_memory(tmp_path):
    import tracemalloc

    import wfdb

    rate, hours = 250, 24
    samples = rate * 3600 * hours
    counts = np.rint(beats(1, seconds=3600, rate=rate)[0] * 1000).astype("<i2")
    with (tmp_path / "day.dat").open("wb") as file, (tmp_path / "day.edf").open("wb") as edf:
        head = f"{'0':8}{'X X X X':80}{'Startdate X X X X':80}01.01.2400.00.00{512:<8}{'':44}{3600 * hours:<8}{1:<8}{1:<4}"
        head += f"{'ECG II':16}{'':80}{'mV':8}{-32.768:<8}{32.767:<8}{-32768:<8}{32767:<8}{'':80}{rate:<8}{'':32}"
        edf.write(head.encode("ascii"))
        for _ in range(hours):
            file.write(counts.tobytes())
            edf.write(counts.tobytes())
    (tmp_path / "day.hea").write_text(f"day 1 {rate} {samples}\nday.dat 16 1000/mV 16 0 0 0 0 II\n")
    np.lib.format.open_memmap(tmp_path / "day.npy", mode="w+", dtype=np.int16, shape=(samples,))[-3600 * rate :] = counts
    assert wfdb.rdheader(str(tmp_path / "day")).sig_len == samples
    tracemalloc.start()
    for name, arguments in {"day.hea": {}, "day.edf": {}, "day.npy": {"rate_hz": rate, "unit": "uV"}}.items():
        tracemalloc.reset_peak()
        ecg = read_ecg(tmp_path / name, start_s=23.5 * 3600, seconds=10.0, **arguments)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000, name
        assert ecg.start_s == 23.5 * 3600
        np.testing.assert_allclose(ecg.signal_mv[0], counts[rate * 1800 :][: rate * 10] / 1000, atol=1e-3)
        assert ecg_info(tmp_path / name, **arguments).duration_s == 24 * 3600
    tracemalloc.stop()


# What cannot be used is refused in one sentence.


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("suffix", ["pkl", "npy", "csv", "dat", "edf"])
def test_a_pickle_is_refused_and_never_run(tmp_path, protocol, suffix):
    target = tmp_path / "it-ran"
    path = tmp_path / f"ecg.{suffix}"
    path.write_bytes(pickle.dumps(Trap(target), protocol=protocol))
    refused(path, rate_hz=250.0)
    assert not target.exists()
    # The trap is real.
    pickle.loads(path.read_bytes())
    assert target.exists()


def test_python_objects_within_numpy_files_are_refused_and_never_run(tmp_path):
    target = tmp_path / "it-ran"
    np.save(tmp_path / "ecg.npy", np.array([Trap(target)], dtype=object), allow_pickle=True)
    refused(tmp_path / "ecg.npy", "plain array", rate_hz=250.0)
    keys = {"signal_mv": np.array([Trap(target)], dtype=object), "rate_hz": 250.0, "lead_names": np.array(["II"])}
    np.savez(tmp_path / "ecg.npz", **keys)
    refused(tmp_path / "ecg.npz", "plain arrays")
    assert not target.exists()


def test_what_is_no_file_or_no_ecg(tmp_path):
    from PIL import Image

    refused(tmp_path / "missing.csv", "no file")
    refused(tmp_path, "directory")
    (tmp_path / "empty.edf").touch()
    refused(tmp_path / "empty.edf", "empty")
    Image.new("L", (64, 64)).save(tmp_path / "ecg.png")
    Image.new("L", (64, 64)).save(tmp_path / "ecg.jpg")
    for name in ("ecg.png", "ecg.jpg"):
        refused(tmp_path / name, "a picture")
    (tmp_path / "ecg.csv").write_bytes((tmp_path / "ecg.png").read_bytes())
    refused(tmp_path / "ecg.csv", "a picture", rate_hz=250.0)
    with zipfile.ZipFile(tmp_path / "ecg.zip", "w") as archive:
        archive.writestr("ecg.csv", "1\n2\n")
    refused(tmp_path / "ecg.zip", "archive")
    (tmp_path / "ecg.dat.gz").write_bytes(gzip.compress(b"1\n2\n"))
    refused(tmp_path / "ecg.dat.gz", "archive")
    (tmp_path / "ecg.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(100))
    refused(tmp_path / "ecg.mp4", "a video")
    (tmp_path / "ecg.dat").write_bytes(bytes(range(256)) * 8)
    refused(tmp_path / "ecg.dat", "ecg.hea")
    (tmp_path / "ecg.bin").write_bytes(bytes(range(256)) * 8)
    refused(tmp_path / "ecg.bin", "no known kind")
    (tmp_path / "page.xml").write_text("<?xml version='1.0'?><ecg/>")
    refused(tmp_path / "page.xml", "XML")
    (tmp_path / "letter.txt").write_text("Dear doctor,\nthe ECG was normal.\n")
    refused(tmp_path / "letter.txt", "not a table of numbers", rate_hz=250.0)
    (tmp_path / "labels.csv").write_text("patient,age\n1,70\n2,54\n")
    refused(tmp_path / "labels.csv", "no ECG channel", "'patient'", rate_hz=250.0)


@writes_files
@given(st.binary(min_size=1, max_size=600), st.sampled_from(["csv", "edf", "npy", "dcm", "hea", "dat", "npz"]))
def test_any_bytes_are_read_or_refused(tmp_path, content, suffix):
    path = tmp_path / f"any.{suffix}"
    for start in (b"", b"\x93NUMPY\x01\x00", bytes(128) + b"DICM", b"0       ", b"PK\x03\x04"):
        path.write_bytes(start + content)
        try:
            outcome = read_ecg(path, rate_hz=250.0)
        except InputError as error:
            outcome = error
        # Any other exception has failed the test by now.
        assert isinstance(outcome, Ecg) or str(outcome).endswith(".")


def test_truncated_files(tmp_path, dicom_ecg_path):
    import edfio
    import wfdb

    signal = beats(2)
    wfdb.wrsamp(
        "cut", fs=250, units=["mV"] * 2, sig_name=["I", "II"], p_signal=signal.T, fmt=["16", "16"], write_dir=str(tmp_path)
    )
    edfio.Edf([edfio.EdfSignal(signal[0], 250, label="II", physical_dimension="mV")]).write(tmp_path / "cut.edf")
    np.save(tmp_path / "cut.npy", signal)
    (tmp_path / "cut.dcm").write_bytes(dicom_ecg_path.read_bytes())
    for name in ("cut.dat", "cut.edf", "cut.npy", "cut.dcm"):
        content = (tmp_path / name).read_bytes()
        for share in (0.5, 0.9) if name != "cut.dcm" else (0.3, 0.6):
            (tmp_path / name).write_bytes(content[: int(len(content) * share)])
            refused(tmp_path / name, "cut short", rate_hz=250.0)
    (tmp_path / "cut.edf").write_bytes(b"0       " + bytes(100))
    refused(tmp_path / "cut.edf", "cut short")
    (tmp_path / "cut.dat").unlink()
    refused(tmp_path / "cut.hea", "missing")


def test_missing_rate_wrong_unit_and_wrong_numbers(tmp_path):
    path = tmp_path / "ecg.csv"
    np.savetxt(path, beats(1)[0] * 1000, fmt="%.3f")
    refused(path, "sampling rate", "rate_hz")
    refused(path, "unit", rate_hz=250.0)
    assert read_ecg(path, rate_hz=250.0, unit="µV").signal_mv.max() == pytest.approx(1.0, abs=0.01)
    assert read_ecg(path, rate_hz=250.0, unit="0.5 µV").signal_mv.max() == pytest.approx(0.5, abs=0.01)
    for unit in ("bpm", "", "mm", "0 mV", "mV 2", "1e99 V", "-1 uV"):
        refused(path, "mV, uV or V", rate_hz=250.0, unit=unit)
    for rate in (0.0, -250.0, float("nan"), 1.0, 1e9):
        refused(path, "sampling rate", rate_hz=rate, unit="uV")
    np.save(tmp_path / "ecg.npy", beats())
    refused(tmp_path / "ecg.npy", "sampling rate")
    np.save(tmp_path / "cube.npy", np.zeros((2, 3, 4)))
    refused(tmp_path / "cube.npy", "(2, 3, 4)", rate_hz=250.0)
    np.save(tmp_path / "words.npy", np.array(["a", "b"]))
    refused(tmp_path / "words.npy", "real numbers", rate_hz=250.0)
    path.write_text("0.1\n0.2\n0.3\noops\n0.1\n")
    refused(path, "Sample 4", "oops", rate_hz=250.0)


def test_whole_numbers_do_not_overflow(tmp_path):
    counts = np.full((1, 1000), 100, dtype=np.int16)
    counts[0, ::200] = 30_000
    np.save(tmp_path / "counts.npy", counts)
    ecg = read_ecg(tmp_path / "counts.npy", rate_hz=250.0, unit="uV")
    assert ecg.signal_mv.max() == pytest.approx(30.0)


def test_gaps(tmp_path):
    signal = beats(2)
    signal[0, 1000:1040] = np.nan
    np.save(tmp_path / "short.npy", signal)
    ecg = read_ecg(tmp_path / "short.npy", rate_hz=250.0)
    assert np.isfinite(ecg.signal_mv).all()
    assert ecg.lead_names == ("ECG1", "ECG2")
    signal[0, 1000:1060] = np.nan
    np.save(tmp_path / "long.npy", signal)
    refused(tmp_path / "long.npy", "ECG1", "4.00 s to 4.24 s", rate_hz=250.0)
    refused(tmp_path / "long.npy", "4.00 s to 4.24 s", rate_hz=250.0, start_s=3.0, seconds=2.0)
    assert read_ecg(tmp_path / "long.npy", rate_hz=250.0, start_s=5.0).duration_s == 5.0
    signal[0] = np.nan
    np.save(tmp_path / "lead.npy", signal)
    assert read_ecg(tmp_path / "lead.npy", rate_hz=250.0).lead_names == ("ECG2",)
    np.save(tmp_path / "all.npy", np.full((1, 1000), np.nan))
    refused(tmp_path / "all.npy", "only NaN", rate_hz=250.0)
    (tmp_path / "cells.csv").write_text("I,II\n" + "0.1,0.2\n" * 300 + ",0.2\n" * 20 + "0.1,0.2\n" * 300)
    assert np.allclose(read_ecg(tmp_path / "cells.csv", rate_hz=250.0).lead("I"), 0.1)


def test_parts_outside_the_file(dicom_ecg_path):
    refused(dicom_ecg_path, "10.00 s long", start_s=10.0)
    refused(dicom_ecg_path, "10.00 s long", start_s=8.0, seconds=2.5)
    refused(dicom_ecg_path, "10.00 s long", seconds=11.0)
    for start_s in (-1.0, float("nan"), float("inf")):
        refused(dicom_ecg_path, "start", start_s=start_s)
    for seconds in (0.0, -2.0, float("nan")):
        refused(dicom_ecg_path, "length", seconds=seconds)


def test_columns_and_their_units(tmp_path):
    path = tmp_path / "ecg.csv"
    values = beats(1)[0]
    path.write_text(
        "'Elapsed time','MLII','RESP'\n'hh:mm:ss.mmm','uV','NU'\n" + "".join(f"'0:00.0',{1000 * v:.3f},0.5\n" for v in values)
    )
    ecg = read_ecg(path, rate_hz=250.0)
    assert ecg.lead_names == ("MLII",)
    np.testing.assert_allclose(ecg.signal_mv[0], values, atol=1e-5)
    np.savetxt(path, np.tile(values[:, None], (1, 12)), delimiter=",", fmt="%.4f")
    assert read_ecg(path, rate_hz=250.0).lead_names[3:5] == ("aVR", "aVL")
    path.write_text("Lead I;heart rate\n" + "".join(f"{v:.4f};60\n".replace(".", ",") for v in values))
    assert read_ecg(path, rate_hz=250.0).lead_names == ("I",)

"""MATLAB of every version, CODE-15% in HDF5 and pickled arrays: what is written comes back, and nothing leads out of a file."""

import os
import pickle
import zlib

import h5py
import numpy as np
import pytest
import scipy.io
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from echogen import InputError
from echogen.ecg import ecg_info, find_landmarks, read_ecg
from echogen.testing import ecg_files as w

writes_files = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15, deadline=None)
signals = hnp.arrays(np.float64, st.tuples(st.integers(1, 12), st.integers(100, 400)), elements=st.floats(-1.25, 1.25, width=32))
TWELVE = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")


def beats(leads=12, seconds=10.0, rate=400.0):
    at = np.arange(round(seconds * rate)) / rate
    spike = 0.02 + np.exp(-0.5 * (((at % 0.8) - 0.3) / 0.012) ** 2)
    return spike[None] * np.linspace(1, 0.4, leads)[:, None]


def refused(path, *words, **arguments):
    with pytest.raises(InputError) as caught:
        read_ecg(path, **arguments)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    for word in words:
        assert word in message, message


# MATLAB.


@writes_files
@given(
    signals, st.sampled_from(["4", "5", "5 compressed", "7.3"]), st.booleans(), st.sampled_from(["val", "ECG.data", "leadset"])
)
def test_matlab_comes_back_in_every_version(tmp_path, signal, version, samples_first, name):
    table = signal.T if samples_first else signal
    path = tmp_path / "a.mat"
    path.unlink(missing_ok=True)
    if version == "7.3":
        with h5py.File(path, "w", userblock_size=512) as file:
            file[name.replace(".", "/")] = table.T
            file["Fs"] = np.array([[250.0]])
        with path.open("r+b") as file:
            file.write(b"MATLAB 7.3 MAT-file")
    elif version == "4":
        name = name.replace("ECG.data", "data")
        path.write_bytes(w.matlab4({"Fs": np.array([[250.0]]), name: table}))
    else:
        top, _, field = name.partition(".")
        content = {top: {field: table} if field else table, "Fs": 250.0}
        scipy.io.savemat(path, content, do_compression=version != "5")
    ecg = read_ecg(path)
    np.testing.assert_allclose(ecg.signal_mv, signal, atol=1e-6)
    assert ecg.rate_hz == 250
    part = read_ecg(path, start_s=0.1, seconds=0.2, record=name)
    np.testing.assert_allclose(part.signal_mv, signal[:, 25:75], atol=1e-6)
    assert (ecg_info(path).format, ecg_info(path).record) == ("MATLAB", name)


def test_matlab_lead_names_units_and_vectors(tmp_path):
    path, signal = tmp_path / "a.mat", beats(2)
    names = np.array(["V5", "avf"], dtype=object)
    scipy.io.savemat(path, {"ecg": signal * 1000, "sampling_rate": 400, "leads": names, "units": "uV"})
    ecg = read_ecg(path)
    assert ecg.lead_names == ("V5", "aVF")
    np.testing.assert_allclose(ecg.signal_mv, signal, atol=1e-5)
    scipy.io.savemat(path, {"II": signal[0], "V1": signal[1], "fs": 400})
    ecg = read_ecg(path)
    assert ecg.lead_names == ("II", "V1")
    np.testing.assert_allclose(ecg.lead("V1"), signal[1], atol=1e-6)


def test_matlab_choice_of_the_array(tmp_path):
    path, signal = tmp_path / "a.mat", beats(2)
    scipy.io.savemat(path, {"first": signal, "second": 2 * signal, "note": "two", "fs": 400})
    refused(path, "several arrays", "first", "second")
    refused(path, "no ECG 'third'", record="third")
    np.testing.assert_allclose(read_ecg(f"{path}#second").signal_mv, 2 * signal, atol=1e-6)
    assert ecg_info(path, record="second").record == "second"
    scipy.io.savemat(path, {"val": np.rint(signal * 1000).astype(np.int16)})
    refused(path, "sampling rate")
    refused(path, "unit", rate_hz=400)
    np.testing.assert_allclose(read_ecg(path, rate_hz=400, unit="uV").signal_mv, signal, atol=1e-3)
    scipy.io.savemat(path, {"label": "AF", "matrix": np.eye(3)})
    refused(path, "no array")


def test_a_physionet_header_beside_a_matlab_file_is_used(tmp_path):
    counts = np.rint(beats(2, 5, 500) * 1000).astype(np.int16)
    scipy.io.savemat(tmp_path / "A0001.mat", {"val": counts}, format="4")
    head = f"A0001 2 500 {counts.shape[1]}\n"
    head += "".join(f"A0001.mat 16+24 1000/mV 16 0 {row[0]} 0 0 {name}\n" for row, name in zip(counts, ("I", "V2"), strict=True))
    (tmp_path / "A0001.hea").write_text(head)
    ecg = read_ecg(tmp_path / "A0001.mat")
    assert (ecg.lead_names, ecg.rate_hz, ecg_info(tmp_path / "A0001.mat").format) == (("I", "V2"), 500, "WFDB")
    np.testing.assert_allclose(ecg.signal_mv, counts / 1000, atol=1e-6)


def test_matlab_files_that_are_damaged_or_hostile(tmp_path):
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"val": beats(2), "fs": 400}, do_compression=True)
    content = path.read_bytes()
    for length in (100, 200, len(content) // 2, len(content) - 9):
        path.write_bytes(content[:length])
        refused(path, "damaged")
    for depth in (2000, 200_000):  # scipy alone would overflow its stack
        path.write_bytes(w.nested_cells(depth))
        refused(path, "damaged")
    path.write_bytes(w.nested_cells(10))
    refused(path, "no array")
    bomb = zlib.compress(bytes(300 * 2**20), 9)
    path.write_bytes(content[:128] + (15).to_bytes(4, "little") + len(bomb).to_bytes(4, "little") + bomb)
    refused(path, "damaged")


def test_the_real_matlab_file(test_data):
    ecg = read_ecg(test_data / "ecg_other" / "code_15_1594286.mat")
    assert (ecg.lead_names, ecg.rate_hz, ecg.duration_s) == (TWELVE, 400, 10.24)
    assert find_landmarks(ecg).heart_rate_bpm == pytest.approx(69.6, abs=1)


# HDF5.


@settings(writes_files, max_examples=8)
@given(st.lists(st.sampled_from([7.0, 10.0]), min_size=2, max_size=4), st.sampled_from([None, "gzip", "lzf"]))
def test_code15_exams_come_back_without_their_padding(tmp_path, lengths, compression):
    exams = {1000 + n: beats(seconds=seconds) * (1 + n / 10) for n, seconds in enumerate(lengths)}
    path = w.code15(tmp_path / "exams_part0.hdf5", exams | {0: np.zeros((12, 4))}, compression=compression)
    for exam, signal in exams.items():
        ecg = read_ecg(f"{path}#{exam}")
        assert (ecg.lead_names, ecg.rate_hz) == (TWELVE, 400)
        np.testing.assert_allclose(ecg.signal_mv, signal, atol=1e-6)
    np.testing.assert_array_equal(
        read_ecg(path, record="1001", start_s=1, seconds=2).signal_mv, read_ecg(f"{path}#1001").signal_mv[:, 400:1200]
    )
    info = ecg_info(path, record="1000")
    assert (info.format, info.record, info.duration_s) == ("CODE-15", "1000", lengths[0])
    refused(path, f"{len(lengths)} exams", "1000", "FILE#ID")
    for unknown in ("7", "0", "first", "-1", "9" * 30):
        refused(path, "no exam", record=unknown)


def test_code15_with_one_exam_or_without_ids(tmp_path):
    one = w.code15(tmp_path / "one.hdf5", {77: beats()})
    assert ecg_info(one).record == "77"
    rows = w.code15(tmp_path / "rows.hdf5", {5: beats(), 6: 2 * beats(), 7: np.zeros((12, 10))}, ids=False)
    np.testing.assert_allclose(read_ecg(rows, record="1").signal_mv, 2 * beats(), atol=1e-6)
    refused(rows, "only zeros", record="2")
    refused(one, "'x'", record="x")


def test_hdf5_that_leads_elsewhere_is_refused(tmp_path):
    path, other = tmp_path / "a.hdf5", w.code15(tmp_path / "other.hdf5", {1: beats()})
    ids = np.array([1])
    raw = tmp_path / "secret.bin"
    raw.write_bytes(bytes(4096 * 12 * 4))

    def external_link(file):
        file["tracings"] = h5py.ExternalLink(str(other), "tracings")

    def soft_link(file):
        file["tracings"] = h5py.SoftLink("/exam_id")

    def virtual(file):
        layout = h5py.VirtualLayout((1, 4096, 12), "f4")
        layout[:] = h5py.VirtualSource(str(other), "tracings", (1, 4096, 12))
        file.create_virtual_dataset("tracings", layout)

    def external_storage(file):
        file.create_dataset("tracings", (1, 4096, 12), "f4", external=[(str(raw), 0, 4096 * 12 * 4)])

    def plug_in(file):
        layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        layout.set_chunk((1, 4096, 12))
        layout.set_filter(32001, h5py.h5z.FLAG_OPTIONAL, (1, 2))
        h5py.h5d.create(file.id, b"tracings", h5py.h5t.NATIVE_FLOAT, h5py.h5s.create_simple((1, 4096, 12)), dcpl=layout)

    def bomb(file):
        file.create_dataset("tracings", (1, 900_000_000_000, 12), "f4", chunks=(1, 4096, 12), compression="gzip")

    def words(file):
        file["tracings"] = ["no numbers"]

    cases = {
        external_link: "another place",
        soft_link: "another place",
        virtual: "another file",
        external_storage: "another file",
    }
    for build, word in (cases | {plug_in: "compression", bomb: "damaged", words: "no array"}).items():
        path.unlink(missing_ok=True)
        with h5py.File(path, "w") as file:
            file["exam_id"] = ids
            build(file)
        refused(path, word)
    content = other.read_bytes()
    for length in (8, 100, 2000, len(content) // 2):
        path.write_bytes(content[:length])
        refused(path, "HDF5", record="1")


# Pickles.


@writes_files
@given(signals, st.integers(0, pickle.HIGHEST_PROTOCOL), st.booleans(), st.booleans())
def test_pickled_arrays_come_back(tmp_path, signal, protocol, samples_first, listed):
    folder = tmp_path / "ecgs"
    folder.mkdir(exist_ok=True)
    (tmp_path / "index.csv").write_text("FILE_NAME,SAMPLE_RATE,HR\nother.pkl,100,60\n" + ("000.pkl,250,75\n" if listed else ""))
    (folder / "000.pkl").write_bytes(pickle.dumps(signal.T.copy() if samples_first else signal, protocol))
    if not listed:
        refused(folder / "000.pkl", "sampling rate")
    ecg = read_ecg(folder / "000.pkl", rate_hz=None if listed else 250)
    np.testing.assert_allclose(ecg.signal_mv, signal, atol=1e-6)
    assert (ecg.rate_hz, ecg_info(folder / "000.pkl", rate_hz=250).format) == (250, "pickle")


def test_a_pickled_trace_in_pixels_needs_rate_and_size(tmp_path):
    heights = np.rint(2 * 40 * np.exp(-0.5 * ((np.arange(160) - 20) / 3) ** 2)) / 2
    path = tmp_path / "clip.pkl"
    path.write_bytes(pickle.dumps(heights))
    for arguments in ({}, {"rate_hz": 193.0}, {"unit": "0.02 mV"}):
        refused(path, "pixels", "--ecg-rate", "--ecg-unit", **arguments)
    ecg = read_ecg(path, rate_hz=193, unit="0.02 mV")
    np.testing.assert_allclose(ecg.signal_mv[0], heights * 0.02, atol=1e-6)


def test_pickles_of_other_things_are_refused_and_never_run(tmp_path):
    target, path = tmp_path / "it-ran", tmp_path / "a.pkl"

    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(target),)

    for what in (Trap(), [1.0, 2.0], {"ecg": np.zeros(500)}, np.array([Trap()], dtype=object), np.zeros((2, 3, 400))):
        path.write_bytes(pickle.dumps(what))
        refused(path, "a.pkl", rate_hz=250)
    assert not target.exists()


def test_the_real_pickles(test_data):
    for name, rate in {"000.pkl": 80.0, "018.pkl": 52.0}.items():
        ecg = read_ecg(test_data / "stmem_dummy" / name)
        assert (ecg.lead_names, ecg.rate_hz, ecg.duration_s) == (TWELVE, 500, 10)
        assert find_landmarks(ecg).heart_rate_bpm == pytest.approx(rate, abs=1)

"""Kinds of ECG files that others reported: right values, or a sentence that names the matter."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from echogen import InputError
from echogen.ecg import ecg_info, find_landmarks, read_around_gaps, read_ecg
from echogen.testing import reported_ecg as reported

writes_files = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
STANDARD = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")


@pytest.mark.parametrize("name", reported.ECG)
def test_every_reported_file_has_its_right_values(test_data, name):
    assert not reported.wrong(reported.ECG[name], reported.read(test_data / "reported", name))


def test_the_table_covers_every_ecg_file_of_the_folder(test_data):
    listed = {name.split(",")[0] for name in reported.ECG}
    suffixes = {".csv", ".txt", ".edf", ".hea", ".mat", ".xml", ".ecg"}
    assert {path.name for path in (test_data / "reported").iterdir() if path.suffix in suffixes} <= listed


def beats(leads=2, seconds=8.0, rate=250.0):
    times = np.arange(round(seconds * rate)) / rate
    trace = np.exp(-0.5 * (((times % 0.8) - 0.4) / 0.012) ** 2) - 0.1 * np.sin(times * 1.7)
    return np.stack([trace / (n + 1) + 0.011 * n for n in range(leads)])


def written(path, signal, *, header=None, comments=(), columns=(), delimiter=","):
    """A table of `columns` (each a list of text) and of the signal, under comments and a header."""
    rows = [*map(list, columns), *([f"{value:.5f}" for value in row] for row in signal)]
    lines = [*comments, *([delimiter.join(header)] if header else []), *(delimiter.join(row) for row in zip(*rows, strict=True))]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def refused(path, *words, **arguments):
    with pytest.raises(InputError) as caught:
        read_ecg(path, **arguments)
    for word in words:
        assert word in str(caught.value), str(caught.value)


# What is a lead.


@writes_files
@given(st.sampled_from(["lead_{}", "Lead {}", "L{}", "C{}", "D{}", "V{}", "lead{:02d}", "{}"]), st.booleans(), st.booleans())
def test_twelve_numbered_columns_are_the_standard_leads(tmp_path, pattern, from_one, index):
    names = [pattern.format(n + from_one) for n in range(12)]
    signal = beats(12, 2.0)
    counted = [[str(n) for n in range(signal.shape[1])]] if index else []
    path = written(tmp_path / "a.csv", signal, header=[*([""] if index else []), *names], columns=counted)
    ecg = read_ecg(path, rate_hz=250.0)
    assert ecg.lead_names == STANDARD
    np.testing.assert_allclose(ecg.signal_mv, signal, atol=1e-5)


@pytest.mark.parametrize("count", [2, 3, 4, 5, 7, 8, 11, 13])
def test_other_numbered_columns_are_all_read_and_none_has_the_name_of_another(tmp_path, count):
    ecg = read_ecg(written(tmp_path / "a.csv", beats(count, 2.0), header=[f"lead_{n}" for n in range(count)]), rate_hz=250.0)
    assert ecg.lead_names == tuple(f"ECG{n + 1}" for n in range(count))


def edf(path, labels, unit="uV", rates=None):
    import edfio

    rates = rates or [250] * len(labels)
    signals = [
        edfio.EdfSignal(1000 * beats(1, 8.0, rate)[0], rate, label=label, physical_dimension=unit, physical_range=(-3000, 3000))
        for label, rate in zip(labels, rates, strict=True)
    ]
    edfio.Edf(signals).write(path)
    return path


@pytest.mark.parametrize(
    ("labels", "leads"),
    [
        (["C3", "C4", "ECG"], ("ECG",)),
        (["EEG C3-A2", "EEG C4-A1", "EOG", "ECG II"], ("II",)),
        (["C3", "C4", "O1", "O2", "I", "II"], ("I", "II")),
        (["C3-M2", "C4-M1", "ECG I", "ECG II"], ("I", "II")),
        (["I", "II", "III", "C1", "C2", "C3"], ("I", "II", "III", "V1", "V2", "V3")),
        (["C1", "C2", "C3", "C4", "C5", "C6"], ("V1", "V2", "V3", "V4", "V5", "V6")),
        (["E-S", "A-S", "A-I", "RESP"], ("ES", "AS", "AI")),
    ],
)
def test_c_is_a_chest_lead_only_in_an_ecg(tmp_path, labels, leads):
    assert ecg_info(edf(tmp_path / "a.edf", labels)).lead_names == leads


def test_an_eeg_is_refused_and_a_faster_ecg_beside_one_is_kept(tmp_path):
    refused(edf(tmp_path / "a.edf", ["F3", "F4", "C3", "C4", "O1", "X9"]), "no ECG channel")
    info = ecg_info(edf(tmp_path / "b.edf", ["C3", "C4", "ECG"], rates=[100, 100, 500]))
    assert (info.lead_names, info.rate_hz) == (("ECG",), 500.0)


def test_columns_that_count_flag_or_filter_are_no_leads(tmp_path):
    signal = beats(1, 4.0)[0]
    rows = np.arange(signal.size)
    flags = (rows % 200 == 100).astype(int)
    path = written(
        tmp_path / "a.csv",
        [signal, 0.9 * signal],
        header=["n", "time", "ECG_R_Peaks", "ECG_Phase_Atrial", "ECG_Raw", "ECG_Clean"],
        columns=[map(str, rows), (f"{n / 250:.4f}" for n in rows), map(str, flags), map(str, flags)],
    )
    info = ecg_info(path)
    assert (info.lead_names, info.rate_hz, info.rate_source) == (("ECG Raw",), 250.0, "time stamps")
    for table in (np.stack([rows / 250.0, signal]), np.stack([rows / 250.0, signal]).T):
        np.save(tmp_path / "a.npy", table)
        info = ecg_info(tmp_path / "a.npy")
        assert (info.lead_names, info.rate_hz, info.rate_source) == (("ECG",), 250.0, "time stamps")


# The sampling rate.


@pytest.mark.parametrize(
    ("line", "rate"),
    [
        ("# Sampling rate: 500 Hz", 500.0),
        ("# heart rate 72, sampling rate 0.5 kHz", 500.0),
        ("# Abtastrate: 0,5 kHz", 500.0),
        ("# 500 samples/s", 500.0),
        ("# fs = 360", 360.0),
        ("sampling interval;2 ms", 500.0),
        ("# Fréquence d'échantillonnage : 250 Hz", 250.0),
        ('# {"sampling rate": 1000, "label": []}', 1000.0),
        ("# ECG sampled at 128 Hz, notch filter at 50 Hz", 128.0),
        ("# Heart rate: 72", None),
        ("# Mains frequency: 50 Hz", None),
        ("# Filter: 150 Hz low pass", None),
        ("# Number of samples: 5000", None),
        ("# Sampling date: 2024", None),
        ("# Duration of sampling 60 s", None),
        ("# RR interval: 830 ms", None),
    ],
)
def test_the_rate_is_taken_from_words_that_mean_it(tmp_path, line, rate):
    path = written(tmp_path / "a.csv", beats(2, 2.0), header=["I", "II"], comments=["# an ECG", line])
    if rate is None:
        refused(path, "sampling rate", "--ecg-rate")
    else:
        info = ecg_info(path)
        assert (info.rate_hz, info.rate_source) == (rate, "file")


def test_two_stated_rates_are_not_chosen_between(tmp_path):
    comments = ["# fs: 500", "# Sampling rate: 250 Hz"]
    path = written(tmp_path / "a.csv", beats(2, 2.0), header=["I", "II"], comments=comments)
    refused(path, "500", "250", "--ecg-rate")
    assert read_ecg(path, rate_hz=250.0).rate_hz == 250.0


stamp_units = st.sampled_from([("s", 1.0, 5), ("ms", 1e-3, 3), ("us", 1e-6, 0), ("", 1.0, 4), ("", 1e-3, 1)])


@writes_files
@given(st.sampled_from([125.0, 128.0, 250.0, 256.0, 360.0, 500.0]), stamp_units, st.floats(0, 1e5), st.booleans())
def test_stamps_give_the_rate_and_contradictions_are_refused(tmp_path, rate, unit, begin, header):
    name, seconds, digits = unit
    signal = beats(2, 6.0, rate)
    stamps = [f"{(begin + n / rate) / seconds:.{digits}f}" for n in range(signal.shape[1])]
    names = [f"time ({name})" if name else "time", "I", "II"] if header else None
    path = written(tmp_path / "a.csv", signal, header=names, columns=[stamps])
    info = ecg_info(path)
    assert info.rate_source == "time stamps"
    assert info.rate_hz == pytest.approx(rate, rel=1e-3)
    assert len(info.lead_names) == 2
    assert ecg_info(path, rate_hz=rate).rate_source == "given"
    refused(path, f"{rate * 1.5:g}", "--ecg-rate", rate_hz=rate * 1.5)
    if not (name and header):
        assert seconds == 1.0 or "taken for" in " ".join(info.notes)


@writes_files
@given(st.floats(1.0, 6.0), st.floats(0.3, 30.0), st.sampled_from(["csv", "xlsx", "npy", "mat"]))
def test_beats_after_a_gap_in_the_stamps_stay_on_the_clock(tmp_path, at_s, gap_s, suffix):
    rate = 250.0
    gap_s = round(gap_s * rate) / rate
    signal = beats(1, 12.0, rate)
    times = np.arange(signal.shape[1]) / rate
    stamps = times + gap_s * (times >= at_s)
    path = tmp_path / f"a.{suffix}"
    if suffix == "csv":
        written(path, signal, header=["time_s", "ecg_mV"], columns=[[f"{t:.4f}" for t in stamps]])
    elif suffix == "xlsx":
        openpyxl = pytest.importorskip("openpyxl")
        book = openpyxl.Workbook()
        for row in [("time_s", "ecg_mV"), *zip(stamps.tolist(), signal[0].tolist(), strict=True)]:
            book.active.append(row)
        book.save(path)
    elif suffix == "npy":
        np.save(path, np.stack([stamps, signal[0]]))
    else:
        import scipy.io

        scipy.io.savemat(path, {"t": stamps, "ecg": signal})
    info = ecg_info(path)
    assert info.rate_hz == pytest.approx(rate, rel=1e-4)
    assert info.duration_s == pytest.approx(12.0 + gap_s, abs=0.01)
    refused(path, "no values", start_s=max(at_s - 0.5, 0.0), seconds=1.0)
    begin = at_s + gap_s + 0.1
    ecg, gaps = read_around_gaps(path, keep_s=(begin, begin + 4.0))
    assert [round(gap.end_s - gap.start_s, 2) for gap in gaps] == [pytest.approx(gap_s, abs=0.01)]
    np.testing.assert_allclose(ecg.signal_mv[0], np.interp(ecg.times_s, stamps, signal[0]), atol=1e-3)


def test_stamps_that_go_back_or_stray_are_refused(tmp_path):
    signal = beats(1, 4.0)
    stamps = np.arange(signal.shape[1]) / 250.0
    back = np.where(stamps < 2.0, stamps, stamps - 1.0)
    refused(written(tmp_path / "a.csv", signal, header=["time", "ECG"], columns=[[f"{t:.4f}" for t in back]]), "go back")
    slowing = stamps * (1 + 0.15 * stamps)
    refused(written(tmp_path / "a.csv", signal, header=["time_s", "ECG"], columns=[[f"{t:.4f}" for t in slowing]]), "time stamps")


def test_numbers_of_other_things_in_a_matlab_file_are_no_rate(tmp_path):
    import scipy.io

    for variables, rate in (
        ({"freq": 50.0, "fs": 500.0}, 500.0),
        ({"freq": 500.0}, 500.0),
        ({"Fs": "500 Hz"}, 500.0),
        ({"rate": 72.0, "sampling_rate": "0.25 kHz"}, 250.0),
        ({"isi": 2.0, "isi_units": "ms"}, 500.0),
        ({"dt": 0.004}, 250.0),
        ({"freq": 50.0}, None),
    ):
        scipy.io.savemat(tmp_path / "a.mat", {"ecg": beats(2), **variables})
        if rate is None:
            refused(tmp_path / "a.mat", "sampling rate", "--ecg-rate")
        else:
            assert ecg_info(tmp_path / "a.mat").rate_hz == rate


# Units.


@pytest.mark.parametrize(
    ("unit", "mv"), [("(volts)", 1e3), ("mV", 1.0), ("(mV)", 1.0), ("[uV]", 1e-3), ("microvolts", 1e-3), ("(mVolts)", 1.0)]
)
def test_units_in_names_and_in_rows_of_their_own(tmp_path, unit, mv):
    signal = beats(2, 2.0)
    for header in ([[f"I {unit}", f"II {unit}"]], [["I", "II"], [unit, unit]]):
        rows = [f"{a:.8f},{b:.8f}" for a, b in zip(*(signal / mv), strict=True)]
        (tmp_path / "a.csv").write_text("\n".join([*map(",".join, header), *rows]))
        ecg = read_ecg(tmp_path / "a.csv", rate_hz=250.0)
        assert (ecg.lead_names, ecg_info(tmp_path / "a.csv", rate_hz=250.0).unit_source) == (("I", "II"), "file")
        np.testing.assert_allclose(ecg.signal_mv, signal, atol=1e-4)


@pytest.mark.parametrize("spoilt", [b"?V", b"\xb5V", b"\xc2\xb5V"])
def test_an_edf_unit_with_a_spoilt_micro_sign_is_uv(tmp_path, spoilt):
    content = bytearray(edf(tmp_path / "a.edf", ["II"]).read_bytes())
    at = 256 + 96
    content[at : at + 8] = spoilt.ljust(8)
    (tmp_path / "a.edf").write_bytes(content)
    assert np.abs(read_ecg(tmp_path / "a.edf").signal_mv[0] - beats(1, 8.0)[0]).max() < 0.01
    info = ecg_info(tmp_path / "a.edf")
    assert (info.unit_source == "assumed") == ("uV" in " ".join(info.notes)) == (spoilt != b"\xb5V")
    content[at : at + 8] = b"bpm     "
    (tmp_path / "a.edf").write_bytes(content)
    refused(tmp_path / "a.edf", "II", "bpm", "--ecg-unit")
    assert read_ecg(tmp_path / "a.edf", unit="uV").lead_names == ("II",)


# Decimal commas.


@writes_files
@given(st.integers(1, 3), st.booleans(), st.booleans(), st.booleans())
def test_decimal_commas(tmp_path, leads, header, quoted, timed):
    signal = beats(leads, 2.0) + 0.001
    columns = [[f"{n / 250:.3f}" for n in range(signal.shape[1])]] if timed else []
    rows = [[cell.replace(".", ",") for cell in row] for row in [*columns, *([f"{v:.5f}" for v in lead] for lead in signal)]]
    delimiter = "," if quoted else ";"
    lines = [delimiter.join(f'"{cell}"' if quoted else cell for cell in row) for row in zip(*rows, strict=True)]
    names = [*(["Zeit"] if timed else []), *("I", "II", "III")[:leads]]
    path = tmp_path / "a.csv"
    path.write_text("\n".join([*([delimiter.join(names)] if header else []), *lines]))
    ecg = read_ecg(path, rate_hz=250.0)
    np.testing.assert_allclose(ecg.signal_mv, signal, atol=1e-4)


def test_commas_between_columns_and_within_numbers_are_refused(tmp_path):
    lines = [f"{n / 250:.3f},{value + 2:.4f}".replace(".", ",") for n, value in enumerate(beats(1, 2.0)[0])]
    (tmp_path / "a.csv").write_text("\n".join(["time,ECG", *lines]))
    refused(tmp_path / "a.csv", "commas", "semicolons", rate_hz=250.0)


# WFDB with several samples a frame.


@writes_files
@given(st.integers(2, 12), st.booleans(), st.data())
def test_every_sample_of_a_frame_is_read(tmp_path, per_frame, two, data):
    frames, rate = 300, 500.0
    signal = np.rint(1000 * beats(2, 10.0, rate)[:, : frames * per_frame]).astype("<i2")
    frames = signal.shape[1] // per_frame
    signal = signal[:, : frames * per_frame]
    kept = signal if two else signal[:1]
    pieces = [*(row.reshape(frames, per_frame) for row in kept), np.zeros((frames, 1), "<i2")]
    (tmp_path / "a.dat").write_bytes(np.concatenate(pieces, axis=1).astype("<i2").tobytes())
    leads = "".join(f"a.dat 16x{per_frame} 1000/mV 16 0 0 0 0 {name}\n" for name in ("II", "V5")[: len(kept)])
    text = f"a {len(kept) + 1} {rate / per_frame:.9g} {frames}\n{leads}a.dat 16 1000/NU 16 0 0 0 0 RESP\n"
    (tmp_path / "a.hea").write_text(text)
    info = ecg_info(tmp_path / "a.hea")
    assert info.rate_hz == pytest.approx(rate, rel=1e-6)
    first = data.draw(st.integers(0, frames * per_frame - 2))
    last = data.draw(st.integers(first + 1, frames * per_frame))
    part = read_ecg(tmp_path / "a.hea", start_s=first / info.rate_hz, seconds=(last - first) / info.rate_hz)
    np.testing.assert_allclose(part.signal_mv, kept[:, first:last] / 1000.0, atol=1e-6)


# Laboratories.


def test_shimmer_exports(tmp_path):
    signal = beats(2, 4.0)
    rows = [f"{1.7e12 + 4 * n:.1f}\t{n}\t{a:.5f}\t{b:.5f}\t" for n, (a, b) in enumerate(zip(*signal, strict=True))]
    header = ["Timestamp_Unix_CAL", "ECG_LL-RA_24BIT_RAW", "ECG_LL-RA_24BIT_CAL", "ECG_LA-RA_24BIT_CAL"]
    names = "\t".join(f"Shimmer_6749_{name}" for name in header) + "\t"
    (tmp_path / "a.csv").write_text("\n".join(['"sep=\t"', names, "ms\tno_units\tmV\tmV\t", *rows]))
    ecg = read_ecg(tmp_path / "a.csv")
    assert (ecg.lead_names, ecg.rate_hz) == (("II", "I"), 250.0)
    np.testing.assert_allclose(ecg.signal_mv, signal, atol=1e-4)


# Gaps.


def test_a_gap_blocks_only_what_it_touches(tmp_path):
    signal = beats(2, 20.0)
    signal[1, 1000:1500] = np.nan
    np.save(tmp_path / "a.npy", signal)
    whole, gaps = read_around_gaps(tmp_path / "a.npy", rate_hz=250.0)
    assert (whole.lead_names, whole.duration_s) == (("ECG1",), 20.0)
    assert [(gap.leads, gap.start_s, gap.end_s) for gap in gaps] == [(("ECG2",), 4.0, 6.0)]
    near, _ = read_around_gaps(tmp_path / "a.npy", rate_hz=250.0, keep_s=(7.0, 9.0))
    assert (near.lead_names, near.start_s, near.end_s) == (("ECG1", "ECG2"), 6.0, 20.0)
    assert find_landmarks(near).heart_rate_bpm == pytest.approx(75.0, abs=0.5)
    across, _ = read_around_gaps(tmp_path / "a.npy", rate_hz=250.0, keep_s=(3.0, 7.0))
    assert across.lead_names == ("ECG1",)
    signal[0, 1200:1300] = np.nan
    np.save(tmp_path / "a.npy", signal)
    with pytest.raises(InputError, match="ECG1 has no values"):
        read_around_gaps(tmp_path / "a.npy", rate_hz=250.0, keep_s=(3.0, 7.0))


def test_a_last_line_without_a_time_stamp_is_no_crash(tmp_path):
    signal = beats(1, 4.0)
    stamps = [f"{n / 250:.4f}" for n in range(signal.shape[1])]
    path = written(tmp_path / "a.csv", signal, header=["time_s", "ECG"], columns=[[*stamps[:-1], ""]])
    refused(path, "time stamps", "missing")


@pytest.mark.parametrize("counter", [True, False])
def test_a_breath_that_rises_slowly_is_no_clock(tmp_path, counter):
    signal = beats(1, 10.0)
    rows = np.arange(signal.shape[1])
    breath = [f"{value:.5f}" for value in np.sin(rows / 300)]
    columns = [[str(n) for n in rows], breath] if counter else [breath]
    header = ["sample", "RSP_Clean", "ECG_Clean"] if counter else ["RSP_Clean", "ECG_Clean"]
    ecg = read_ecg(written(tmp_path / "a.csv", signal, header=header, columns=columns), rate_hz=250.0)
    assert ecg.lead_names == ("ECG Clean",)
    np.testing.assert_allclose(ecg.signal_mv, signal, atol=1e-4)


# The same kinds in arrays.


def test_a_matlab_variable_called_rate_may_be_the_heart_rate(tmp_path):
    from scipy.io import savemat

    savemat(tmp_path / "a.mat", {"ecg": beats(), "rate": 75.0})
    refused(tmp_path / "a.mat", "does not state its sampling rate", "--ecg-rate")
    savemat(tmp_path / "b.mat", {"ecg": beats(), "rate": 250.0})
    assert ecg_info(tmp_path / "b.mat").rate_hz == 250.0


def test_twelve_numbered_leads_of_an_npz_are_the_standard_leads(tmp_path):
    names = np.array([f"lead_{n}" for n in range(12)])
    np.savez(tmp_path / "a.npz", signal_mv=beats(12), rate_hz=250.0, lead_names=names)
    assert ecg_info(tmp_path / "a.npz").lead_names == STANDARD


def test_an_npz_of_other_arrays_is_named_as_such(tmp_path):
    np.savez(tmp_path / "a.npz", ecg=beats(), fs=250.0)
    refused(tmp_path / "a.npz", "an NPZ without signal_mv, rate_hz and lead_names", "NPY")

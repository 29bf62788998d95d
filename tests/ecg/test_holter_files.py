"""ISHNE Holter, AliveCor ATC and BDF: what small writers write comes back to the last count, and damage is refused."""

import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from echogen import InputError
from echogen.ecg import ecg_info, find_landmarks, read_ecg
from echogen.testing import ecg_files as w

writes_files = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15, deadline=None)
counts_16 = hnp.arrays(np.int64, st.tuples(st.integers(1, 12), st.integers(2, 400)), elements=st.integers(-700, 700))
TWELVE = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")


def beats(leads, seconds, rate, top=400):
    at = np.arange(round(seconds * rate)) / rate
    spike = np.exp(-0.5 * (((at % 0.8) - 0.3) / 0.012) ** 2) + 0.2 * np.exp(-0.5 * (((at % 0.8) - 0.55) / 0.04) ** 2)
    return np.rint(top * spike[None] * np.linspace(1, 0.4, leads)[:, None]).astype(np.int64)


def refused(path, *words, **arguments):
    with pytest.raises(InputError) as caught:
        read_ecg(path, **arguments)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    for word in words:
        assert word in message, message


# ISHNE Holter.


@writes_files
@given(counts_16, st.binary(max_size=60), st.booleans(), st.data())
def test_ishne_comes_back_to_the_last_count(tmp_path, counts, comment, named, data):
    leads, samples = counts.shape
    names = tuple(data.draw(st.permutations(TWELVE)))[:leads] if named else None
    resolutions = data.draw(st.lists(st.integers(1, 10_000), min_size=leads, max_size=leads))
    path = tmp_path / "day.ecg"
    path.write_bytes(w.ishne(counts, names, resolutions, 200, comment))
    first = data.draw(st.integers(0, samples - 1))
    last = data.draw(st.integers(first + 1, samples))
    ecg = read_ecg(path, start_s=first / 200, seconds=(last - first) / 200)
    np.testing.assert_array_equal(
        np.rint(ecg.signal_mv.astype(float) / np.array(resolutions)[:, None] * 1e6), counts[:, first:last]
    )
    assert ecg.rate_hz == 200
    if named:
        assert ecg.lead_names == names
    assert ecg_info(path).format == "ISHNE Holter"


def test_ishne_header_variants(tmp_path):
    counts, path = beats(3, 4, 250), tmp_path / "a.ecg"
    written = {
        "no checksum": w.ishne(counts, ("V1", "V5", "II"), [5000] * 3, 250, crc=0),
        "other byte order": None,
        "total number of samples": w.ishne(counts, ("V1", "V5", "II"), [5000] * 3, 250, stated=3 * counts.shape[1]),
        "no number of samples": w.ishne(counts, ("V1", "V5", "II"), [5000] * 3, 250, stated=0),
        "no offset": w.ishne(counts, ("V1", "V5", "II"), [5000] * 3, 250, b"note", offset=0),
    }
    plain = w.ishne(counts, ("V1", "V5", "II"), [5000] * 3, 250)
    written["other byte order"] = plain[:8] + plain[8:10][::-1] + plain[10:]
    for what, content in written.items():
        path.write_bytes(content)
        ecg = read_ecg(path)
        assert ecg.lead_names == ("V1", "V5", "II"), what
        np.testing.assert_allclose(ecg.signal_mv, counts * 5e-3, atol=1e-6, err_msg=what)


def test_ishne_samples_of_a_lead_that_is_off_are_none(tmp_path):
    counts = beats(2, 4, 200)
    counts[0, 100:110] = -32768
    (tmp_path / "a.ecg").write_bytes(w.ishne(counts, ("I", "II"), [5000] * 2))
    assert np.abs(read_ecg(tmp_path / "a.ecg").signal_mv).max() < 3
    counts[0, 100:200] = -32768
    (tmp_path / "a.ecg").write_bytes(w.ishne(counts, ("I", "II"), [5000] * 2))
    refused(tmp_path / "a.ecg", "Lead I has no values", "0.50 s to 1.00 s")


def test_ishne_that_is_damaged(tmp_path):
    path = tmp_path / "a.ecg"
    content = w.ishne(beats(2, 4, 200), ("I", "II"), [5000] * 2)
    path.write_bytes(content[:300])
    refused(path, "cut short")
    path.write_bytes(content[:40] + b"?" + content[41:])
    refused(path, "checksum")
    for at, value in ((156, 0), (156, 300)):
        path.write_bytes(content[:8] + b"\0\0" + content[10:at] + struct.pack("<h", value) + content[at + 2 :])
        refused(path, "leads")
    path.write_bytes(w.ishne(beats(2, 4, 200), ("I", "II"), [5000] * 2, rate=0, crc=0))
    refused(path, "sampling rate")
    path.write_bytes(w.ishne(beats(2, 4, 200), ("I", "II"), [0, 0], crc=0))
    refused(path, "--ecg-unit")
    assert read_ecg(path, unit="0.005 mV").signal_mv.max() == pytest.approx(2.0)


def test_a_part_of_a_holter_day_takes_little_memory(tmp_path):
    import tracemalloc

    hour = beats(3, 3600, 200)
    path = tmp_path / "day.ecg"
    content = w.ishne(hour, ("V1", "V5", "II"), [5000] * 3, stated=24 * hour.shape[1])
    with path.open("wb") as file:
        file.write(content)
        for _ in range(23):
            file.write(content[522:])
    tracemalloc.start()
    ecg = read_ecg(path, start_s=23.5 * 3600, seconds=10)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000
    assert ecg_info(path).duration_s == 24 * 3600
    np.testing.assert_allclose(ecg.signal_mv, hour[:, 1800 * 200 :][:, :2000] * 5e-3, atol=1e-6)


# AliveCor.


@writes_files
@given(st.sampled_from([1, 6, 12]), st.integers(2, 400), st.integers(1, 2000), st.integers(0, 127), st.randoms())
def test_atc_comes_back_to_the_last_count(tmp_path, leads, samples, resolution, flags, random):
    counts = np.array([[random.randint(-2000, 2000) for _ in range(samples)] for _ in range(leads)])
    counts = counts if np.ptp(counts) * resolution < 4e6 else counts // 100
    path = tmp_path / "a.atc"
    path.write_bytes(w.atc(counts, 300, resolution, flags))
    ecg = read_ecg(path, unit=None)
    np.testing.assert_array_equal(np.rint(ecg.signal_mv.astype(float) / resolution * 1e6), counts)
    assert (ecg.lead_names, ecg.rate_hz) == (TWELVE[:leads], 300)
    assert f"mains {60 if flags & 2 else 50} Hz" in ecg_info(path).format


def test_atc_large_counts_do_not_overflow_and_unknown_blocks_are_passed_over(tmp_path):
    counts = beats(1, 30, 300, top=32_000)
    (tmp_path / "a.atc").write_bytes(w.atc(counts, extra=w.atc_block(b"acc ", bytes(24))))
    ecg = read_ecg(tmp_path / "a.atc")
    assert ecg.signal_mv.max() == pytest.approx(16.0, abs=0.01)
    assert find_landmarks(ecg).heart_rate_bpm == pytest.approx(75, abs=0.5)


def test_atc_that_is_damaged(tmp_path):
    path, content = tmp_path / "a.atc", w.atc(beats(1, 10, 300))
    for at in (12, 30, 300, 2000):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        refused(path, "damaged")
    for length in (14, 200, 4000):
        path.write_bytes(content[:length])
        refused(path, "cut short")
    path.write_bytes(w.atc(np.zeros((0, 0), dtype=int)))
    refused(path, "no ECG")
    head = b"ALIVE\0\0\0" + struct.pack("<I", 3)
    path.write_bytes(head + w.atc_block(b"ecg ", bytes(600)))
    refused(path, "format of its samples")
    path.write_bytes(w.atc(beats(1, 10, 300)) + w.atc_block(b"ecg2", bytes(600)))
    refused(path, "differ in length")


# BDF.


@writes_files
@given(hnp.arrays(np.int64, st.tuples(st.integers(1, 3), st.just(600)), elements=st.integers(-8388608, 8388607)))
def test_bdf_keeps_all_24_bits(tmp_path, counts):
    counts[0, :2] = -8388608, 8388607
    path = tmp_path / "a.bdf"
    path.write_bytes(w.bdf(counts, TWELVE, 200, unit="nV"))
    ecg = read_ecg(path, seconds=1.5, start_s=1.0)
    # One count is a nanovolt; float32 keeps 24 bits.
    np.testing.assert_allclose(ecg.signal_mv.astype(float) * 1e6, counts[:, 200:500], atol=0.51)
    assert ecg_info(path).format == "BDF"


def test_the_bdf_test_signals_are_no_ecg(test_data):
    refused(test_data / "ecg_edf" / "test_generator.bdf", "no ECG channel")

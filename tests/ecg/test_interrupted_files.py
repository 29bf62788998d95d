"""Recordings that were interrupted, in files that say when each part began: EDF+D, BDF+D and LabChart's MATLAB export."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from echogen import InputError
from echogen.app.file_facts import describe
from echogen.ecg import ecg_info, read_around_gaps, read_ecg
from echogen.ecg.gaps import Gap

writes_files = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
RATE = 250


def trace(seconds, rate=RATE):
    """One lead in mV, no two seconds of it alike."""
    times = np.arange(round(seconds * rate)) / rate
    return np.exp(-0.5 * ((times % 0.8 - 0.4) / 0.012) ** 2) + 0.05 * times


def edf_plus(path, seconds, kept, bdf=False, shift_s=0.0):
    """An EDF+ of records of 1 s of which only those in `kept` were recorded; the file begins `shift_s` into its first second."""
    import edfio

    kind, whole = (edfio.BdfSignal, edfio.Bdf) if bdf else (edfio.EdfSignal, edfio.Edf)
    leads = [
        kind(factor * trace(seconds), RATE, label=f"ECG {name}", physical_dimension="mV", physical_range=(-5, 5))
        for name, factor in (("I", 0.5), ("II", 1.0))
    ]
    whole(leads, annotations=[edfio.EdfAnnotation(0.5, None, "note")], data_record_duration=1.0).write(path)
    data = path.read_bytes()
    size = int(data[184:192])
    records = np.frombuffer(data[size:], np.uint8).reshape(seconds, -1)
    header = data[:192] + (b"BDF+D" if bdf else b"EDF+D") + data[197:236] + f"{len(kept):<8}".encode() + data[244:size]
    body = records[kept].tobytes()
    if shift_s:
        for n in kept:
            body = body.replace(f"+{n}\x14\x14\0\0".encode(), f"+{n + shift_s:g}\x14\x14".encode())
    path.write_bytes(header + body)
    return path


@writes_files
@given(st.sets(st.integers(0, 11), min_size=2).map(sorted), st.booleans(), st.data())
def test_the_parts_of_an_edf_plus_d_lie_where_they_were_recorded(tmp_path, kept, bdf, data):
    path = edf_plus(tmp_path / "parts.edf", 12, kept, bdf)
    last = kept[-1] + 1 - kept[0]
    info = ecg_info(path)
    assert (info.duration_s, info.rate_hz, info.rate_source) == (last, RATE, "file")
    chosen = data.draw(st.sampled_from(kept))
    ecg = read_ecg(path, start_s=chosen - kept[0], seconds=1.0)
    expected = trace(12)[chosen * RATE : (chosen + 1) * RATE]
    np.testing.assert_allclose(ecg.lead("II"), expected, atol=2e-4)
    np.testing.assert_allclose(ecg.lead("I"), 0.5 * expected, atol=2e-4)
    _, gaps = read_around_gaps(path)
    missing = sum(gap.end_s - gap.start_s for gap in gaps)
    assert missing == pytest.approx(last - len(kept))


def test_an_interrupted_edf_tells_its_gap_and_is_read_beside_it(tmp_path):
    path = edf_plus(tmp_path / "parts.edf", 12, [0, 1, 2, 7, 8, 9, 10, 11])
    ecg, gaps = read_around_gaps(path)
    assert gaps == (Gap(("I", "II"), 3.0, 7.0),)
    assert (ecg.start_s, ecg.duration_s) == (7.0, 5.0)
    with pytest.raises(InputError, match="gap"):
        read_ecg(path)
    assert describe(path)["gaps"] == [{"leads": ["I", "II"], "start_s": 3.0, "end_s": 7.0}]


def test_the_clock_of_an_interrupted_edf_begins_with_its_first_record(tmp_path):
    path = edf_plus(tmp_path / "parts.edf", 8, [2, 3, 6], shift_s=0.4)
    _, gaps = read_around_gaps(path)
    assert gaps == (Gap(("I", "II"), 2.0, 4.0),)


@pytest.mark.parametrize(
    ("order", "word"), [([0, 5, 2], "go back in time"), ([3, 3], "go back in time"), ([0, 1], "does not say when")]
)
def test_records_that_go_back_or_have_no_time_are_refused(tmp_path, order, word):
    path = edf_plus(tmp_path / "parts.edf", 8, order)
    if word == "does not say when":
        path.write_bytes(path.read_bytes().replace(b"+1\x14\x14", b"?1\x14\x14"))
    with pytest.raises(InputError, match=word):
        read_ecg(path)


def labchart(path, blocks, *, rates=(1000.0, 1000.0, 100.0), units=("mV", "V", "mmHg"), counts=False, days=None):
    """LabChart's layout: channels ECG, "Lead II" and Pressure; blocks: lengths in s; days: when each begins."""
    from scipy.io import savemat

    pieces, first, last = [], np.zeros((3, len(blocks))), np.zeros((3, len(blocks)))
    at = 0
    for block, seconds in enumerate(blocks):
        for row, (rate, factor) in enumerate(zip(rates, (1.0, 0.002, 80.0), strict=True)):
            part = factor * trace(seconds, rate) + block / 10
            pieces.append(np.rint((part / 1e-4) - 50) if counts else part)
            first[row, block], at = at + 1, at + len(part)
            last[row, block] = at
    content = {
        "data": np.concatenate(pieces)[None].astype(np.int16 if counts else np.float64),
        "datastart": first,
        "dataend": last,
        "titles": np.array(["ECG", "Lead II", "Pressure"]),
        "unittext": np.array(units),
        "unittextmap": np.tile([[1.0], [2.0], [3.0]], len(blocks)),
        "samplerate": np.tile(np.array(rates)[:, None], len(blocks)),
        "tickrate": np.full((1, len(blocks)), max(rates)),
        "firstsampleoffset": np.zeros((3, len(blocks))),
    }
    if counts:
        content |= {"scaleunits": np.full((3, len(blocks)), 1e-4), "scaleoffset": np.full((3, len(blocks)), 50.0)}
    if days is not None:
        content["blocktimes"] = np.array([days])
    savemat(path, content)
    return path


@pytest.mark.parametrize("counts", [False, True])
def test_labchart_s_matlab_export_is_read_with_its_units_and_its_gap(tmp_path, counts):
    begin = 738_000.25
    path = labchart(tmp_path / "lab.mat", [3.0, 4.0], counts=counts, days=[begin, begin + 5.0 / 86_400])
    info = ecg_info(path)
    assert (info.format, info.rate_hz, info.rate_source, info.unit_source) == ("LabChart MATLAB", 1000.0, "file", "file")
    assert info.lead_names == ("ECG", "II") or info.lead_names == ("II",)
    ecg, gaps = read_around_gaps(path)
    assert [(round(gap.start_s, 3), round(gap.end_s, 3)) for gap in gaps] == [(3.0, 5.0)]
    assert (round(ecg.start_s, 3), ecg.duration_s) == (5.0, 4.0)
    if not counts:
        np.testing.assert_allclose(ecg.lead("II"), 1000 * (0.002 * trace(4.0, 1000) + 0.1), atol=1e-4)


def test_a_labchart_export_of_one_block_has_no_gap_and_one_without_ecg_is_refused(tmp_path):
    ecg = read_ecg(labchart(tmp_path / "one.mat", [3.0], units=("mV", "mV", "mmHg")))
    assert (ecg.rate_hz, ecg.duration_s) == (1000.0, 3.0)
    with pytest.raises(InputError, match=r"no voltage|no channel in volts"):
        read_ecg(labchart(tmp_path / "none.mat", [3.0], units=("kPa", "kPa", "mmHg")))


def test_a_labchart_export_whose_tables_lie_is_refused(tmp_path):
    from scipy.io import loadmat, savemat

    content = {name: value for name, value in loadmat(labchart(tmp_path / "a.mat", [3.0])).items() if name[0] != "_"}
    for change in ({"dataend": content["dataend"] + 1e6}, {"samplerate": np.full((5, 1), 1000.0)}):
        savemat(tmp_path / "b.mat", content | change)
        with pytest.raises(InputError, match="damaged"):
            read_ecg(tmp_path / "b.mat")

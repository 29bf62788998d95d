"""PDFs that draw an ECG as lines: scale, leads, rows and columns; what is no drawn ECG is refused."""

import contextlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from echogen import InputError
from echogen.ecg import ecg_info, find_landmarks, read_ecg
from echogen.testing import ecg_files as w

COLUMNS = (("I", "aVR", "V1", "V4"), ("II", "aVL", "V2", "V5"), ("III", "aVF", "V3", "V6"))


def beats(seconds, height=1.0, rr=0.8):
    """Times in s and mV, 250 points a second."""
    times = np.arange(round(seconds * 250)) / 250
    spike = np.exp(-0.5 * (((times % rr) - 0.3) / 0.012) ** 2) + 0.2 * np.exp(-0.5 * (((times % rr) - 0.55) / 0.04) ** 2)
    return times, height * spike


def on_paper(times, mv, x, y, speed=25.0, gain=10.0):
    return np.column_stack([x + times * speed, y + mv * gain])


def refused(path, *words, **arguments):
    with pytest.raises(InputError) as caught:
        read_ecg(path, **arguments)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    for word in words:
        assert word in message, message


def agrees(signal, mv, rate=500.0):
    """Within 0.02 mV of what was drawn, about its median."""
    times = np.arange(signal.size) / rate
    drawn = np.interp(times, np.arange(mv.size) / 250, mv) - np.median(mv)
    np.testing.assert_allclose(signal, drawn, atol=0.02)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=6, deadline=None)
@given(
    st.sampled_from([0.6, 1.0, 1.3]),
    st.booleans(),
    st.sampled_from([(25, 10), (50, 10), (25, 5), (12.5, 20)]),
    st.booleans(),
)
def test_the_grid_and_the_words_give_the_scale(tmp_path, zoom, fine, scale, pieces):
    speed, gain = scale
    page = w.Canvas(zoom=zoom if fine else 1.0)
    page.grid(fine=fine)
    page.text(f"{speed} mm/s  {gain} mm/mV", 10, 5)
    page.text("II", 11, 96)
    times, mv = beats(3.6)
    (page.pieces if pieces else page.line)(on_paper(times, mv, 10, 80, speed, gain))
    ecg = read_ecg(page.write(tmp_path / "a.pdf"))
    assert (ecg.lead_names, ecg.rate_hz) == (("II",), 500)
    assert ecg.duration_s == pytest.approx(times[-1], abs=0.01)
    agrees(ecg.lead("II"), mv)


def turned(points, quarter):
    """A page of 297 x 210 mm drawn so that it is upright after a clockwise turn of the sheet."""
    x, y = points.T
    return np.column_stack({90: (297 - y, x), 270: (y, 210 - x)}[quarter])


@pytest.mark.parametrize("quarter", [90, 270])
def test_a_page_that_is_turned_by_the_viewer(tmp_path, quarter):
    page = w.Canvas()
    for at in np.arange(0, 150.01, 5):
        page.line(turned(np.array([[30 + at, 30], [30 + at, 180]]), quarter), "1 0.5 0.5")
        page.line(turned(np.array([[30, 30 + at], [180, 30 + at]]), quarter), "1 0.5 0.5")
    times, mv = beats(5)
    page.line(turned(on_paper(times, mv, 30, 80), quarter))
    ecg = read_ecg(page.write(tmp_path / "a.pdf", quarter))
    assert ecg.duration_s == pytest.approx(5, abs=0.01)
    agrees(ecg.signal_mv[0], mv)


def test_rows_of_one_lead_go_on_from_each_other(tmp_path):
    page = w.Canvas()
    page.grid()
    page.text("25 mm/s, 10 mm/mV, Lead I, 512Hz", 10, 5)
    times, mv = beats(26)
    for row, (low, high) in enumerate(((0, 10), (10, 20), (20, 26))):
        here = (times >= low) & (times < high)
        page.line(on_paper(times[here] - low, mv[here], 10, 130 - 40 * row))
    ecg = read_ecg(page.write(tmp_path / "watch.pdf"))
    assert ecg.lead_names == ("I",)
    assert ecg.duration_s == pytest.approx(26, abs=0.05)
    assert find_landmarks(ecg).heart_rate_bpm == pytest.approx(75, abs=0.5)


@pytest.mark.parametrize("joined", [True, False])
@pytest.mark.parametrize("strip", [True, False])
def test_columns_of_leads(tmp_path, joined, strip):
    page = w.Canvas()
    page.grid()
    times, mv = beats(2.5)
    for row, leads in enumerate(COLUMNS):
        y = 140 - 35 * row
        whole = [on_paper(times + 2.5 * n, mv * (1 + 0.1 * (row + n)), 10, y) for n in range(4)]
        for points in [np.concatenate(whole)] if joined else whole:
            page.line(points)
        for n, lead in enumerate(leads):
            page.text(lead, 12 + 62.5 * n, y + 16)
    long_times, long_mv = beats(10, 0.8)
    if strip:
        page.line(on_paper(long_times, long_mv, 10, 25))
        page.text("II", 12, 38)
    ecg = read_ecg(page.write(tmp_path / "a.pdf"))
    assert ecg.lead_names == (("II",) if strip else ("I", "II", "III"))
    assert ecg.duration_s == pytest.approx(10 if strip else 2.5, abs=0.01)
    agrees(ecg.lead("II"), long_mv if strip else mv * 1.1)


def test_twelve_rows_with_calibration_pulses_and_two_gains(tmp_path):
    page = w.Canvas(height_mm=300)
    page.grid(height=280)
    page.text("25 mm/s Limb: 10 mm/mV Chest: 5 mm/mV", 10, 3)
    names = [lead for column in range(4) for lead in (row[column] for row in COLUMNS)]
    times, mv = beats(8)
    for row, lead in enumerate(names):
        y = 265 - 22 * row
        pulse = np.array([[12, y], [14, y], [14, y + 10], [19, y + 10], [19, y], [21, y]], dtype=float)
        gain = 5 if lead.startswith("V") else 10
        page.line(np.concatenate([pulse, on_paper(times, mv, 22, y, gain=gain)]))
        page.text(lead, 22, y + 12)
    ecg = read_ecg(page.write(tmp_path / "a.pdf"))
    assert set(ecg.lead_names) == set(names)
    for lead in ("I", "aVF", "V1", "V6"):
        assert np.ptp(ecg.lead(lead)) == pytest.approx(np.ptp(mv), rel=0.02)
    assert find_landmarks(ecg).heart_rate_bpm == pytest.approx(75, abs=0.5)


def test_pdfs_without_a_drawn_ecg(tmp_path):
    letter = w.Canvas()
    letter.text("The ECG was normal.", 20, 100)
    refused(letter.write(tmp_path / "letter.pdf"), "holds no ECG")
    scan = w.Canvas()
    scan.picture()
    refused(scan.write(tmp_path / "scan.pdf"), "as a picture")
    page = w.Canvas()
    page.line(on_paper(*beats(8), 10, 80))
    refused(page.write(tmp_path / "no-grid.pdf"), "grid")
    page.text("25 mm/s 10 mm/mV", 10, 5)
    path = page.write(tmp_path / "true-size.pdf")
    agrees(read_ecg(path).signal_mv[0], beats(8)[1])
    refused(path, "its own scale", unit="mV")
    assert ecg_info(path, rate_hz=250).rate_hz == 250
    from pypdf import PdfReader, PdfWriter

    locked = PdfWriter(clone_from=PdfReader(path))
    locked.encrypt("secret", algorithm="RC4-128")
    locked.write(tmp_path / "locked.pdf")
    refused(tmp_path / "locked.pdf", "password")


def test_pdfs_that_are_damaged_or_endless(tmp_path):
    page = w.Canvas()
    page.grid()
    page.line(on_paper(*beats(8), 10, 80))
    path = page.write(tmp_path / "a.pdf")
    content = path.read_bytes()
    for at in range(20, len(content), len(content) // 12):
        for changed in (content[:at], content[:at] + b"\0\xff" + content[at + 2 :]):
            path.write_bytes(changed)
            with contextlib.suppress(InputError):  # any other exception fails the test
                read_ecg(path)
    page.content = ["0 0 m 1 1 l S\n" * 300_000]
    refused(page.write(tmp_path / "endless.pdf"), "too much")


@pytest.mark.parametrize("again", [1, 40])
def test_a_form_that_draws_itself(tmp_path, again):
    from pypdf import PdfReader, PdfWriter
    from pypdf.generic import ArrayObject, DictionaryObject, NameObject, NumberObject, StreamObject

    page = w.Canvas()
    page.grid()
    writer = PdfWriter(clone_from=PdfReader(page.write(tmp_path / "a.pdf")))
    form = StreamObject()
    form.set_data(b"/F Do\n" * again)
    form[NameObject("/Subtype")] = NameObject("/Form")
    form[NameObject("/BBox")] = ArrayObject([NumberObject(0)] * 4)
    forms = DictionaryObject({NameObject("/F"): writer._add_object(form)})
    form[NameObject("/Resources")] = DictionaryObject({NameObject("/XObject"): forms})
    body = StreamObject()
    body.set_data(b"/F Do\n")
    writer.pages[0][NameObject("/Resources")] = DictionaryObject({NameObject("/XObject"): forms})
    writer.pages[0][NameObject("/Contents")] = writer._add_object(body)
    writer.write(tmp_path / "a.pdf")
    refused(tmp_path / "a.pdf", "too much")


def test_the_real_pdfs(test_data):
    ecg = read_ecg(test_data / "ecg_pdf" / "reubn_example_leadI.pdf")
    assert (ecg.lead_names, ecg.rate_hz) == (("I",), 500)
    assert ecg.duration_s == pytest.approx(10.01, abs=0.05)
    assert find_landmarks(ecg).heart_rate_bpm == pytest.approx(77.6, abs=1)
    strip = read_ecg(test_data / "ecg_pdf" / "anonymous_ecg_3x4_1.pdf")
    stored = read_ecg(test_data / "ecg_dicom" / "anonymous_ecg.dcm")
    assert (strip.lead_names, strip.duration_s) == (("II",), 10)
    # The page shows the recording of the DICOM file after a low-pass filter of 40 Hz.
    from scipy.signal import butter, lfilter

    shown = lfilter(*butter(1, [0.05 / 500, 40 / 500], btype="band"), stored.lead("II"))[::2]
    assert np.corrcoef(shown[250:], strip.signal_mv[0, 250:])[0, 1] > 0.995
    assert np.polyfit(shown[250:], strip.signal_mv[0, 250:], 1)[0] == pytest.approx(1, abs=0.02)

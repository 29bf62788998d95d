"""Files that come and go by the page of `echogen serve`: ECGs, first frames, exports; and what it says when all is lost."""

import json
import zipfile
from math import exp
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")
pytest.importorskip("websockets", reason="the extra serve is not installed")

from echogen.app.serve.job_queue import JobQueue, Limits
from echogen.app.serve.server import create_app


def test_an_ecg_is_uploaded_and_a_bad_one_is_explained(
    opened: Any, dicom_ecg_path: Path, tmp_path: Path, faults: list[str]
) -> None:
    page = opened()
    page.plays()
    page.locator("input[value=recorded]").check()
    bad = tmp_path / "notes.csv"
    bad.write_text("these are only words\n" * 30)
    page.set_input_files("#ecg", bad)
    page.wait_until("document.getElementById('message').textContent.includes('notes.csv')")
    page.set_input_files("#ecg", dicom_ecg_path)
    page.get_by_text("Quality: good.").wait_for()
    assert "DICOM, 12 leads, 10 s, 61 bpm" in page.locator("#facts").inner_text()
    assert page.locator("#message").is_hidden()
    page.wait_until("window.echogen.shown()[0].time > 0.2 && window.echogen.shown()[0].time < 9")
    page.wait_until("document.querySelector('.ecg-rate').textContent === '61 bpm'")
    # A recording starts anew at its end.
    page.wait_until("window.echogen.measured()[0].frames === 320 || window.echogen.measured()[0].ended !== null")
    assert [fault for fault in faults if "400" not in fault] == []


def test_the_page_tells_how_an_ecg_was_read(opened: Any, tmp_path: Path) -> None:
    # Two leads at 250 Hz by the time stamps alone, with a gap of two seconds and without a P wave.
    times = [n / 250 for n in range(2500) if not 1400 <= n < 1900]
    beat = [exp(-0.5 * ((t % 0.8 - 0.3) / 0.012) ** 2) + 0.2 * exp(-0.5 * ((t % 0.8 - 0.55) / 0.05) ** 2) for t in times]
    rows = [f"{t:.3f},{v:.4f},{0.5 * v:.4f}" for t, v in zip(times, beat, strict=True)]
    path = tmp_path / "stamped.csv"
    path.write_text("\n".join(["time_s,II,V5", *rows]))
    page = opened()
    page.locator("input[value=recorded]").check()
    page.set_input_files("#ecg", path)
    page.get_by_role("button", name="How it was read").click()
    said = page.locator("#reading-said").inner_text()
    assert "250 Hz" in said
    assert "Gap: 5.60 to 7.60 s in all leads" in said
    assert "P absent (confidence" in said
    assert [page.locator("#reading-leads th").nth(n).inner_text() for n in range(2)] == ["II", "V5"]
    assert "75.0" in page.locator("#reading-leads tr").first.inner_text()
    assert page.evaluate("document.getElementById('reading-picture').naturalWidth") > 700
    assert page.fits()
    page.keyboard.press("Escape")
    assert page.locator("#reading").is_hidden()


def test_a_first_frame_is_taken(opened: Any, fan: Any, tmp_path: Path) -> None:
    from echogen.cine import write

    write(fan(3, 20.0, 0.5, 160), tmp_path / "still.npz")
    page = opened()
    page.plays()
    page.set_input_files("#frame", tmp_path / "still.npz")
    page.locator("#frame-remove").wait_for()
    # It begins at an R peak, since a still is usually end-diastolic.
    page.wait_until("window.echogen.shown()[0].began > 0 && window.echogen.shown()[0].time < 9")
    page.click("#frame-remove")
    assert page.locator("#frame-remove").is_hidden()


@pytest.mark.parametrize("kind", ["mp4", "gif", "dcm", "json"])
def test_what_is_seen_is_exported(kind: str, opened: Any, tmp_path: Path) -> None:
    page = opened()
    page.plays()
    page.select_option("#length", "2")
    with page.expect_download() as download:
        page.click(f"[data-format={kind}]")
    path = tmp_path / download.value.suggested_filename
    download.value.save_as(path)
    assert path.name == f"echogen-synthetic-8.{'zip' if kind == 'dcm' else kind}"
    if kind == "json":
        told = json.loads(path.read_text())
        assert (told["synthetic"], told["seed"], told["frames"], told["settings"]["ef_percent"]) == (True, 8, 64, 58)
    elif kind == "dcm":
        assert len(zipfile.ZipFile(path).namelist()) == 3
    else:
        from echogen.cine import read_cine

        assert read_cine(path).duration_s == pytest.approx(2.0, abs=0.05)
    page.get_by_text("it says that it is synthetic").wait_for()


def test_a_service_that_ends_or_is_busy_is_explained(plain: Any, telltale: Any, serving: Any) -> None:
    with serving(create_app(JobQueue(telltale, None, Limits(streams=1)))) as running:
        page = plain(running)
        page.plays()
        other = plain(running)
        other.get_by_text("busy with 1 streams").wait_for()
        other.close()
        # A second heart that has to wait does not stop the first.
        page.check("#compare")
        page.get_by_text("busy with 1 streams").wait_for()
        page.plays()
    page.get_by_text("connection to the service was lost").wait_for()
    page.click("text=MP4")
    page.get_by_text("cannot be reached").wait_for()
    page.close()

"""Apple Health exports: folder, zip or export.xml, the newest recording unless one is named."""

import contextlib
import logging
import zipfile
from pathlib import Path

import numpy as np
import pytest

from echogen import InputError
from echogen.ecg import ecg_info, read_ecg
from echogen.testing import ecg_files as w

RECORDED = {
    "ecg_2021-12-17.csv": "2021-12-17 09:00:00 +0100",
    "ecg_2022-01-05.csv": "2022-01-05 23:59:00 +0100",
    "ecg_2022-01-05_1.csv": "2022-01-05 07:00:00 +0100",
}


def values(seed):
    return np.round(np.random.default_rng(seed).normal(0, 300, 512 * 3), 3)


@pytest.fixture
def export(tmp_path):
    folder = tmp_path / "apple_health_export"
    (folder / "electrocardiograms").mkdir(parents=True)
    (folder / "export.xml").write_bytes(w.APPLE_XML)
    (folder / "export_cda.xml").write_bytes(b"<ClinicalDocument/>")
    for n, (name, recorded) in enumerate(RECORDED.items()):
        content = w.apple_csv(values(n), recorded=recorded, decimal=",.."[n])
        (folder / "electrocardiograms" / name).write_bytes(content)
    with zipfile.ZipFile(tmp_path / "export.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*.*")):
            archive.write(file, file.relative_to(tmp_path))
    return folder


def refused(path, *words, **arguments):
    with pytest.raises(InputError) as caught:
        read_ecg(path, **arguments)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    for word in words:
        assert word in message, message


@pytest.mark.parametrize("place", ["", "export.xml", "electrocardiograms", "..", "../export.zip"])
def test_the_newest_recording_is_read_or_the_one_that_is_named(export, place, caplog):
    path = export / place if place != ".." else export.parent
    with caplog.at_level(logging.INFO, "echogen"):
        info = ecg_info(path)
    assert (info.format, info.record, info.lead_names, info.rate_hz) == ("Apple Health", "ecg_2022-01-05.csv", ("I",), 512)
    assert "ecg_2022-01-05.csv" in caplog.text
    assert "newest of its 3" in caplog.text
    np.testing.assert_allclose(read_ecg(path).signal_mv[0] * 1000, values(1), atol=0.01)
    for n, name in enumerate(RECORDED):
        for record in (name, Path(name).stem):
            np.testing.assert_allclose(read_ecg(path, record=record).signal_mv[0] * 1000, values(n), atol=0.01)
    marked = read_ecg(f"{path}#ecg_2021-12-17", start_s=1, seconds=1)
    np.testing.assert_allclose(marked.signal_mv[0] * 1000, values(0)[512:1024], atol=0.01)
    refused(path, "no ECG 'ecg_1999'", "ecg_2022-01-05_1.csv", record="ecg_1999")


def test_a_named_recording_shows_in_info(export, echogen):
    outcome = echogen("info", f"{export}#ecg_2021-12-17", "--json")
    assert outcome.code == 0
    assert '"record": "ecg_2021-12-17.csv"' in outcome.out
    assert echogen("info", export / "nothing#ecg_2021-12-17").code == 2


def test_exports_without_a_readable_ecg(export, tmp_path):
    for name in RECORDED:
        (export / "electrocardiograms" / name).write_text("a,b\n1,2\n")
    refused(export, "ecg_2022-01-05_1.csv", "no ECG")
    for name in RECORDED:
        (export / "electrocardiograms" / name).unlink()
    refused(export / "export.xml", "no CSV")
    (tmp_path / "folder").mkdir()
    refused(tmp_path / "folder", "directory")
    zipped = tmp_path / "export.zip"
    content = zipped.read_bytes()
    for at in range(40, len(content), 997):
        zipped.write_bytes(content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :])
        with contextlib.suppress(InputError):  # any other exception fails the test
            read_ecg(zipped)
    zipped.write_bytes(content[: len(content) // 2])
    refused(zipped, "archive")


def test_a_zip_that_unpacks_to_too_much(tmp_path):
    with zipfile.ZipFile(tmp_path / "export.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("e/electrocardiograms/ecg_2022-01-05.csv", w.apple_csv(values(0)) + b"0.0\n" * 8_000_000)
    refused(tmp_path / "export.zip", "damaged")


def test_a_file_of_one_ecg_has_no_records(tmp_path):
    (tmp_path / "ecg#1.csv").write_bytes(w.apple_csv(values(0)))
    assert ecg_info(tmp_path / "ecg#1.csv").record is None
    refused(tmp_path / "ecg#1.csv", "one ECG only", record="ecg_1")
    refused(str(tmp_path / "ecg#1.csv#2"), "one ECG only")

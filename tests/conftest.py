"""What all tests share: where real recordings and recorded tensors lie."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from echogen.generators import EchoPulse
    from echogen.records import Ecg

settings.register_profile("echogen", deadline=None, max_examples=40)
settings.load_profile("echogen")


def _folder(variable: str) -> Path:
    value = os.environ.get(variable)
    if not value:
        pytest.skip(f"{variable} is not set")
    folder = Path(value)
    assert folder.is_dir(), f"{variable} names {folder}, which is not a folder"
    return folder


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real ECG and echo files."""
    return _folder("ECHOGEN_TEST_DATA")


@pytest.fixture(scope="session")
def fixtures_folder() -> Path:
    """The folder of recorded tensors."""
    return _folder("ECHOGEN_FIXTURES")


@pytest.fixture(scope="session")
def dicom_ecg_path() -> Path:
    """The 12-lead recording inside the pydicom wheel: 1000 Hz, 10 s, 61 bpm."""
    from pydicom.data import get_testdata_file

    return Path(str(get_testdata_file("waveform_ecg.dcm")))


@pytest.fixture(scope="session")
def tiny() -> "EchoPulse":
    """A tiny generator with random weights."""
    from echogen.testing.generators import tiny_echopulse

    return tiny_echopulse()


@pytest.fixture(scope="session")
def ecg() -> "Ecg":
    """10 s of sinus rhythm in 12 leads."""
    from echogen.testing.generators import sinus_ecg

    return sinus_ecg()


class Outcome(NamedTuple):
    """How a run of the command line ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def echogen(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run the command line in this process, as the `echogen` script does."""
    from echogen.cli import main

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["echogen", *map(str, arguments)])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        out, err = capsys.readouterr()
        return Outcome(code, out, err)

    return run

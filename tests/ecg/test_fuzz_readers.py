"""Damaged files of every ECG format are read or refused in one sentence; nothing else happens."""

import runpy
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
made = SimpleNamespace(**runpy.run_path(str(BENCHMARKS / "fuzz_seeds.py")))
fuzz = SimpleNamespace(**runpy.run_path(str(BENCHMARKS / "fuzz.py")))


@pytest.fixture(scope="module")
def seeds():
    """Made here and, where they are at hand, real: small ones, so that many can be tried."""
    return {name: files for name, files in fuzz.corpus().items() if sum(map(len, files.values())) < 300_000}


def outcomes(folder, seeds, first, last):
    """(index, name, outcome, said) of each file that is neither read nor refused, and how often each of these happened."""
    strange, usual = [], {"read": 0, "refused": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for index in range(first, last):
            name, files, arguments = fuzz.case(seeds, 1, index)
            outcome, said = fuzz.attempt(folder, files, arguments)
            if outcome in usual:
                usual[outcome] += 1
            else:
                strange.append((index, name, outcome, said))
    return strange, usual


def test_every_undamaged_file_made_here_is_read(tmp_path):
    for name, files in (made.made() | made.made_from_devices()).items():
        needs_rate = {"rate_hz": 250.0} if name in ("NPY", "CSV", "Pickle") else {}
        assert fuzz.attempt(tmp_path, files, needs_rate) == ("read", ""), name


def test_damaged_files_are_read_or_refused(tmp_path, seeds):
    strange, usual = outcomes(tmp_path, seeds, 0, 400)
    assert not strange
    # The damage is neither harmless nor hopeless.
    assert min(usual.values()) > 40


@pytest.mark.slow
def test_many_damaged_files_are_read_or_refused(tmp_path, seeds):
    strange, _ = outcomes(tmp_path, seeds, 400, 20_000)
    assert not strange


def test_the_same_number_makes_the_same_file(seeds):
    again = fuzz.case(seeds, 3, 17)
    assert fuzz.case(seeds, 3, 17) == again
    assert fuzz.case(seeds, 4, 17)[1] != again[1]


def test_the_audit_sees_what_is_written(tmp_path):
    audit = fuzz.Audit()
    audit.on = True
    (tmp_path / "a").write_bytes(b"x")
    np.zeros(3).tofile(tmp_path / "b")
    (tmp_path / "a").unlink()
    (tmp_path / "b").read_bytes()
    audit.on = False
    assert [what.split()[0] for what in audit.seen] == ["open", "open", "os.remove"]

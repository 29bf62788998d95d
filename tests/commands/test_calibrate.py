"""`echogen calibrate`: a generator's folder gets its correction, or stays as it is."""

import json
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from echogen import Generator
from echogen.generators import EchoPulse
from echogen.generators.base import SHIPPED

Run = Callable[..., Any]


@pytest.fixture
def cascade(tmp_path: Path) -> Path:
    """A copy of the shipped cascade that was never calibrated."""
    folder = tmp_path / "cascade"
    shutil.copytree(SHIPPED / "echodiffusion-small", folder)
    settings = json.loads((folder / "generator.json").read_text())
    (folder / "generator.json").write_text(json.dumps(settings | {"ef_calibration": []}))
    return folder


def test_a_cascade_is_calibrated(echogen: Run, cascade: Path) -> None:
    before = json.loads((cascade / "generator.json").read_text())
    outcome = echogen("calibrate", cascade, "--hearts", 2)
    assert outcome.code == 0, outcome.err
    assert " % for 78 % given." in outcome.out
    after = json.loads((cascade / "generator.json").read_text())
    pairs = after.pop("ef_calibration")
    assert {key: value for key, value in before.items() if key != "ef_calibration"} == after
    assert [given for given, _ in pairs] == [15.0, 30.0, 45.0, 60.0, 78.0]
    assert all(low <= high for (_, low), (_, high) in pairwise(pairs))
    assert Generator.from_pretrained(cascade, "cpu").config.ef_calibration == tuple(map(tuple, pairs))


def test_a_generator_that_draws_no_heart_is_left_as_it_was(echogen: Run, tiny: EchoPulse, tmp_path: Path) -> None:
    tiny.save_pretrained(tmp_path / "tiny")
    before = (tmp_path / "tiny" / "generator.json").read_bytes()
    outcome = echogen("calibrate", tmp_path / "tiny", "--hearts", 1, "--es-hearts", 1)
    assert outcome.code == 2
    assert "train the generator longer" in outcome.err
    assert outcome.err.count("\n") == 1
    assert (tmp_path / "tiny" / "generator.json").read_bytes() == before


def test_what_is_no_generator_is_refused(echogen: Run, tmp_path: Path) -> None:
    outcome = echogen("calibrate", tmp_path)
    assert outcome.code == 2
    assert "echogen assemble" in outcome.err

"""Hearts and ejection fractions by which generators are calibrated, and the fit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from echogen.arrays import Floats
from echogen.errors import InputError
from echogen.files import whole_file
from echogen.generators.base import GENERATOR_FILE

#: Ejection fractions in % that are given to the generator: from weak to hyperdynamic hearts, as training has them.
GIVEN_PERCENT = (15.0, 30.0, 45.0, 60.0, 78.0)
#: Seed of the first heart of a calibration. No training uses these hearts, and no figure of EF or timing is of them.
FIRST_SEED = 60_000
#: Least rise in EF points between two given EFs, so that the fit can be inverted.
LEAST_RISE = 1e-3


def rising_pairs(measured: Floats) -> tuple[tuple[float, float], ...]:
    """Pair each EF of `GIVEN_PERCENT` with the mean EF of its videos, forced to rise.

    measured: EF in %, (hearts, given EFs); nan where none could be measured. Raises `InputError` where none could for a given EF.
    """
    for given, column in zip(GIVEN_PERCENT, measured.T, strict=True):
        if not np.isfinite(column).any():
            raise InputError(
                f"No ejection fraction can be measured in the {len(column)} videos that were given an EF of {given:g} %; "
                "train the generator longer."
            )
    means = np.maximum.accumulate(np.nanmean(measured, axis=0) + LEAST_RISE * np.arange(len(GIVEN_PERCENT)))
    return tuple((given, round(float(mean), 1)) for given, mean in zip(GIVEN_PERCENT, means, strict=True))


@contextmanager
def with_settings(folder: Path, **settings: Any) -> Iterator[Path]:
    """Provide a temporary folder with the networks of a generator's folder and some of its settings changed."""
    with TemporaryDirectory() as temporary:
        place = Path(temporary) / folder.name
        place.mkdir()
        for path in folder.resolve().iterdir():
            if path.name != GENERATOR_FILE:
                (place / path.name).symlink_to(path)
        kept = json.loads((folder / GENERATOR_FILE).read_text(encoding="utf-8"))
        (place / GENERATOR_FILE).write_text(json.dumps(kept | settings), encoding="utf-8")
        yield place


def change_settings(folder: Path, **settings: Any) -> None:
    """Change settings in the generator.json of a folder; the file is replaced as a whole."""
    path = folder / GENERATOR_FILE
    kept = json.loads(path.read_text(encoding="utf-8"))
    with whole_file(path) as unfinished:
        unfinished.write_text(json.dumps(kept | settings, indent=2) + "\n", encoding="utf-8")

"""An ECG of sinus rhythm."""

from __future__ import annotations

import numpy as np
import pytest

from echogen.phantom.electrical import make_ecg
from echogen.phantom.rhythm import make_rhythm
from echogen.records import Ecg


@pytest.fixture(scope="session")
def ecg() -> Ecg:
    rng = np.random.default_rng(0)
    return make_ecg(make_rhythm("sinus", 75, 0.0, 10.0, rng), 0.0, 10.0, rng, rate_hz=250.0)

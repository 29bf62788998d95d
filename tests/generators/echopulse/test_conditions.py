"""Conditions of EchoPulse: the asked and the calibrated EF, the view that a video is drawn in, maps that it does not take."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest

from echogen.errors import InputError
from echogen.generators import EchoPulse
from echogen.records import Cine, Conditions, Ecg, FrameMap


def test_the_ef_asked_for_is_calibrated_for_the_network_alone(tiny: EchoPulse, ecg: Ecg) -> None:
    calibrated = copy.copy(tiny)
    calibrated.config = replace(tiny.config, ef_calibration=((20.0, 30.0), (70.0, 80.0)))
    asked = calibrated(ecg, seconds=0.5, ef_percent=50)
    np.testing.assert_array_equal(asked.frames, tiny(ecg, seconds=0.5, ef_percent=40).frames)
    assert not np.array_equal(asked.frames, tiny(ecg, seconds=0.5, ef_percent=50).frames)


def test_the_view_that_was_drawn_leaves_with_the_video(tiny: EchoPulse, ecg: Ecg) -> None:
    image = Cine(np.full((1, 128, 128), 90, np.uint8), np.zeros(1))
    assert tiny(ecg, seconds=0.1).view == tiny.config.usual_view == "A4C"
    assert tiny(ecg, seconds=0.1, view="A2C").view == "A2C"
    assert tiny(ecg, seconds=0.1, reference=image).view is None
    assert tiny(ecg, seconds=0.1, reference=replace(image, view="A2C")).view == "A2C"


def test_maps_are_refused_by_their_name(tiny: EchoPulse, ecg: Ecg) -> None:
    mask = FrameMap(np.zeros((2, 8, 8), np.uint8), np.array([0.0, 1.0]))
    with pytest.raises(InputError, match=r"does not take the condition maps\.mask"):
        tiny(ecg, Conditions(maps={"mask": mask}), seconds=0.5)
    with pytest.raises(InputError, match="as many times"):
        FrameMap(np.zeros((2, 8, 8), np.uint8), np.zeros(3))
    with pytest.raises(InputError, match="strictly increasing"):
        FrameMap(np.zeros((2, 8, 8), np.uint8), np.zeros(2))

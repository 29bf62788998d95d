"""Calibration of a trained generator: the EF to give so that its videos have the EF asked for, and the delay of its ES."""

from echogen.calibration.calibrate import Calibration, calibrate

__all__ = ["Calibration", "calibrate"]

import numpy as np
import pytest

from echogen.generators.echopulse.wall_contrast import wall_contrast


def picture(wall: float = 0.5, blood: float = 0.1, gap: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """A bright ring around a cavity, part of which (gap, of a turn) is as dark as the blood; and the cavity's cells."""
    row, column = np.mgrid[:128, :128] - 63.5
    radius, turn = np.hypot(row, column), (np.arctan2(row, column) / (2 * np.pi)) % 1.0
    structure = np.where((radius < 30) & (radius > 20) & (turn >= gap), wall, blood)
    cells = (radius < 20).reshape(32, 4, 32, 4).mean((1, 3))
    return structure, cells


def test_it_is_the_contrast_of_wall_and_cavity() -> None:
    assert wall_contrast(*picture()) == pytest.approx(0.4)
    assert wall_contrast(*picture(wall=0.3)) == pytest.approx(0.2)


def test_a_wall_that_is_half_missing_is_not_clear() -> None:
    assert wall_contrast(*picture(gap=0.5)) == pytest.approx(0.0)
    assert wall_contrast(*picture(gap=0.1)) == pytest.approx(0.4)


def test_no_cavity_is_worst() -> None:
    assert wall_contrast(np.full((128, 128), 0.5), np.zeros((32, 32))) == -np.inf

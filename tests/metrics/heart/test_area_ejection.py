"""EF by area of pairs of clips, by whatever finds the ventricle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from echogen import InputError
from echogen.metrics.evaluation.collectors import Pair
from echogen.metrics.heart.area_ejection import AreaEjection, Sam2Masks
from echogen.metrics.published.protocol_clips import HeldClip
from echogen.records import STRUCTURES, Cine


def clip(name: str, sides: tuple[int, ...]) -> HeldClip:
    """A clip whose frames show squares of these sides."""
    frames = np.zeros((len(sides), 128, 128), dtype=np.uint8)
    for frame, side in zip(frames, sides, strict=True):
        frame[20 : 20 + side, 20 : 20 + side] = 255
    return HeldClip(name, Cine(frames, np.arange(len(sides)) / 30.0), as_it_is=True)


class White:
    """What is white is ventricle."""

    def __call__(self, clip: HeldClip) -> np.ndarray:
        return np.where(clip.canonical == 255, STRUCTURES["lv"], 0).astype(np.uint8)


def test_area_ef_of_pairs() -> None:
    collector = AreaEjection("ef_area", White)
    first, second = clip("a", (40, 30, 20)), clip("b", (40, 36))  # 75 % and 19 %
    collector.add(Pair(first, clip("a", (20, 10, 16))))  # 75 %
    collector.add(Pair(second, clip("b", (20, 16)), first))  # 36 %
    collector.add(Pair(clip("c", (10, 5)), clip("c", (0, 0)), second))  # none seen
    collector.add(Pair(None, clip("d", (10, 5))))
    figures = collector.figures()
    assert figures["ef_area"].generated.n == 2
    assert figures["ef_area"].generated.value == pytest.approx((0 + 17) / 2)
    assert figures["ef_area_rmse"].generated.value == pytest.approx(17 / np.sqrt(2))
    assert figures["ef_area_r2"].generated.value == pytest.approx(1 - 17**2 / (2 * 28**2))
    assert figures["ef_area"].control.value == pytest.approx(75 - 36)
    assert "by volume" in figures["ef_area"].note


def test_sam2_is_asked_for_in_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ECHOGEN_WEIGHTS", str(tmp_path))
    with pytest.raises(InputError, match=r"folder sam2; put it into .*"):
        Sam2Masks()
    monkeypatch.delenv("ECHOGEN_WEIGHTS")
    with pytest.raises(InputError, match="name that in ECHOGEN_WEIGHTS"):
        Sam2Masks()
    with pytest.raises(InputError, match="needs a local folder"):
        Sam2Masks(tmp_path / "none")

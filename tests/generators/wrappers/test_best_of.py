"""The choice of the closest ejection fraction."""

from __future__ import annotations

import pytest

from echogen.errors import InputError
from echogen.generators import Generator
from echogen.generators.wrappers.best_of import BestOf
from echogen.records import Cine, Ecg


def grey_as_ef(clip: Cine) -> float | None:
    """A scorer: the grey value as EF, but 50 shows none."""
    return None if clip.frames[0, 0, 0] == 50 else float(clip.frames[0, 0, 0])


def test_the_closest_is_kept_and_the_others_are_recorded(greys: Generator) -> None:
    best = BestOf(greys, grey_as_ef, n=4)
    cine, selection = best.draw(None, ef_percent=51.8, seed=50, seconds=1.0)
    assert cine.frames.max() == 52
    assert selection.to_json() == {
        "asked_percent": 51.8, "seen_percent": [None, 51.0, 52.0, 53.0], "chosen": 2, "seed": 52,
        "selected_error": pytest.approx(0.2), "unselected_error": None,
    }  # fmt: skip
    assert best.draw(None, ef_percent=60, seed=10, seconds=1.0)[1].unselected_error == 50
    clips, _ = best.draw_all(None, ef_percent=51.8, seed=50, seconds=1.0)
    assert [int(clip.frames.max()) for clip in clips] == [50, 51, 52, 53]
    (part,) = best.stream(None, ef_percent=51.8, seed=50, seconds=1.0)
    assert part.frames.max() == best(None, ef_percent=51.8, seed=50, seconds=1.0).frames.max() == 52
    assert best.name == "shelf"


def test_wrong_choices_are_one_sentence(greys: Generator, ecg: Ecg) -> None:
    best = BestOf(greys, lambda clip: 50.0)
    with pytest.raises(InputError, match="where one is asked for"):
        best(None, seconds=1.0)
    with pytest.raises(InputError, match="join the pieces"):
        next(best.stream(iter([ecg]), ef_percent=50))
    with pytest.raises(InputError, match="at least one clip, not 0"):
        BestOf(greys, lambda clip: 50.0, n=0)

"""Looks: the picture changes, the truth does not."""

from typing import get_args, get_type_hints

import numpy as np
import pytest

from echogen.commands.simulate import simulate as command
from echogen.errors import InputError
from echogen.metrics.pictures.speckle import speckle_widths
from echogen.phantom.looks import HELD_OUT_MACHINES, LOOKS, MACHINES, VARIED, draw_look
from echogen.phantom.simulate import simulate
from echogen.phantom.tissue import Levels
from echogen.phantom.ultrasound import Probe
from echogen.records import STRUCTURES, Study


@pytest.fixture(scope="module")
def hearts() -> dict[str, Study]:
    return {look: simulate(seed=21, look=look, seconds=0.5, ef_percent=50) for look in LOOKS}


def test_a_look_changes_the_picture_and_not_the_truth(hearts: dict[str, Study]) -> None:
    plain = hearts["plain"]
    assert plain.ecg is not None
    for look, study in hearts.items():
        assert study.ecg is not None
        assert np.array_equal(study.ecg.signal_mv, plain.ecg.signal_mv)
        assert study.beats == plain.beats
        assert study.ef_percent == plain.ef_percent
        if look != "plain":
            assert np.abs(study.cine.frames.astype(float) - plain.cine.frames).mean() > 3


def test_the_cavity_stays_where_it_is_but_for_breathing(hearts: dict[str, Study]) -> None:
    def area(study: Study) -> np.ndarray:
        assert study.masks is not None
        return (study.masks == STRUCTURES["lv"]).sum((1, 2))

    for study in hearts.values():
        # The sector's sides may cut a little of it off.
        assert area(study) == pytest.approx(area(hearts["plain"]), rel=0.04)


def test_the_same_seed_is_the_same_recording() -> None:
    first, second = (simulate(seed=5, look=VARIED, seconds=0.2) for _ in range(2))
    assert np.array_equal(first.cine.frames, second.cine.frames)


def test_a_machine_that_smooths_has_wider_speckle(hearts: dict[str, Study]) -> None:
    def width(study: Study) -> float:
        tissue = (study.masks == STRUCTURES["myocardium"]).any(0)  # type: ignore[union-attr]
        return float(np.mean(speckle_widths(study.cine.frames, tissue)))

    assert width(hearts["soft"]) > 1.1 * width(hearts["grainy"])


def test_training_sees_no_held_out_machine() -> None:
    assert set(HELD_OUT_MACHINES) < set(MACHINES)
    held_out = [MACHINES[name] for name in HELD_OUT_MACHINES]
    for seed in range(60):
        details, _, _ = draw_look(VARIED, np.random.default_rng(seed), "A4C", Probe(), Levels())
        assert not any(low <= details.sharpen <= high for low, high in (machine.sharpen for machine in held_out) if high > 0)


def test_the_command_line_knows_all_looks() -> None:
    literal = get_type_hints(command)["look"]
    assert get_args(literal) == LOOKS


def test_an_unknown_look_is_refused() -> None:
    with pytest.raises(InputError, match="look must be one of plain, varied"):
        simulate(look="sepia", seconds=0.2)

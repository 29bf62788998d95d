import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from echogen import Beat, Cine, Conditions, Ecg, InputError, Study


def make_ecg(samples: int = 500, rate_hz: float = 250.0, start_s: float = 0.0) -> Ecg:
    return Ecg(np.arange(2 * samples, dtype=np.float32).reshape(2, samples), rate_hz, ("I", "V5"), start_s)


def make_cine(frames: int = 4, fps: float = 32.0, **more: object) -> Cine:
    return Cine(np.zeros((frames, 8, 8), np.uint8), np.arange(frames) / fps, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("signal", "rate", "names", "word"),
    [
        (np.zeros(10), 250, ("I",), "shape"),
        (np.zeros((1, 0)), 250, ("I",), "empty"),
        (np.zeros((2, 10)), 250, ("I",), "lead names"),
        (np.array([[0.0, np.nan]]), 250, ("I",), "finite"),
        (np.array([[0.0, np.inf]]), 250, ("I",), "finite"),
        (np.zeros((1, 10)), 0, ("I",), "rate"),
        (np.zeros((1, 10)), -5, ("I",), "rate"),
        (np.zeros((1, 10)), math.nan, ("I",), "rate"),
    ],
)
def test_an_impossible_ecg_is_refused_with_one_sentence(
    signal: np.ndarray, rate: float, names: tuple[str, ...], word: str
) -> None:
    with pytest.raises(InputError, match=word) as error:
        Ecg(signal, rate, names)
    assert "\n" not in str(error.value)
    assert str(error.value).endswith(".")


def test_an_ecg_knows_its_times_and_leads() -> None:
    ecg = make_ecg(samples=500, rate_hz=250.0, start_s=3.0)
    assert ecg.duration_s == 2.0
    assert ecg.end_s == 5.0
    np.testing.assert_allclose(ecg.times_s[[0, 1, -1]], [3.0, 3.004, 4.996])
    np.testing.assert_array_equal(ecg.lead("v5"), ecg.signal_mv[1])
    assert ecg.signal_mv.dtype == np.float32
    with pytest.raises(InputError, match="I, V5"):
        ecg.lead("II")


def test_records_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        make_ecg().rate_hz = 100.0  # type: ignore[misc]


@given(
    samples=st.integers(2, 2000),
    rate_hz=st.floats(50, 1000),
    start_s=st.floats(-100, 100),
    share=st.floats(0, 1),
    length=st.floats(0, 1),
)
def test_a_part_keeps_the_clock(samples: int, rate_hz: float, start_s: float, share: float, length: float) -> None:
    ecg = make_ecg(samples, rate_hz, start_s)
    start = start_s + share * ecg.duration_s
    end = start + length * ecg.duration_s + 2 / rate_hz
    if start > ecg.times_s[-1]:
        with pytest.raises(InputError, match="covers"):
            ecg.between(start, end)
        return
    part = ecg.between(start, end)
    slack = 1e-5 / rate_hz * 10 + 1e-9
    assert part.start_s >= start - slack
    assert part.times_s[-1] < end + slack
    first = round((part.start_s - ecg.start_s) * rate_hz)
    np.testing.assert_array_equal(part.signal_mv, ecg.signal_mv[:, first : first + part.signal_mv.shape[1]])
    # Nothing that lies inside is left out.
    assert first == 0 or ecg.times_s[first - 1] < start + slack
    last = first + part.signal_mv.shape[1]
    assert last == samples or ecg.times_s[last] >= end - slack


@given(samples=st.integers(2, 500), rate_hz=st.floats(100, 1000), cut=st.floats(0.01, 0.99))
def test_two_neighbouring_parts_hold_every_sample_once(samples: int, rate_hz: float, cut: float) -> None:
    ecg = make_ecg(samples, rate_hz)
    middle = max(cut * ecg.duration_s, 1 / rate_hz)
    if middle > ecg.times_s[-1]:
        return
    left, right = ecg.between(-1.0, middle), ecg.between(middle, ecg.end_s + 1.0)
    np.testing.assert_array_equal(np.concatenate([left.signal_mv, right.signal_mv], axis=1), ecg.signal_mv)


def test_a_part_outside_the_recording_is_refused_with_its_limits() -> None:
    with pytest.raises(InputError, match=r"3\.00 to 5\.00 s"):
        make_ecg(start_s=3.0).between(6.0, 7.0)


@pytest.mark.parametrize(
    ("frames", "times", "more", "word"),
    [
        (np.zeros((4, 8), np.uint8), np.arange(4), {}, "frames, height, width"),
        (np.zeros((4, 8, 8), np.float32), np.arange(4), {}, "uint8"),
        (np.zeros((4, 8, 8), np.uint8), np.arange(3), {}, "frame times"),
        (np.zeros((3, 8, 8), np.uint8), np.array([0.0, 0.1, 0.1]), {}, "increasing"),
        (np.zeros((2, 8, 8), np.uint8), np.array([0.0, np.nan]), {}, "finite"),
        (np.zeros((2, 8, 8), np.uint8), np.arange(2), {"mm_per_pixel": 0.0}, "pixel size"),
        (np.zeros((2, 8, 8), np.uint8), np.arange(2), {"view": "PLAX"}, "A4C"),
    ],
)
def test_an_impossible_cine_is_refused(frames: np.ndarray, times: np.ndarray, more: dict, word: str) -> None:
    with pytest.raises(InputError, match=word):
        Cine(frames, times, **more)


def test_a_cine_knows_its_frame_rate() -> None:
    assert make_cine(33, 32.0).fps == pytest.approx(32.0)
    assert make_cine(33, 32.0).duration_s == pytest.approx(33 / 32)
    assert math.isnan(make_cine(1).fps)
    assert make_cine(1).duration_s == 0.0


def test_ejection_fraction_follows_from_the_volumes() -> None:
    assert Beat(0.0, 0.3, 120.0, 48.0).ef_percent == pytest.approx(60.0)
    assert Beat(0.0, 0.3).ef_percent is None


def test_masks_lie_on_the_frames() -> None:
    with pytest.raises(InputError, match="Masks"):
        Study(None, make_cine(4), masks=np.zeros((3, 8, 8), np.uint8))


@pytest.mark.parametrize("asked", [{"ef_percent": 0.0}, {"ef_percent": 120.0}, {"view": "A3C"}, {"sex": "x"}])
def test_conditions_out_of_range_are_refused(asked: dict) -> None:
    with pytest.raises(InputError):
        Conditions(**asked)


def test_every_condition_may_be_absent() -> None:
    asked = Conditions()
    assert asked.ecg is None
    assert asked.reference is None
    assert dict(asked.maps) == {}


def test_the_older_name_of_the_reference_goes_on_working() -> None:
    with pytest.warns(DeprecationWarning, match="reference"):
        asked = Conditions(frames=make_cine(1))  # type: ignore[call-arg]
    assert asked.reference is not None
    with pytest.warns(DeprecationWarning, match="reference"):
        assert asked.frames is asked.reference
    with pytest.raises(TypeError, match="both"):
        Conditions(frames=make_cine(1), reference=make_cine(1))  # type: ignore[call-arg]

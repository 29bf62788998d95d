"""Folders of videos with pickled ECGs: the layout, what is refused, and that no pickle ever runs anything."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from echogen import InputError
from echogen.datasets.paired_folder import (
    PairedFolder,
    change_contrast,
    ecg_path,
    read_ecg_pickle,
    resize,
    window,
    write_pair,
    write_phantom_pairs,
)
from echogen.ecg.restricted_pickle import array_from_pickle, read_array_pickle
from echogen.records import Cine

NUMBERS = st.sampled_from(["<f4", ">f8", "<f2", "<i2", ">i4", "u1", "i8", "b1"])
ARRAYS = NUMBERS.flatmap(lambda kind: arrays(np.dtype(kind), array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5)))


def cine(frames: int = 12, size: int = 32) -> Cine:
    ramp = np.linspace(0, 255, size).astype(np.uint8)
    return Cine(np.stack([np.roll(np.tile(ramp, (size, 1)), i, axis=1) for i in range(frames)]), np.arange(frames) / 30.0)


def assert_array_or_sentence(content: bytes) -> None:
    try:
        found: Any = array_from_pickle(content)
    except InputError as error:
        found = str(error)
    assert isinstance(found, np.ndarray) or (found.endswith(".") and "\n" not in found)


@given(ARRAYS, st.integers(0, pickle.HIGHEST_PROTOCOL), st.sampled_from(["C", "F", "strided"]))
@settings(deadline=None)
def test_arrays_come_back_as_they_were(array: np.ndarray[Any, Any], protocol: int, order: str) -> None:
    stored = array[..., ::2] if order == "strided" and array.ndim else np.array(array, order="F" if order == "F" else "C")
    found = array_from_pickle(pickle.dumps(stored, protocol))
    assert found.dtype == stored.dtype
    np.testing.assert_array_equal(found, stored)


@given(st.binary(max_size=80))
@settings(deadline=None)
def test_any_bytes_give_an_array_or_one_sentence(content: bytes) -> None:
    assert_array_or_sentence(content)


@given(st.integers(0, pickle.HIGHEST_PROTOCOL), st.integers(0, 10_000), st.integers(0, 255))
@settings(deadline=None)
def test_a_changed_byte_gives_an_array_or_one_sentence(protocol: int, place: int, value: int) -> None:
    content = bytearray(pickle.dumps(np.arange(6.0).reshape(2, 3), protocol))
    content[place % len(content)] = value
    assert_array_or_sentence(bytes(content))


class Runs:
    """Makes a folder when an ordinary unpickler reads it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_would_run_a_program_is_refused(tmp_path: Path, protocol: int) -> None:
    trap = Runs(tmp_path / "ran")
    for hidden in (trap, [np.zeros(3), trap], np.array([trap], dtype=object), {"ecg": trap}):
        with pytest.raises(InputError, match=r"mkdir.*could run a program"):
            array_from_pickle(pickle.dumps(hidden, protocol))
    assert not (tmp_path / "ran").exists()
    pickle.loads(pickle.dumps(trap))
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("other", [[1.0, 2.0], {"ecg": np.zeros(3)}, None, "text", np.array(["text"]), np.zeros(2, complex)])
def test_other_things_than_arrays_of_numbers_are_refused(other: Any) -> None:
    with pytest.raises(InputError, match="numpy array of numbers"):
        array_from_pickle(pickle.dumps(other))


def test_a_pickle_may_not_promise_more_than_it_holds(tmp_path: Path) -> None:
    huge = pickle.PROTO + b"\x05" + pickle.BYTEARRAY8 + (1 << 62).to_bytes(8, "little") + b"."
    with pytest.raises(InputError, match="damaged"):
        array_from_pickle(huge)
    with pytest.raises(InputError, match="cannot be read"):
        read_array_pickle(tmp_path / "missing.pkl")


def test_phantom_clips_come_back_through_the_folder(tmp_path: Path) -> None:
    write_phantom_pairs(tmp_path, 2, frames=9, size=84, seed=5)
    folder = PairedFolder(tmp_path, least_frames=9)
    assert len(folder) == 2
    clip = folder[0]
    assert clip.frames.shape == (9, 84, 84)
    assert clip.ecg_mv is not None
    assert clip.ecg_mv.shape == (12, 36)
    assert np.ptp(clip.ecg_mv) > 0.1
    assert np.diff(clip.times_s) == pytest.approx(1 / 32, abs=1e-3)
    assert clip.frames.std() > 10
    assert (tmp_path / "ekg" / "phantom_000005.pkl").is_file()
    with pytest.raises(InputError, match="9 frames, but 10"):
        PairedFolder(tmp_path, least_frames=10)


def test_a_pair_keeps_its_values(tmp_path: Path) -> None:
    signal = np.random.default_rng(0).normal(size=(1, 500)).astype(np.float32)
    write_pair(tmp_path, "a", cine(), signal)
    clip = PairedFolder(tmp_path)[0]
    assert clip.ecg_mv is not None
    np.testing.assert_array_equal(clip.ecg_mv, signal)
    assert np.abs(clip.frames.astype(float) - cine().frames).mean() < 6  # H.264 loses a little


def test_where_an_ecg_may_lie(tmp_path: Path) -> None:
    below = tmp_path / "video" / "site" / "video"
    below.mkdir(parents=True)
    video = below / "a.mp4"
    video.touch()
    assert ecg_path(video, tmp_path) == tmp_path / "ekg" / "site" / "ekg" / "a.pkl"
    assert ecg_path(video, below) == below / "a.pkl"
    published = tmp_path / "ekg" / "site" / "ekg" / "a.pkl"
    published.parent.mkdir(parents=True)
    published.touch()
    assert ecg_path(video, below) == published


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no echo videos"):
        PairedFolder(tmp_path)
    video = write_pair(tmp_path, "a", cine(), np.zeros((1, 9)))
    (tmp_path / "ekg" / "a.pkl").unlink()
    with pytest.raises(InputError, match=r"has no ECG; put its array into .*a\.pkl"):
        PairedFolder(tmp_path)
    assert PairedFolder(tmp_path, ecg=False)[0].ecg_mv is None
    video.write_bytes(b"no video")
    with pytest.raises(InputError):
        PairedFolder(tmp_path, ecg=False)[0]


def test_shapes_of_a_pickled_ecg(tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    for stored, shape in (((500,), (1, 500)), ((12, 500), (12, 500)), ((500, 12), (12, 500))):
        path.write_bytes(pickle.dumps(np.zeros(stored)))
        assert read_ecg_pickle(path).shape == shape
    for wrong, words in ((np.zeros((2, 3, 4)), "leads x samples"), (np.full(9, np.nan), "not finite")):
        path.write_bytes(pickle.dumps(wrong))
        with pytest.raises(InputError, match=words):
            read_ecg_pickle(path)


@given(st.integers(1, 12), st.integers(1, 4), st.integers(0, 9), st.integers(0, 1000))
def test_a_window_has_its_frames_at_equal_steps(count: int, step: int, spare: int, seed: int) -> None:
    frames = np.arange((count - 1) * step + 1 + spare, dtype=np.uint8)[:, None, None]
    taken = window(frames, count, step, np.random.default_rng(seed))[:, 0, 0]
    assert len(taken) == count
    assert set(np.diff(taken).tolist()) <= {step}


def test_contrast_changes_the_spread_and_not_the_mean() -> None:
    frames = np.random.default_rng(0).integers(90, 160, (5, 16, 16)).astype(np.uint8)
    wide = change_contrast(frames, (1.4, 1.4), np.random.default_rng(0))
    assert wide.std() == pytest.approx(1.4 * frames.std(), rel=0.02)
    assert wide.mean() == pytest.approx(frames.mean(), abs=0.5)
    np.testing.assert_array_equal(change_contrast(frames, (1.0, 1.0), np.random.default_rng(0)), frames)


def test_resizing_keeps_the_picture() -> None:
    frames = cine(size=64).frames
    small = resize(frames, 32)
    assert small.shape == (12, 32, 32)
    assert small.mean() == pytest.approx(frames.mean(), abs=1.0)
    assert resize(frames, 64) is frames

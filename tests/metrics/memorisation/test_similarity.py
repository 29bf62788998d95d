"""Copies are told from new hearts: by their vectors, by the shipped network, and in an evaluation."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echogen.cine import write
from echogen.datasets.clip_store import FIRST_TRAINING_SEED, draw_recording
from echogen.errors import InputError
from echogen.generators.base import Generator
from echogen.metrics.evaluation.figures import share_row
from echogen.metrics.memorisation.bank import (
    BANK_FILE,
    CopyFilter,
    IdentityBank,
    clips_in,
    copy_filter,
    from_steps,
    held_out_hearts,
    in_steps,
    make_bank,
)
from echogen.metrics.memorisation.identity import HeartIdentity, clip_parts
from echogen.metrics.memorisation.similarity import (
    Memorisation,
    copy_threshold,
    distance,
    distance_ratio,
    memorisation_report,
    nearest,
)
from echogen.networks.identity import IdentityConfig
from echogen.phantom.simulate import render
from echogen.records import Cine
from echogen.testing.clip_stores import small_store


def vectors(seed: int, n: int, dims: int = 24) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(size=(n, dims))
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def test_nearest_is_what_every_pair_says() -> None:
    one, other = vectors(0, 50), vectors(1, 30)
    similarity, index = nearest(one, other)
    np.testing.assert_allclose(similarity, (one @ other.T).max(1))
    assert index.tolist() == (one @ other.T).argmax(1).tolist()
    among_own, neighbour = nearest(one, one, same=True)
    assert (neighbour != np.arange(50)).all()
    assert (among_own < 0.99).all()


def test_many_clips_are_compared_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    one = vectors(0, 50)
    whole = nearest(one, one, same=True)
    monkeypatch.setattr("echogen.metrics.memorisation.similarity._ROWS", 7)
    for a, b in zip(whole, nearest(one, one, same=True), strict=True):
        np.testing.assert_allclose(a, b)


def test_copies_are_counted_and_new_clips_are_not() -> None:
    training, held_out = vectors(0, 200), vectors(1, 200)
    copies = training[[3, 3, 5]] + 0.02 * vectors(2, 3)
    copies /= np.linalg.norm(copies, axis=1, keepdims=True)
    report = memorisation_report(np.concatenate([copies, vectors(3, 7)]), training, held_out)
    assert report.copied.tolist()[:3] == [True] * 3
    assert report.copied_share >= 0.3
    assert {3, 5} <= set(np.flatnonzero(report.covered))
    assert report.nearest[:3].tolist() == [3, 3, 5]
    assert memorisation_report(held_out, training, held_out).copied_share == pytest.approx(0.05, abs=0.005)
    assert memorisation_report(held_out, training, held_out).distance_ratio == pytest.approx(1)
    assert memorisation_report(training, training, held_out).distance_ratio == pytest.approx(0, abs=1e-6)
    assert memorisation_report(training, training, held_out).covered_share == 1


def test_distances_of_unit_vectors() -> None:
    one, other = vectors(0, 1)[0], vectors(1, 1)[0]
    assert distance(one @ other) == pytest.approx(np.linalg.norm(one - other))
    assert distance([1.0, 0.0, -1.0]).tolist() == pytest.approx([0, 2**0.5, 2])
    assert distance_ratio([1 - 0.02, 1 - 0.02], [1 - 0.08]) == pytest.approx(0.5)
    assert np.isnan(distance_ratio([], [0.5]))


def test_the_interval_of_a_share_is_wilsons() -> None:
    from scipy.stats import binomtest

    for count in (0, 3, 20):
        row = share_row(np.arange(20) < count)
        expected = binomtest(count, 20).proportion_ci(method="wilson")
        assert (row.value, row.n) == (count / 20, 20)
        assert (row.low, row.high) == pytest.approx((expected.low, expected.high), abs=1e-6)
    assert share_row([]).n == 0


def test_without_held_out_clips_each_training_clip_is_compared_with_the_others() -> None:
    training = vectors(0, 100)
    expected = copy_threshold(nearest(training, training, same=True)[0])
    assert memorisation_report(vectors(1, 5), training).threshold == pytest.approx(expected)
    assert memorisation_report(vectors(1, 5), training, threshold=0.5).threshold == 0.5


@settings(max_examples=20, deadline=None)
@given(order=st.permutations(range(3)), seed=st.integers(0, 100), threshold=st.none() | st.floats(0.1, 0.9))
def test_merged_states_are_one_pass(order: list[int], seed: int, threshold: float | None) -> None:
    sets: dict[str, np.ndarray] = {
        "training": vectors(seed, 40), "held_out": vectors(seed + 1, 31), "generated": vectors(seed + 2, 23)
    }  # fmt: skip
    expected = memorisation_report(sets["generated"], sets["training"], sets["held_out"], threshold=threshold)
    states = []
    for rank in range(3):
        part = Memorisation(threshold)
        for kind, values in sets.items():
            for batch in np.array_split(values[rank::3], 2):
                part.update(batch, kind)  # type: ignore[arg-type]
        states.append(part.state())
    total = Memorisation(threshold)
    for rank in order:
        total.merge_state(states[rank])
    report = total.compute()
    assert report.threshold == pytest.approx(expected.threshold)
    np.testing.assert_allclose(np.sort(report.similarity), np.sort(expected.similarity))
    assert (report.copied_share, report.covered_share) == pytest.approx((expected.copied_share, expected.covered_share))
    assert report.distance_ratio == pytest.approx(expected.distance_ratio)


def test_what_cannot_be_compared_is_one_sentence() -> None:
    with pytest.raises(InputError, match="finite"):
        nearest(np.full((2, 3), np.nan), vectors(0, 2, 3))
    with pytest.raises(InputError, match="use one network"):
        nearest(vectors(0, 2, 3), vectors(0, 2, 4))
    with pytest.raises(InputError, match="at least 2"):
        memorisation_report(vectors(0, 2), vectors(0, 1))
    with pytest.raises(InputError, match="not trained on"):
        copy_threshold([])


@given(st.integers(0, 1000))
def test_a_bank_in_8_bit_steps_is_the_same_bank(seed: int) -> None:
    known = vectors(seed, 9).astype(np.float32)
    again = from_steps(in_steps(known))
    assert float((again * known).sum(1).min()) > 0.999
    np.testing.assert_array_equal(in_steps(again), in_steps(known))


def test_parts_follow_each_other_and_short_clips_repeat() -> None:
    config = IdentityConfig(steps=4)
    frames = np.arange(11, dtype=np.uint8)[:, None, None]
    assert clip_parts(frames, config)[:, :, 0, 0].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert clip_parts(frames[:3], config)[:, :, 0, 0].tolist() == [[0, 1, 2, 0]]


# with the shipped network


def heart(seed: int, seconds: float = 2.0, fps: float = 4.0, start_s: float = 0.0, speckle: int = 0) -> Cine:
    """A clip as training stores hold it, with only the frames that re-identification looks at."""
    times = np.arange(round(seconds * fps)) / fps
    drawn = render(draw_recording(seed, 97 / 32)[0], start_s + times, seed + speckle)
    return Cine(drawn.frames, times)


@pytest.fixture(scope="module")
def shipped() -> CopyFilter:
    return copy_filter(Generator.from_pretrained("phantom-128"))


@pytest.fixture(scope="module")
def copied() -> Cine:
    """A clip that the shipped generator learned from."""
    return heart(FIRST_TRAINING_SEED + 3)


CHANGES: dict[str, Callable[[Cine], Cine]] = {
    "exact": lambda cine: cine,
    "brighter": lambda cine: replace(cine, frames=np.clip(cine.frames * 1.3, 0, 255).astype(np.uint8)),
    "shifted": lambda cine: replace(cine, frames=np.roll(cine.frames, (3, -3), (1, 2))),
    "noisy": lambda cine: replace(
        cine, frames=np.clip(cine.frames + np.random.default_rng(0).normal(0, 8, cine.frames.shape), 0, 255).astype(np.uint8)
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_copy_of_what_the_shipped_generator_learned_from_is_caught(shipped: CopyFilter, copied: Cine, change: str) -> None:
    assert shipped.similarity(CHANGES[change](copied)) > shipped.threshold


def test_new_hearts_pass(shipped: CopyFilter) -> None:
    passed = [shipped.similarity(heart(seed)) <= shipped.threshold for seed in range(95_000, 95_004)]
    assert sum(passed) >= 3


def test_other_beats_and_other_speckle_show_the_same_heart() -> None:
    identity = HeartIdentity()
    one, again, other = (identity(clip) for clip in (heart(95_010), heart(95_010, start_s=1.0, speckle=7), heart(95_012)))
    assert float(one @ again) > 0.85 > float(one @ other)


def test_frames_are_found_by_their_time(copied: Cine) -> None:
    identity = HeartIdentity()
    often = Cine(np.repeat(copied.frames, 8, 0), np.arange(8 * len(copied.frames)) / 32)
    assert float(identity(often) @ identity(copied)) > 0.99


def test_a_bank_is_made_stored_and_read_again(tmp_path: Path) -> None:
    clips = [heart(95_020), heart(95_021)]
    bank = make_bank(clips, held_out_hearts(3, 4.0, seconds=1.0))
    assert (bank.vectors.shape[0], bank.held_out) == (2, 3)
    bank.save(tmp_path / BANK_FILE)
    assert [path.name for path in tmp_path.iterdir()] == [BANK_FILE]
    again = IdentityBank.load(tmp_path / BANK_FILE)
    np.testing.assert_allclose(again.vectors, bank.vectors, atol=1e-6)
    assert (again.threshold, again.digest, again.held_out) == (bank.threshold, bank.digest, 3)
    assert CopyFilter(again).similarity(clips[1]) > 0.99
    with pytest.raises(InputError, match="another network"):
        CopyFilter(replace(again, digest="0"))
    (tmp_path / BANK_FILE).write_bytes(b"nothing")
    with pytest.raises(InputError, match="cannot be read; make it again"):
        IdentityBank.load(tmp_path / BANK_FILE)


def test_clips_of_a_folder_and_of_a_store(tmp_path: Path) -> None:
    small_store(tmp_path / "store", frames=17, first_seed=95_030)
    (from_store,) = clips_in(tmp_path / "store", 4.0)
    assert from_store.fps == 4.0
    (tmp_path / "videos").mkdir()
    write(from_store, tmp_path / "videos" / "a.npz")
    (from_folder,) = clips_in(tmp_path / "videos", 4.0)
    np.testing.assert_array_equal(from_folder.frames, from_store.frames)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """Eight real clips, and generated ones: two copies and a new heart."""
    folder = tmp_path_factory.mktemp("evaluation")
    real, generated = folder / "real", folder / "generated"
    real.mkdir()
    generated.mkdir()
    clips = [heart(95_040 + index, seconds=1.0) for index in range(8)]
    for index, clip in enumerate(clips):
        write(clip, real / f"{index}.npz")
    write(CHANGES["brighter"](clips[2]), generated / "a.npz")
    write(CHANGES["shifted"](clips[5]), generated / "b.npz")
    write(heart(95_060, seconds=1.0), generated / "c.npz")
    return real, generated


def test_an_evaluation_counts_copies(folders: tuple[Path, Path], echogen: Any, tmp_path: Path) -> None:
    real, generated = folders
    outcome = echogen(
        "evaluate", "--real", real, "--generated", generated, "--metrics", "memorisation", "--json", tmp_path / "figures.json"
    )
    assert outcome.code == 0, outcome.err
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["memorisation"]["value"] == pytest.approx(2 / 3, abs=1e-5)
    assert figures["memorisation"]["truth"]["n"] == 4
    assert figures["memorisation"]["truth"]["value"] < 0.5
    assert "8 real clips (under 100)" in figures["memorisation"]["note"]
    assert figures["memorisation_covered"]["value"] == pytest.approx(2 / 8)
    assert figures["memorisation_ratio"]["value"] < 0.7 < figures["memorisation_ratio"]["truth"]["value"]

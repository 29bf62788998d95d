"""Training sources: the same windows for the same position, whatever reads them, from every kind of source."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import echogen
from echogen.cine.sector import canonical_view
from echogen.datasets.clip_store import FPS, render_clips
from echogen.datasets.preparation import Job, prepare_plan, prepare_shard, source_of
from echogen.datasets.shard_writing import begin, finish
from echogen.datasets.shards import Sample
from echogen.errors import InputError
from echogen.records import STRUCTURES, UNLABELLED, Cine
from echogen.testing.data_sets import FakePatient, make_camus
from echogen.training.source import Needs, SourceEntry, SourceSettings, TrainingSource, Window, WindowShape
from echogen.training.source.canonical import CanonicalPictures
from echogen.training.source.permutation import shuffled_place

ECHO = Needs(frozenset({"frames"}), frozenset({"ecg", "ef"}))
SHORT = WindowShape(frames=9)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six short simulated videos of 50 frames/s without anything beside them."""
    folder = tmp_path_factory.mktemp("videos")
    for seed in range(6):
        study = echogen.simulate(seconds=0.8, fps=50, seed=seed)
        echogen.write(study.cine, folder / f"{seed}.avi")
    return folder


@pytest.fixture(scope="module")
def shards(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The videos as shards of two samples."""
    folder = tmp_path_factory.mktemp("shards")
    source = source_of(videos)
    plan = prepare_plan(source, 2, True)
    begin(folder, plan)
    for shard in range(plan.shards):
        prepare_shard(Job(source, folder, plan, shard))
    finish(folder, plan)
    return folder


@pytest.fixture(scope="module")
def clip_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip store of three clips."""
    folder = tmp_path_factory.mktemp("clips")
    render_clips(folder, 3, frames=17, processes=1, clips_per_shard=3)
    return folder


def opened(source: str | Path | SourceEntry | list[SourceEntry], seed: int = 0, **settings: object) -> TrainingSource:
    named = str(source) if isinstance(source, Path) else source
    return TrainingSource(SourceSettings(named, **settings), ECHO, SHORT, seed)  # type: ignore[arg-type]


def same(one: Window, other: Window) -> bool:
    assert one.frames is not None
    assert other.frames is not None
    return one.key == other.key and np.array_equal(one.times_s, other.times_s) and np.array_equal(one.frames, other.frames)


@given(count=st.integers(1, 300), seed=st.integers(0, 2**40))
def test_the_shuffled_order_holds_every_place_once(count: int, seed: int) -> None:
    assert sorted(shuffled_place(place, count, seed) for place in range(count)) == list(range(count))


def test_orders_of_other_seeds_differ_and_large_ones_cost_no_memory() -> None:
    assert [shuffled_place(place, 1000, 1) for place in range(20)] != [shuffled_place(place, 1000, 2) for place in range(20)]
    assert 0 <= shuffled_place(12345, 10**12, 3) < 10**12


@pytest.mark.parametrize("kind", ["videos", "shards"])
def test_recorded_sources_give_windows_at_the_asked_rate(kind: str, request: pytest.FixtureRequest) -> None:
    source = opened(request.getfixturevalue(kind))
    for position in range(8):
        window = source.at(position)
        assert window.frames is not None
        assert window.frames.shape == (9, 128, 128)
        assert np.allclose(np.diff(window.times_s), 1 / 32)
        assert window.ecg is None
        assert window.ef_percent is None


def test_a_clip_store_gives_frames_as_they_are_with_their_truth(clip_store: Path) -> None:
    source = opened(clip_store)
    window = source.at(3)
    stored = source.samples[0][[source.samples[0][i].key for i in range(3)].index(window.key)]
    assert stored.cine is not None
    assert window.frames is not None
    first = round(window.times_s[0] * FPS)
    assert np.array_equal(window.frames, stored.cine.frames[first : first + 9])
    assert np.array_equal(window.maps["structure"], stored.maps["structure"][first : first + 9])
    assert window.ecg is not None
    assert window.ecg.start_s == pytest.approx(window.times_s[0] - 2.0, abs=0.02)
    assert window.ef_percent is not None
    assert window.beats


def test_the_phantoms_clips_last_as_long_as_a_window_needs() -> None:
    needs, shape = Needs(frozenset({"ecg", "twelve_leads"})), WindowShape(frames=0, ecg_seconds=9.0)
    window = TrainingSource(SourceSettings("phantom"), needs, shape, 0).at(4)
    assert window.ecg is not None
    assert window.ecg.duration_s == pytest.approx(9.0, abs=0.01)


def test_the_phantom_renders_hearts_while_training_runs() -> None:
    source = TrainingSource(
        SourceSettings(SourceEntry("phantom", seconds=0.5)), Needs(frozenset({"frames", "ecg", "ef", "masks"})), SHORT, 7
    )
    window, again = source.at(1), source.at(1)
    assert same(window, again)
    assert window.masks is not None
    assert window.masks.max() > 0
    assert window.ef_percent is not None


def test_an_epoch_holds_every_clip_once(shards: Path) -> None:
    source = opened(shards)
    assert len({source.at(position).key for position in range(6)}) == 6


def test_a_mixture_takes_its_sources_by_weight(videos: Path, clip_store: Path) -> None:
    source = opened([SourceEntry(str(videos), weight=1.0), SourceEntry(str(clip_store), weight=3.0)])
    simulated = sum(source.at(position).key.startswith("phantom_") for position in range(80))
    assert 45 <= simulated <= 75


def test_held_out_patients_are_never_trained_on(shards: Path) -> None:
    trained = {opened(shards, held_out=0.5).at(position).patient for position in range(30)}
    judged = {opened(shards, held_out=0.5, of_held_out=True).at(position).patient for position in range(30)}
    assert trained
    assert judged
    assert not trained & judged


@pytest.mark.parametrize(
    ("needed", "words"), [("ecg", "--ecg drawn"), ("ef", "--labels measured"), ("structure", "phantom"), ("masks", "outlines")]
)
def test_a_source_that_lacks_a_part_is_refused_with_the_way_to_get_it(needed: str, words: str, videos: Path) -> None:
    with pytest.raises(InputError, match=words):
        TrainingSource(SourceSettings(str(videos)), Needs(frozenset({"frames", needed})), SHORT, 0)


def test_clips_shorter_than_the_window_are_named(videos: Path) -> None:
    with pytest.raises(InputError, match=r"lasts 0\.7\d s, but a window needs 2\.00 s"):
        TrainingSource(SourceSettings(str(videos)), ECHO, WindowShape(frames=65), 0)


def test_a_damaged_shard_is_refused_or_skipped_and_named(shards: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for path in shards.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    tar = sorted(tmp_path.glob("*.tar"))[1]
    tar.write_bytes(tar.read_bytes()[:5000] + b"\0" * (tar.stat().st_size - 5000))
    with pytest.raises(InputError, match=f"{tar.name}.*set data.damaged to skip"):
        [opened(tmp_path).at(position) for position in range(6)]
    with caplog.at_level(logging.WARNING, logger="echogen.training"):
        lenient = opened(tmp_path, damaged="skip")
        keys = {lenient.at(position).key for position in range(12)}
    assert 1 <= len(keys) <= 4
    assert any(tar.name in record.message for record in caplog.records)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("no/such/folder", "is no folder"),
        (SourceEntry("phantom", look="crisp"), "held out"),
        (SourceEntry("phantom", look="x"), "no look"),
    ],
)
def test_a_source_that_cannot_be_used_is_refused(source: str | SourceEntry, words: str) -> None:
    with pytest.raises(InputError, match=words):
        opened(source)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        opened(tmp_path)


def test_clips_of_another_picture_are_brought_to_the_canonical_one_and_kept(
    test_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cines = sorted((test_data / "real" / "cines").iterdir())
    videos = tmp_path / "videos"
    videos.mkdir()
    for path in [path for path in cines if path.suffix in (".avi", ".mp4")][:3]:
        (videos / path.name).symlink_to(path)
    assert list(videos.iterdir())
    shape = WindowShape(frames=5)
    settings = SourceSettings(str(videos), cache=str(tmp_path / "cache"))
    window = TrainingSource(settings, ECHO, shape, 0).at(2)
    assert window.frames is not None
    assert window.frames.shape == (5, 128, 128)
    again = TrainingSource(settings, ECHO, shape, 0).at(2)
    assert same(window, again)
    assert list((tmp_path / "cache").glob("*.npy"))


def test_outlines_are_brought_to_the_canonical_picture_with_their_frames(tmp_path: Path) -> None:
    study = echogen.simulate(seconds=0.4, seed=3)
    assert study.masks is not None
    frames, masks = (np.repeat(np.repeat(part, 3, 1), 3, 2) for part in (study.cine.frames, study.masks))
    frames, masks = (np.pad(part, ((0, 0), (20, 90), (150, 40))) for part in (frames, masks))
    masks[1::2] = UNLABELLED
    sample = Sample("a", Cine(frames, study.cine.times_s), masks=masks)
    for kept in (None, tmp_path):
        shown = CanonicalPictures(kept).of(sample)
        assert shown.cine is not None
        assert shown.masks is not None
        assert (shown.masks[1::2] == UNLABELLED).all()
        found, true = shown.masks[::2] == STRUCTURES["lv"], study.masks[::2] == STRUCTURES["lv"]
        assert 2 * (found & true).sum() / (found.sum() + true.sum()) > 0.85
        # A picture of the outlines lands where the outlines do.
        view = canonical_view(frames)
        painted = view.frames(np.where(masks[::2] == STRUCTURES["lv"], 255, 0).astype(np.uint8)) > 127
        assert (painted != found).mean() < 0.003


def test_windows_at_outlines_lie_on_outlined_frames_up_to_the_ends(clip_store: Path) -> None:
    shape = WindowShape(3, at_outlined=True)
    source = TrainingSource(SourceSettings(str(clip_store)), Needs(frozenset({"frames", "masks"})), shape, 0)
    middles = set()
    for position in range(40):
        window = source.at(position)
        assert window.masks is not None
        assert window.masks[1].max() <= max(STRUCTURES.values())
        middles.add(round(window.times_s[1] * FPS))
    assert middles == {0, 8, 16}


def test_both_views_of_a_patient_are_held_out_together(tmp_path: Path) -> None:
    make_camus(tmp_path, [FakePatient(f"patient000{number}", seed=number) for number in range(1, 5)])
    seen = [
        TrainingSource(SourceSettings(str(tmp_path), held_out=0.5, of_held_out=held_out), ECHO, WindowShape(2), 0)
        for held_out in (False, True)
    ]
    trained, judged = ({source.at(position).patient for position in range(40)} for source in seen)
    assert not trained & judged
    assert trained | judged == {f"patient000{number}" for number in range(1, 5)}


def test_ecg_files_of_a_folder_feed_a_task_without_frames(test_data: Path) -> None:
    needs, shape = Needs(frozenset({"ecg"})), WindowShape(frames=0, ecg_seconds=2.0)
    source = TrainingSource(SourceSettings(str(test_data / "ecg_wfdb"), damaged="skip"), needs, shape, 0)
    windows = [source.at(position) for position in range(5)]
    assert all(window.ecg is not None and abs(window.ecg.duration_s - 2.0) < 0.02 for window in windows)
    assert len({window.key for window in windows}) > 1


def test_simulated_ecgs_need_no_pictures() -> None:
    needs, shape = Needs(frozenset({"ecg"})), WindowShape(frames=0, ecg_seconds=2.25)
    window = TrainingSource(SourceSettings("phantom"), needs, shape, 0).at(9)
    assert window.frames is None
    assert window.ecg is not None
    assert len(window.ecg.lead_names) == 12

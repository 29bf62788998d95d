import json

import numpy as np
import pytest

from echogen.datasets.clip_store import ClipStore, draw_recording, render_clips
from echogen.errors import InputError
from echogen.phantom.simulate import render

FRAMES = 9


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two shards of two short clips."""
    seen = []
    path = tmp_path_factory.mktemp("store")
    told = {"frames": FRAMES, "first_seed": 70, "clips_per_shard": 2, "processes": 1}
    render_clips(path, 3, **told, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(2, 4), (4, 4)]
    return path


def test_clips_come_back_as_they_were_rendered(folder):
    store = ClipStore(folder)
    assert len(store) == 4
    for index in (0, 3):
        clip, seed = store[index], 70 + index
        heart, ecg = draw_recording(seed, FRAMES / 32)
        drawn = render(heart, np.arange(FRAMES) / 32, seed)
        np.testing.assert_array_equal(clip.frames, drawn.frames)
        np.testing.assert_array_equal(clip.structure, drawn.structure)
        np.testing.assert_array_equal(clip.labels, drawn.labels[::8])
        np.testing.assert_array_equal(clip.ecg, ecg)
        coarse = drawn.displacement.reshape(FRAMES, 2, 64, 2, 64, 2).mean((3, 5))
        assert np.abs(clip.displacement / 4 - coarse).max() <= 0.126
        assert clip.heart["seed"] == seed
        assert clip.heart["ef_percent"] == heart.anatomy.ef_percent
        assert clip.heart["mm_per_pixel"] == heart.probe.mm_per_pixel
        assert clip.heart["es_s"] == pytest.approx(heart.clock.avc_s, abs=1e-4)


def test_clips_are_memory_mapped_and_described_in_plain_json(folder):
    clip = ClipStore(folder)[1]
    assert clip.frames.shape == (FRAMES, 128, 128)
    assert clip.labels.shape == (2, 128, 128)
    assert clip.ecg.shape == (12, pytest.approx((2.0 + FRAMES / 32 + 1.0) * 128, abs=1))
    assert isinstance(clip.frames.base, np.memmap)
    hearts = json.loads((folder / "shard_0000" / "hearts.json").read_text(), parse_constant=pytest.fail)
    assert [heart["seed"] for heart in hearts] == [70, 71]


def test_shards_that_exist_are_kept_and_unfinished_ones_ignored(folder):
    before = (folder / "shard_0001" / "frames.npy").stat().st_mtime_ns
    (folder / "shard_0002.partial1").mkdir(exist_ok=True)
    (folder / "shard_0002.partial1" / "hearts.json").write_text("[]")
    render_clips(folder, 4, frames=FRAMES, first_seed=70, processes=1, clips_per_shard=2)
    assert (folder / "shard_0001" / "frames.npy").stat().st_mtime_ns == before
    assert len(ClipStore(folder)) == 4


def test_several_processes_render_the_same_and_shards_of_other_sizes_follow_one_another(folder, tmp_path):
    render_clips(tmp_path / "b", 1, frames=FRAMES, first_seed=70, processes=2, clips_per_shard=1)
    render_clips(tmp_path / "c", 4, frames=FRAMES, first_seed=70, processes=1, clips_per_shard=3)
    store = ClipStore(tmp_path)
    assert [store[index].heart["seed"] for index in range(len(store))] == [70, 70, 71, 72, 73, 74, 75]
    np.testing.assert_array_equal(store[0].frames, ClipStore(folder)[0].frames)
    with pytest.raises(IndexError):
        store[7]


def test_a_folder_without_clips_is_refused(tmp_path):
    with pytest.raises(InputError, match="no rendered clips"):
        ClipStore(tmp_path / "nothing")


def test_recordings_are_seeded_and_differ():
    hearts = [draw_recording(seed, 1.0) for seed in range(40)]
    again, ecg = draw_recording(7, 1.0)
    assert again.anatomy == hearts[7][0].anatomy
    np.testing.assert_array_equal(ecg, hearts[7][1])
    assert {heart.anatomy.view for heart, _ in hearts} == {"A4C", "A2C"}
    assert len({heart.rhythm.name for heart, _ in hearts}) >= 4
    ef = [heart.anatomy.ef_percent for heart, _ in hearts]
    assert min(ef) < 30
    assert max(ef) > 65

"""The logic of the blind test: what is shown to whom, the clips' bytes, and what is kept of the answers."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from echogen.app.blind_test.clips import encoded_clips, set_up
from echogen.app.blind_test.session import (
    Answer,
    BlindTest,
    ChosenClip,
    Plan,
    answers_path,
    append_answer,
    check_same_plan,
    new_key,
    read_answers,
    read_test,
    reader_name,
    showing_id,
    showings,
)
from echogen.cine import read_cine, write
from echogen.errors import InputError
from echogen.records import Cine

Folders = tuple[Path, Path]


def no_progress(done: float, total: float) -> None:
    assert done <= total


def plan_of(folders: Folders, **changes: object) -> Plan:
    settings = {"clips": 4, "repeats": 2, "seconds": 1.0} | changes
    return Plan(str(folders[0]), str(folders[1]), **settings)  # type: ignore[arg-type]


def drawn_test(clips: int, repeats: int, seed: int = 0) -> BlindTest:
    chosen = tuple(ChosenClip(f"clip-{index}", index < clips // 2, "", 0) for index in range(clips))
    return BlindTest(Plan("a", "b", clips, repeats, seed=seed), chosen, 25.0, new_key())


def answer_of(**changes: object) -> Answer:
    return replace(Answer("ada", 0, "real/Zoë", False, True, False, 2, 5, 3.25, "2024-01-01T00:00:00+00:00"), **changes)  # type: ignore[arg-type]


@given(st.integers(1, 60), st.data())
def test_every_clip_comes_once_and_repeats_are_balanced_and_apart(half: int, data: st.DataObject) -> None:
    repeats = 2 * data.draw(st.integers(0, half // 2))
    test = drawn_test(2 * half, repeats)
    order = showings(test, data.draw(st.text(max_size=5)))
    firsts = [index for index, repeat in order if not repeat]
    again = [index for index, repeat in order if repeat]
    assert sorted(firsts) == list(range(2 * half))
    assert len(again) == len(set(again)) == repeats
    assert Counter(test.clips[index].real for index in again) == Counter({True: repeats // 2, False: repeats // 2})
    for index in again:
        assert order.index((index, True)) - order.index((index, False)) > (2 * half - repeats) // 3


def test_the_order_follows_from_seed_and_reader() -> None:
    orders = [showings(drawn_test(40, 4, seed), name) for seed, name in ((0, "ada"), (0, "bob"), (1, "ada"))]
    assert len(set(orders)) == 3
    assert orders[0] == showings(drawn_test(40, 4), "ada")


def test_ids_differ_between_showings_and_tests() -> None:
    tests = drawn_test(40, 4), drawn_test(40, 4)
    ids = {showing_id(test, reader, position) for test in tests for reader in ("ada", "bob") for position in range(44)}
    assert len(ids) == 2 * 2 * 44


def boxes(video: bytes) -> list[tuple[bytes, int]]:
    """Kind and size of the top-level boxes of an MP4."""
    found, at = [], 0
    while at < len(video):
        size = int.from_bytes(video[at : at + 4], "big")
        found.append((video[at + 4 : at + 8], size))
        at += size
    return found


def test_clips_of_both_kinds_are_made_alike_and_tell_no_names(folders: Folders, tmp_path: Path) -> None:
    test, notes = set_up(plan_of(folders), no_progress)
    assert [clip.real for clip in test.clips] == [True, True, False, False]
    assert any("40 frames per second and generated ones 25" in note for note in notes)
    assert any("112 rows and generated ones 128" in note for note in notes)
    videos = encoded_clips(test, no_progress)
    assert len({len(video) for video in videos}) == 1
    assert len({tuple(kind for kind, _ in boxes(video)) for video in videos}) == 1
    assert sum(size for _, size in boxes(videos[0])) == len(videos[0])
    for video in videos:
        for word in (
            b"patient",
            b"model",
            b"real",
            b"generated",
            str(tmp_path.parent).encode(),
            *(n.encode() for n in folders[0].parts[2:]),
        ):
            assert word not in video
        target = tmp_path / "clip.mp4"
        target.write_bytes(video)
        cine = read_cine(target)
        assert cine.frames.shape == (25, 128, 128)
        assert cine.fps == pytest.approx(25.0)


def test_the_shown_part_starts_at_the_chosen_frame(folders: Folders, tmp_path: Path) -> None:
    test, _ = set_up(plan_of(folders), no_progress)
    (tmp_path / "clip.mp4").write_bytes(encoded_clips(test, no_progress)[3])
    clip = test.clips[3]
    source = read_cine(clip.video).frames[clip.first_frame :][:25]
    shown = read_cine(tmp_path / "clip.mp4").frames
    assert np.abs(shown.astype(float) - source).mean() < 6


def test_short_and_damaged_clips_are_passed_over(folders: Folders, fan: Callable[..., Cine], tmp_path: Path) -> None:
    for index in range(2):
        write(fan(index, 25.0, 1.2), tmp_path / f"good-{index}.npz")
    write(fan(7, 25.0, 0.4), tmp_path / "short.npz")
    (tmp_path / "damaged.mp4").write_bytes(b"\0\0\0 ftypisom")
    write(Cine(np.full((30, 64, 64), 90, np.uint8), np.arange(30) / 25), tmp_path / "grey.npz")
    for seed in range(3):
        test, _ = set_up(plan_of((folders[0], tmp_path), seed=seed), no_progress)
        assert {clip.name for clip in test.clips[2:]} == {"good-0", "good-1"}
    with pytest.raises(InputError, match=r"2 generated clips in .* and 3 are needed"):
        set_up(plan_of((folders[0], tmp_path), clips=6), no_progress)


def test_whole_pictures_keep_their_shape(folders: Folders, tmp_path: Path) -> None:
    for index in range(2):
        write(Cine(np.full((30, 40, 80), 200, np.uint8), np.arange(30) / 25), tmp_path / f"wide-{index}.npz")
    test, _ = set_up(plan_of((folders[0], tmp_path), clips=2, repeats=0, whole=True, size=64), no_progress)
    (tmp_path / "clip.mp4").write_bytes(encoded_clips(test, no_progress)[1])
    frame = read_cine(tmp_path / "clip.mp4").frames[0].astype(int)
    assert abs(frame[18:46].mean() - 200) < 3
    assert frame[:14].max() < 10
    assert frame[50:].max() < 10


def test_a_test_is_read_back_as_it_was_written(folders: Folders, tmp_path: Path) -> None:
    test, _ = set_up(plan_of(folders), no_progress)
    assert read_test(tmp_path) is None
    (tmp_path / "test.json").write_text(json.dumps(test.to_json()))
    assert read_test(tmp_path) == test
    check_same_plan(test, plan_of(folders))
    with pytest.raises(InputError, match=r"a blind test with seconds 1\.0, not 1\.5"):
        check_same_plan(test, plan_of(folders, seconds=1.5))
    for damaged in ("{", "[]", '{"clips": []}', '{"clips": [{"name": 1}], "plan": {}}'):
        (tmp_path / "test.json").write_text(damaged)
        with pytest.raises(InputError, match="blind test"):
            read_test(tmp_path)


def test_a_clip_that_went_away_is_named(folders: Folders) -> None:
    test, _ = set_up(plan_of(folders), no_progress)
    moved = replace(test, clips=(replace(test.clips[0], video="/nowhere/a.npz"), *test.clips[1:]))
    with pytest.raises(InputError, match=r"/nowhere/a\.npz of this blind test is no longer there"):
        encoded_clips(moved, no_progress)
    changed = replace(test, clips=(replace(test.clips[0], first_frame=60), *test.clips[1:]))
    with pytest.raises(InputError, match="has changed"):
        encoded_clips(changed, no_progress)


@pytest.mark.parametrize(
    "changes",
    [{"clips": 5}, {"clips": 0}, {"clips": 402}, {"repeats": 1}, {"repeats": 4}, {"seconds": float("nan")}, {"size": 63}],
)
def test_plans_out_of_range_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(InputError):
        plan_of((Path("a"), Path("b")), **changes)


def test_one_folder_cannot_be_both() -> None:
    with pytest.raises(InputError, match="two different ones"):
        plan_of((Path("a"), Path("a")))


@pytest.mark.parametrize(
    ("given_name", "stored"),
    [(" Dr. Ada  LOVELACE ", "dr-ada-lovelace"), ("../../etc/passwd", "etc-passwd"), ("Ğ. Öz", "ğ-öz"), ("a" * 99, "a" * 40)],
)
def test_reader_names_are_cleaned(given_name: str, stored: str) -> None:
    assert reader_name(given_name) == stored


@given(st.text(max_size=80))
def test_a_cleaned_name_is_a_plain_file_name_and_stays_as_it_is(given_name: str) -> None:
    try:
        name = reader_name(given_name)
    except InputError:
        assert not any(sign.isalnum() for sign in given_name)
        return
    assert answers_path(Path("folder"), name).parent == Path("folder")
    assert all(sign.isalnum() or sign == "-" for sign in name)
    assert 0 < len(name) <= 40


def test_answers_come_back_in_order_and_a_torn_line_is_dropped(tmp_path: Path) -> None:
    path = answers_path(tmp_path, "ada")
    assert read_answers(path) == []
    first, second = answer_of(), answer_of(position=1, real=False, repeat=True)
    append_answer(tmp_path, first)
    path.write_bytes(path.read_bytes() + second.to_line().encode()[:-30])
    assert read_answers(path) == [first]
    append_answer(tmp_path, second)
    assert read_answers(path) == [first, second]
    assert [json.loads(line)["truth"] for line in path.read_text().splitlines()] == ["real", "generated"]


@pytest.mark.parametrize("line", ["{}", "nonsense", answer_of().to_line().replace('"confidence": 2', '"confidence": 9').strip()])
def test_a_damaged_answer_is_named(line: str, tmp_path: Path) -> None:
    path = answers_path(tmp_path, "ada")
    path.write_text(answer_of().to_line() + line + "\n")
    with pytest.raises(InputError, match=r"Line 2 of .*answers-ada\.jsonl"):
        read_answers(path)

"""Files and folders that are written whole or not at all."""

from pathlib import Path

import pytest

from echogen.files import whole_file, whole_folder


class Stop(Exception):
    """Ends a block before it is done."""


def test_a_file_takes_the_place_of_the_earlier_one(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    for text in ("one", "two"):
        with whole_file(path) as unfinished:
            assert unfinished.suffix == ".txt"
            assert unfinished.parent == tmp_path
            unfinished.write_text(text)
        assert path.read_text() == text
    assert list(tmp_path.iterdir()) == [path]


def test_a_failing_block_leaves_the_earlier_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one")

    def write_half() -> None:
        with whole_file(path) as unfinished:
            unfinished.write_text("tw")
            raise Stop

    with pytest.raises(Stop):
        write_half()
    assert path.read_text() == "one"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "folder"
    with whole_folder(path) as unfinished:
        (unfinished / "sub").mkdir()
        (unfinished / "sub" / "a.txt").write_text("one")
        assert not path.exists()
    assert (path / "sub" / "a.txt").read_text() == "one"
    assert list(path.parent.iterdir()) == [path]


def test_an_empty_folder_is_replaced_and_a_full_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    with whole_folder(path) as unfinished:
        (unfinished / "a.txt").write_text("one")
    with pytest.raises(OSError, match="folder"), whole_folder(path) as unfinished:
        (unfinished / "a.txt").write_text("two")
    assert (path / "a.txt").read_text() == "one"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_folder_is_replaced_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    for name in ("one", "two"):
        with whole_folder(path, replace=True) as unfinished:
            (unfinished / name).write_text(name)
        assert [file.name for file in path.iterdir()] == [name]
    with pytest.raises(Stop), whole_folder(path, replace=True):
        raise Stop
    assert [file.name for file in path.iterdir()] == ["two"]
    assert list(tmp_path.iterdir()) == [path]

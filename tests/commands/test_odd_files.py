"""Pipes, folders in the way and full disks: one sentence, and nothing half-written."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

posix = pytest.mark.skipif(os.name != "posix", reason="needs named pipes and limits of a process")


@posix
@pytest.mark.parametrize("verb", ["info", "ecg", "measure", "generate", "clean"])
def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path, echogen: Callable[..., Any], verb: str) -> None:
    pipe = tmp_path / "a.csv"
    os.mkfifo(pipe)
    output = {"generate": ("-o", tmp_path / "b.mp4"), "clean": ("-o", tmp_path / "b")}.get(verb, ())
    done = echogen(verb, pipe, *output)
    assert done.code == 2
    said = done.err if verb != "clean" else (tmp_path / "b/report.json").read_text()
    assert "is a pipe or a device" in said


def test_a_folder_named_like_the_json_is_told_before_any_work(tmp_path: Path, echogen: Callable[..., Any]) -> None:
    (tmp_path / "a.json").mkdir()
    done = echogen("generate", "-o", tmp_path / "a.mp4")
    assert done.code == 2
    assert "the JSON file beside the video, is a folder" in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@posix
@pytest.mark.parametrize("name", ["a.dcm", "a.mp4", "a.npz", "a.nii", "a.gif"])
def test_a_disk_without_room_is_one_sentence(tmp_path: Path, name: str) -> None:
    script = (
        "import resource, sys, echogen\n"
        "cine = echogen.simulate(seconds=1.0).cine\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "try:\n    echogen.write(cine, sys.argv[1])\n"
        "except echogen.InputError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path / name], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == f"{tmp_path / name} cannot be written: File too large."
    assert list(tmp_path.iterdir()) == []

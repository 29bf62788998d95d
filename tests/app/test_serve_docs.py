"""The examples of docs/serving.md run as they stand, at another address."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")
pytest.importorskip("websockets", reason="the extra serve is not installed")

from echogen.app.serve.job_queue import JobQueue
from echogen.app.serve.server import create_app

PAGE = Path(__file__).parents[2] / "docs" / "serving.md"


def test_the_examples_run(
    telltale: Any,
    serving: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dicom_ecg_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(examples) == 2
    shutil.copy(dicom_ecg_path, tmp_path / "ecg.dcm")
    monkeypatch.chdir(tmp_path)
    with serving(create_app(JobQueue(telltale, None))) as address:
        for example in examples:
            exec(example.replace("127.0.0.1:8000", address.split("/")[2]), {})
    assert (tmp_path / "heart.mp4").read_bytes()[4:8] == b"ftyp"
    assert capsys.readouterr().out.split("\n")[:2] == ["good", "(32, 128, 128) 2.96875 None"]


def test_every_limit_it_names_is_the_one_in_force() -> None:
    from echogen.app.page import LEAST_TOKEN
    from echogen.app.serve import file_reader as serve_reader
    from echogen.app.serve import sockets as serve_sockets
    from echogen.app.serve import uploads as serve_uploads
    from echogen.app.serve.job_queue import Limits
    from echogen.app.serve.requests import LONGEST_CLIP_S

    text, limits = " ".join(PAGE.read_text(encoding="utf-8").split()), Limits()
    assert (limits.streams, limits.requests, limits.feeds, LEAST_TOKEN) == (4, 4, 4, 8)
    assert (serve_sockets.AHEAD_S, serve_sockets.SENT_WITHIN_S, limits.idle_s, limits.stream_s) == (5, 30, 600, 3600)
    assert f"at most {serve_uploads.MOST_BYTES // 1024**2} MB" in text
    assert f"with {serve_reader.MOST_MEMORY // 1024**3} GB of memory, {serve_reader.MOST_CPU_S} CPU seconds" in text
    assert f"{limits.per_minute:.0f} requests a minute ({limits.burst} at once)" in text
    assert f"at most {LONGEST_CLIP_S:.0f} s" in text

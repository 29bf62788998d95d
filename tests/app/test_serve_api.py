"""The HTTP API of `echogen serve`: what it answers, what it refuses, and that nothing of an upload stays."""

import base64
import io
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import av
import numpy as np
import pydicom
import pytest

from echogen.cine import write
from echogen.cine.sector import to_sector
from echogen.ecg import find_landmarks
from echogen.errors import InputError
from echogen.records import Cine

pytest.importorskip("fastapi", reason="the extra serve is not installed")
testclient = pytest.importorskip("fastapi.testclient", reason="httpx2 is not installed")

from echogen.app.file_facts import describe  # noqa: E402
from echogen.app.page import allowed_hosts  # noqa: E402
from echogen.app.serve import uploads as serve_uploads  # noqa: E402
from echogen.app.serve.clips import labelled, measured, plain  # noqa: E402
from echogen.app.serve.ecg_sources import EndlessEcg  # noqa: E402
from echogen.app.serve.job_queue import JobQueue, Limits  # noqa: E402
from echogen.app.serve.server import create_app  # noqa: E402

ASKED = {"ecg": {"kind": "simulated"}, "seconds": 1.0, "ef_percent": 40, "seed": 7}


def client_of(heart: Any, limits: Limits | None = None, **settings: Any) -> Any:
    return testclient.TestClient(create_app(JobQueue(heart, None, limits), **settings))


@pytest.fixture(scope="module")
def client(telltale: Any) -> Any:
    return client_of(telltale, Limits(burst=1000))


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made, so that a test can see what is left in it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_the_status_tells_what_may_be_chosen(client: Any) -> None:
    told = client.get("/api/status").json()
    assert (told["model"], told["ef_range_percent"], told["streams"]["now"]) == ("telltale", [15, 80], 0)
    assert "af" in told["rhythms"]
    assert client.get("/openapi.json").json()["paths"].keys() >= {"/api/generate", "/api/measure", "/api/info"}


def test_an_ecg_is_read_and_a_clip_beats_with_it(client: Any, telltale: Any, dicom_ecg_path: Path, temporary: Path) -> None:
    answer = client.post("/api/ecg?name=heart.dcm", content=dicom_ecg_path.read_bytes())
    assert answer.status_code == 200, answer.text
    assert list(temporary.iterdir()) == []
    read = answer.json()
    assert (read["facts"]["quality"], read["facts"]["leads"], read["ecg"]["rate_hz"]) == ("good", 12, 1000)
    assert len(base64.b64decode(read["ecg"]["signal_mv"])) == 4 * 12 * 10_000
    assert read["summary"]["said"][0] == "DICOM, 1000 Hz (stated in the file), 10.00 s, unit stated in the file"
    assert [lead["name"] for lead in read["summary"]["leads"]] == read["ecg"]["lead_names"]
    assert base64.b64decode(read["picture"]).startswith(b"\x89PNG")
    asked = ASKED | {"ecg": read["ecg"], "start_s": 2.0, "seconds": 1.5, "format": "npz"}
    with np.load(io.BytesIO(client.post("/api/generate", json=asked).content)) as clip:
        told = [telltale.told(frame) for frame in clip["frames"]]
        about = json.loads(str(clip["about"]))
    assert told == [(number, 7, 40) for number in range(64, 112)]
    assert (about["synthetic"], about["seed"], about["fps"], len(about["r_s"])) == (True, 7, 32, 2)
    too_long = client.post("/api/generate", json=asked | {"seconds": 9})
    assert (too_long.status_code, "at most 8.00 s" in too_long.json()["error"]) == (400, True)


def test_several_files_of_one_recording_are_read_together(client: Any, tmp_path: Path) -> None:
    import wfdb

    signal = np.sin(np.arange(2500) / 40)[:, None]
    wfdb.wrsamp("rec", 250, ["mV"], ["II"], signal, fmt=["16"], write_dir=str(tmp_path))
    header, data = ((tmp_path / f"rec.{suffix}").read_bytes() for suffix in ("hea", "dat"))
    query = f"name=rec.dat&name=rec.hea&size={len(data)}&size={len(header)}"
    answer = client.post(f"/api/ecg?{query}", content=data + header)
    assert (answer.status_code, answer.json()["facts"]["lead_names"]) == (200, ["II"])
    wrong = client.post("/api/ecg?name=rec.dat&name=rec.hea", content=data + header)
    assert (wrong.status_code, "size" in wrong.json()["error"]) == (400, True)


def test_info_says_what_the_command_line_says(client: Any, dicom_ecg_path: Path) -> None:
    answer = client.post("/api/info?name=a.dcm", content=dicom_ecg_path.read_bytes())
    assert answer.json() == json.loads(json.dumps(plain(describe(dicom_ecg_path))))


def test_a_video_is_measured(client: Any, tmp_path: Path) -> None:
    from echogen.phantom.simulate import simulate

    cine = simulate(heart_rate_bpm=80, ef_percent=60, seconds=1.6, seed=3).cine
    write(cine, tmp_path / "clip.npz")
    answer = client.post("/api/measure?name=clip.npz", content=(tmp_path / "clip.npz").read_bytes())
    assert answer.status_code == 200, answer.text
    facts = {"mm_per_pixel": cine.mm_per_pixel, "view": cine.view}
    direct = measured(facts, {"frames": cine.frames, "times_s": cine.times_s})
    assert answer.json() == json.loads(json.dumps(plain(direct)))
    assert answer.json()["ef_percent"] == pytest.approx(60, abs=12)


def test_a_first_frame_is_cut_to_its_sector(client: Any, fan: Any, tmp_path: Path, telltale: Any) -> None:
    cine = fan(3, 20.0, 0.5, 160)
    write(cine, tmp_path / "still.npz")
    answer = client.post("/api/first-frame?name=still.npz", content=(tmp_path / "still.npz").read_bytes())
    frame = np.frombuffer(base64.b64decode(answer.json()["first_frame"]), np.uint8).reshape(128, 128)
    np.testing.assert_array_equal(frame, to_sector(cine.frames[0], 128)[0])
    asked = ASKED | {"first_frame": answer.json()["first_frame"], "format": "json"}
    told = client.post("/api/generate", json=asked).json()
    assert told["settings"]["first_frame"] is True
    # It begins at an R peak, on the grid of frames, and the same request with that beginning begins there again.
    start = told["video_start_s"]
    assert (32 * start) % 1 == 0
    ecg = next(EndlessEcg("sinus", 72, 7))
    assert np.abs(find_landmarks(ecg).r_s - start).min() < 1.5 / 32
    again = client.post("/api/generate", json=asked | {"start_s": start}).json()
    assert again["video_start_s"] == start > 0


@pytest.mark.parametrize("kind", ["mp4", "gif", "avi", "dcm"])
def test_every_picture_that_leaves_says_that_it_is_synthetic(kind: str, client: Any, telltale: Any) -> None:
    first, again = (client.post("/api/generate", json=ASKED | {"format": kind}) for _ in range(2))
    assert first.status_code == 200, first.text
    assert "synthetic" in first.headers["content-disposition"]
    bare = telltale.fan[:1] * 0
    word = labelled(bare)[0] > 100
    assert word.any()
    if kind == "dcm":
        with zipfile.ZipFile(io.BytesIO(first.content)) as archive:
            assert sorted(archive.namelist()) == ["synthetic.dcm", "synthetic.json", "synthetic_ecg.dcm"]
            image = pydicom.dcmread(io.BytesIO(archive.read("synthetic.dcm")))
        frames = image.pixel_array
    else:
        assert first.content == again.content
        with av.open(io.BytesIO(first.content)) as container:
            frames = np.stack([frame.to_ndarray(format="gray") for frame in container.decode(video=0)])[:, :512, :512][
                :, ::4, ::4
            ]
    assert len(frames) == 32
    assert (frames[:, word[: frames.shape[1], : frames.shape[2]]] > 60).mean() > 0.8


@pytest.mark.parametrize(
    ("path", "content", "status", "sentence"),
    [
        ("/api/ecg?name=a.csv", b"", 400, "empty"),
        ("/api/ecg?name=../../etc/passwd", b"\x00\x01nonsense" * 50, 400, "passwd"),
        ("/api/ecg?name=heart.dcm", b"\x00" * 128 + b"DICM" + b"\xff" * 400, 400, "heart.dcm"),
        ("/api/measure?name=clip.mp4", b"\x00\x00\x00\x18ftypmp42" + b"\x11" * 4000, 400, "clip.mp4"),
        ("/api/first-frame?name=still.png", b"\x89PNG\r\n\x1a\n" + b"\x00" * 100, 400, "still.png"),
        ("/api/info", b"abc", 422, "not understood"),
        ("/api/ecg?name=a&name=b&name=c&name=d&name=e", b"abc", 422, "not understood"),
        ("/api/ecg?name=a.csv&rate_hz=1", b"abc", 422, "not understood"),
        ("/api/elsewhere", b"abc", 405, "no such request"),
    ],
)
def test_a_bad_upload_gets_one_sentence_and_leaves_nothing(
    path: str, content: bytes, status: int, sentence: str, client: Any, temporary: Path
) -> None:
    answer = client.post(path, content=content)
    assert (answer.status_code, sentence in answer.json()["error"]) == (status, True), answer.text
    assert str(temporary) not in answer.text
    assert list(temporary.iterdir()) == []


def test_an_upload_that_is_too_large_or_too_slow_is_refused(
    client: Any, temporary: Path, monkeypatch: pytest.MonkeyPatch, dicom_ecg_path: Path
) -> None:
    monkeypatch.setattr(serve_uploads, "READ_WITHIN_S", 0.05)
    answer = client.post("/api/ecg?name=a.dcm", content=dicom_ecg_path.read_bytes())
    assert (answer.status_code, "within the limits" in answer.json()["error"]) == (400, True)
    monkeypatch.setattr(serve_uploads, "MOST_BYTES", 1000)
    answer = client.post("/api/ecg?name=a.dcm", content=dicom_ecg_path.read_bytes())
    assert (answer.status_code, "larger than" in answer.json()["error"]) == (413, True)
    assert list(temporary.iterdir()) == []


def test_the_reader_of_uploads_can_neither_fill_the_memory_nor_call_out() -> None:
    code = """
import socket, subprocess
from echogen.app.serve.file_reader import confine
confine()
for harm in (lambda: bytearray(4 << 30), lambda: socket.create_connection(("127.0.0.1", 9)), lambda: subprocess.run(["true"])):
    try:
        harm()
    except (MemoryError, PermissionError) as error:
        print(type(error).__name__)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["MemoryError", "PermissionError", "PermissionError"]


@pytest.mark.parametrize(
    "asked",
    [
        ASKED | {"seconds": 31},
        ASKED | {"seed": -1},
        ASKED | {"ef_percent": float("nan")},
        ASKED | {"ecg": {"kind": "simulated", "rhythm": "waltz"}},
        ASKED | {"ecg": {"kind": "live", "feed": "a"}},
        ASKED | {"further": 1},
        {"seconds": 1},
    ],
)
def test_a_request_that_asks_for_the_impossible_is_not_understood(asked: dict[str, Any], client: Any) -> None:
    answer = client.post("/api/generate", content=json.dumps(asked), headers={"Content-Type": "application/json"})
    assert (answer.status_code, list(answer.json())) == (422, ["error"])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"ef_percent": 5}, "from 15 to 80"),
        ({"sex": "f"}, "does not take the condition sex"),
        ({"first_frame": "AAAA"}, "128 x 128"),
        ({"first_frame": "nö"}, "not base64"),
        ({"ecg": {"kind": "recorded", "rate_hz": 100, "lead_names": ["II"], "signal_mv": "AAA="}}, "same number of samples"),
        ({"ecg": {"kind": "recorded", "rate_hz": 100, "lead_names": ["II"], "signal_mv": "AADAfw=="}}, "not finite"),
    ],
)
def test_what_the_model_cannot_make_is_one_sentence(change: dict[str, Any], sentence: str, client: Any) -> None:
    answer = client.post("/api/generate", json=ASKED | change)
    assert (answer.status_code, sentence in answer.json()["error"]) == (400, True), answer.text


def test_who_comes_too_often_or_finds_it_busy_learns_when_to_come_again(telltale: Any) -> None:
    busy = client_of(telltale, Limits(requests=0)).post("/api/generate", json=ASKED)
    assert (busy.status_code, busy.headers["retry-after"], "busy" in busy.json()["error"]) == (503, "5", True)
    client = client_of(telltale, Limits(per_minute=1, burst=2))
    answers = [client.post("/api/info?name=a", content=b"") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [400, 400, 429]
    assert 0 < int(answers[2].headers["retry-after"]) <= 61


def test_strangers_and_other_sites_are_kept_out(telltale: Any) -> None:
    client = client_of(telltale, token="letmein42", hosts=allowed_hosts("127.0.0.1", "letmein42"))
    client.headers["Host"] = "127.0.0.1:8000"
    good = {"X-Token": "letmein42"}
    assert client.get("/api/status", headers=good).status_code == 200
    for headers in ({}, {"X-Token": "letmein43"}):
        assert client.get("/api/status", headers=headers).status_code == 401
        assert client.post("/api/generate", json=ASKED, headers=headers).status_code == 401
        assert client.post("/api/info?name=a", content=b"a", headers=headers).status_code == 401
    assert client.get("/", headers={"Host": "rebound.example"}).status_code == 400
    for origin in ("http://elsewhere.example", "null", "http://127.0.0.1:9"):
        assert client.get("/api/status", headers=good | {"Origin": origin}).status_code == 403
    own = client.get("/", headers={"Origin": "http://127.0.0.1:8000"})
    assert (own.status_code, "default-src 'self'" in own.headers["content-security-policy"]) == (200, True)


@pytest.mark.parametrize(("host", "token"), [("0.0.0.0", None), ("127.0.0.1", "short"), ("::", "with space")])
def test_it_is_not_opened_to_others_without_a_good_token(host: str, token: str | None) -> None:
    with pytest.raises(InputError, match="token"):
        allowed_hosts(host, token)


def test_a_word_is_burned_into_small_and_large_pictures() -> None:
    for size in (64, 128, 512):
        word = labelled(np.zeros((2, size, size), np.uint8))
        assert 0.001 < (word > 100).mean() < 0.1
        assert Cine(word, np.arange(2.0)).frames.max() > 150

"""Hearts that beat on a WebSocket: the frames that a client gets, live ECGs, and what becomes of clients that go."""

import gc
import hashlib
import json
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from echogen.ecg import find_landmarks
from echogen.errors import InputError
from echogen.records import Ecg

pytest.importorskip("fastapi", reason="the extra serve is not installed")
pytest.importorskip("websockets", reason="the extra serve is not installed")

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from echogen.app.serve.ecg_sources import EndlessEcg, Feed, Feeds
from echogen.app.serve.job_queue import JobQueue, Limits
from echogen.app.serve.limits import RateLimit, Refused
from echogen.app.serve.requests import ClipRequest, StreamRequest, clip_ecg, encoded
from echogen.app.serve.server import create_app
from echogen.app.serve.video_stream import VideoStream, outlines

SIMULATED = {"kind": "simulated", "rhythm": "sinus", "heart_rate_bpm": 72}


def received(socket: Any) -> tuple[dict[str, Any], np.ndarray | None]:
    """The next message: its header, and the frames of a part."""
    message = socket.recv(timeout=60)
    if isinstance(message, str):
        return json.loads(message), None
    length = int.from_bytes(message[:4], "little")
    header = json.loads(message[4 : 4 + length])
    shape = (header["frames"], header["height"], header["width"])
    frames = np.frombuffer(message, np.uint8, int(np.prod(shape)), 4 + length).reshape(shape)
    assert hashlib.sha256(frames.tobytes()).hexdigest() == header["sha256"]
    return header, frames


def start(socket: Any, question: int = 1, **asked: Any) -> None:
    socket.send(json.dumps({"type": "start", "question": question, "heart": {"ecg": SIMULATED} | asked}))


def settles(condition: Any) -> bool:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


@pytest.fixture
def jobs(telltale: Any) -> JobQueue:
    return JobQueue(telltale, None, Limits(streams=2, feeds=1, burst=1000))


@pytest.fixture
def address(jobs: JobQueue, serving: Any) -> Iterator[str]:
    with serving(create_app(jobs)) as running:
        yield running.replace("http", "ws") + "api/"


def test_a_heart_beats_ahead_of_what_is_shown_and_another_takes_its_place(address: str, telltale: Any) -> None:
    with connect(address + "beat") as socket:
        start(socket, seed=5, ef_percent=30, start_s=1.0)
        headers, numbers = [], []
        for _ in range(6):
            header, frames = received(socket)
            assert frames is not None
            headers.append(header)
            numbers += [telltale.told(frame) for frame in frames]
        assert numbers == [(number, 5, 30) for number in range(32, 32 * 7)]
        assert [header["index"] for header in headers] == list(range(6))
        with pytest.raises(TimeoutError):
            socket.recv(timeout=0.3)  # five seconds ahead, and none of it shown
        socket.send(json.dumps({"type": "shown", "until_s": 3.0}))
        assert received(socket)[0]["index"] == 6
        start(socket, 2, seed=6, ef_percent=70, start_s=3.5)
        header, frames = received(socket)
        while header["question"] == 1:
            header, frames = received(socket)
        assert frames is not None
        assert telltale.told(frames[0]) == (112, 6, 70)
        # The ECG comes with the frames, a little ahead of them, and its R peaks are told.
        ecg = header["ecg"]
        assert ecg["start_s"] == pytest.approx(3.5, abs=0.01)
        assert ecg["samples"] / ecg["rate_hz"] == pytest.approx(2.0, abs=0.02)
        assert header["ecg_rate_bpm"] == pytest.approx(72, abs=8)


def test_twenty_clients_each_get_their_own_heart(telltale: Any, serving: Any) -> None:
    jobs = JobQueue(telltale, None, Limits(streams=20, burst=1000))
    with serving(create_app(jobs)) as running, ThreadPoolExecutor(20) as pool:

        def watch(client: int) -> list[tuple[int, int, int]]:
            told = []
            with connect(running.replace("http", "ws") + "api/beat", open_timeout=60) as socket:
                start(socket, client, seed=client, ef_percent=20 + client, start_s=float(client))
                for _ in range(1 if client % 7 == 3 else 4):
                    header, frames = received(socket)
                    assert (header["seed"], header["question"]) == (client, client)
                    assert frames is not None
                    told += [telltale.told(frame) for frame in frames]
                if client % 7 == 3:
                    socket.socket.close()  # vanishes in the middle
            return told

        for client, told in enumerate(pool.map(watch, range(20))):
            first = 32 * client
            assert told == [(number, client, 20 + client) for number in range(first, first + len(told))]
            assert len(told) == (32 if client % 7 == 3 else 128)
        assert settles(lambda: jobs.streams.taken == 0)


@pytest.mark.parametrize("kind", ["simulated", "recorded", "live"])
def test_a_heart_that_is_let_go_is_freed_at_once(kind: str, telltale: Any) -> None:
    ecg = next(EndlessEcg("sinus", 60, 1)).between(0, 10)
    feed = Feed(250.0, ("II", "V1", "V5"))
    feed.add(ecg.signal_mv.T.astype("<f4").tobytes())
    recorded = {"rate_hz": 250.0, "lead_names": ["II", "V1", "V5"], "signal_mv": encoded(ecg.signal_mv)}
    asked = {"simulated": SIMULATED, "recorded": {"kind": kind} | recorded, "live": {"kind": kind, "feed": "ward-1"}}[kind]
    beating = VideoStream(StreamRequest.model_validate({"ecg": asked}), telltale, None, feed)
    assert beating.next_part() is not None
    seen = weakref.ref(beating)
    gc.disable()
    try:
        del beating
        assert seen() is None
    finally:
        gc.enable()


def test_clients_that_have_gone_leave_nothing_behind(address: str, jobs: JobQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[weakref.ref[VideoStream]] = []

    def noted(*asked: Any) -> VideoStream:
        beating = VideoStream(*asked)
        seen.append(weakref.ref(beating))
        return beating

    monkeypatch.setattr("echogen.app.serve.sockets.VideoStream", noted)
    for _ in range(3):
        clients = [connect(address + "beat") for _ in range(2)]
        for client in clients:
            start(client, first_frame=encoded(np.zeros((128, 128), np.uint8)))
            received(client)
        for client in clients:
            client.socket.close()  # without a word
        assert settles(lambda: jobs.streams.taken == 0)
    assert len(seen) == 6
    assert settles(lambda: not any(one() for one in seen))


def test_a_recorded_heart_ends_with_its_ecg(address: str) -> None:
    ecg = next(EndlessEcg("sinus", 60, 1)).between(0, 2.5)
    recorded = {
        "kind": "recorded",
        "rate_hz": ecg.rate_hz,
        "lead_names": list(ecg.lead_names),
        "signal_mv": encoded(ecg.signal_mv),
    }
    with connect(address + "beat") as socket:
        start(socket, 9, ecg=recorded)
        seen = [received(socket)[0] for _ in range(4)]
    assert [header["type"] for header in seen] == ["part", "part", "part", "end"]
    assert sum(header["frames"] for header in seen[:3]) == 80
    assert (seen[3]["question"], seen[3]["until_s"]) == (9, 2.5)


def test_a_live_ecg_is_followed_as_it_comes(address: str, jobs: JobQueue, telltale: Any) -> None:
    ecg = next(EndlessEcg("sinus", 80, 2))
    chunk = 50

    def send(feeder: Any, first: int, last: int) -> None:
        for at in range(first, last, chunk):
            feeder.send(ecg.signal_mv[:2, at : at + chunk].T.astype("<f4").tobytes())

    with connect(address + "feed/ward-1?rate_hz=250&lead=II&lead=V1") as feeder:
        assert json.loads(feeder.recv(timeout=30)) == {"type": "ready", "feed": "ward-1"}
        with connect(address + "feed/ward-2") as second:
            assert "busy" in received(second)[0]
        with connect(address + "beat") as socket:
            start(socket, ecg={"kind": "live", "feed": "ward-1"}, seed=3)
            send(feeder, 0, 450)
            with pytest.raises(TimeoutError):
                socket.recv(timeout=0.3)
            # The first frame, once there is what a live heart wants to have heard; then short parts, as the ECG comes.
            send(feeder, 450, 600)
            header, frames = received(socket)
            assert header["frames"] == 1
            send(feeder, 600, 1000)
            assert (header["type"], header["ecg"]["lead"]) == ("part", "II")
            assert frames is not None
            assert telltale.told(frames[0])[1] == 3
            more, _ = received(socket)
            assert more["times_s"][0] == pytest.approx(header["times_s"][-1] + 1 / 32)
            assert more["frames"] == 8
            feeder.send(b"abc")
            assert "whole samples" in json.loads(feeder.recv(timeout=30))["error"]
        assert settles(lambda: jobs.feeds.names == [])
    with connect(address + "beat") as socket:
        start(socket, ecg={"kind": "live", "feed": "ward-1"})
        assert "no live ECG named" in received(socket)[0]["error"]


def test_a_client_that_goes_frees_its_place_and_one_too_many_is_told_to_wait(address: str, jobs: JobQueue) -> None:
    first, second = connect(address + "beat"), connect(address + "beat")
    start(first)
    received(first)
    assert settles(lambda: jobs.streams.taken == 2)
    with connect(address + "beat") as third:
        told, _ = received(third)
        assert (told["busy"], told["retry_after_s"], "2 streams" in told["error"]) == (True, 15, True)
        with pytest.raises(ConnectionClosed):
            third.recv(timeout=30)
    first.socket.close()  # without a word
    second.close()
    assert settles(lambda: jobs.streams.taken == 0)
    with connect(address + "beat") as socket:
        start(socket)
        assert received(socket)[0]["type"] == "part"


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        ("nonsense", "not understood"),
        ("[]", "not understood"),
        ('{"type": "dance"}', "not understood"),
        ('{"type": "start", "heart": {}}', "ecg cannot be used"),
        ('{"type": "start", "heart": {"ecg": {"kind": "simulated", "heart_rate_bpm": 1000}}}', "heart_rate_bpm cannot be used"),
        ('{"type": "start", "heart": {"ecg": {"kind": "simulated"}, "ef_percent": 3}}', "from 15 to 80"),
    ],
)
def test_a_message_that_is_wrong_is_answered_and_the_stream_goes_on(message: str, sentence: str, address: str) -> None:
    with connect(address + "beat") as socket:
        socket.send(message)
        assert sentence in received(socket)[0]["error"]
        start(socket)
        assert received(socket)[0]["type"] == "part"


def test_a_stream_that_nobody_looks_at_ends(telltale: Any, serving: Any) -> None:
    jobs = JobQueue(telltale, None, Limits(idle_s=0.2))
    with serving(create_app(jobs)) as running, connect(running.replace("http", "ws") + "api/beat") as socket:
        start(socket)
        header, _ = received(socket)
        while header["type"] == "part":
            header, _ = received(socket)
        assert "nobody looked at it" in header["error"]
        assert settles(lambda: jobs.streams.taken == 0)


def test_strangers_and_other_sites_get_no_stream(jobs: JobQueue, serving: Any) -> None:
    with serving(create_app(jobs, token="letmein42", hosts=("127.0.0.1",))) as running:
        beat = running.replace("http", "ws") + "api/beat"
        refused: list[dict[str, Any]] = [
            {},
            {"subprotocols": ["echogen", "token.letmein43"]},
            {"subprotocols": ["echogen", "token.letmein42"], "origin": "http://elsewhere.example"},
            {"subprotocols": ["echogen", "token.letmein42"], "additional_headers": {"Host": "rebound.example"}},
        ]
        for given in refused:
            with pytest.raises(InvalidStatus) as answer:
                connect(beat, **given)
            assert answer.value.response.status_code in (400, 401, 403)
        with connect(beat, subprotocols=["echogen", "token.letmein42"], origin=running[:-1]) as socket:  # type: ignore[list-item, arg-type]
            assert socket.subprotocol == "echogen"


def test_the_shipped_heart_is_streamed_bit_for_bit_as_a_direct_call_makes_it() -> None:
    from echogen.generators import Generator
    from echogen.measurement import load_segmenter

    heart = Generator.from_pretrained("phantom-128", "cpu")
    asked = {"ecg": SIMULATED, "start_s": 21.0, "ef_percent": 35.0, "view": "A4C", "seed": 4}
    beating = VideoStream(StreamRequest.model_validate(asked), heart, load_segmenter())
    parts = [beating.next_part() for _ in range(2)]
    assert parts[0] is not None
    assert parts[1] is not None
    clip = ClipRequest.model_validate(asked | {"seconds": 3.0})
    ecg, begin = clip_ecg(clip, heart)
    cine = heart(ecg, seconds=3.0, start_s=begin, ef_percent=35.0, view="A4C", seed=4)
    streamed = np.concatenate([part.cine.frames for part in parts if part is not None])[: len(cine.frames)]
    np.testing.assert_array_equal(streamed, cine.frames)
    assert parts[1].ef_percent == pytest.approx(35, abs=15)
    assert parts[1].ecg_rate_bpm == pytest.approx(72, abs=8)
    outline = parts[0].outline
    assert outline is not None
    assert outline.shape == (65, 48, 2)
    assert np.isfinite(outline).mean() > 0.9


@pytest.mark.parametrize("rhythm", ["sinus", "af", "pvc", "pause", "paced"])
def test_an_endless_ecg_is_the_same_wherever_one_begins(rhythm: str) -> None:
    whole = EndlessEcg(rhythm, 70, 8)
    pieces = [next(whole) for _ in range(5)]
    later = EndlessEcg(rhythm, 70, 8, after_s=65.0)
    np.testing.assert_array_equal(next(later).signal_mv, pieces[3].signal_mv)
    np.testing.assert_array_equal(next(later).signal_mv, pieces[4].signal_mv)
    assert [piece.start_s for piece in pieces] == [0, 20, 40, 60, 80]
    joined = Ecg(np.concatenate([piece.signal_mv for piece in pieces], axis=1), 250.0, pieces[0].lead_names)
    found = find_landmarks(joined)
    if rhythm in ("sinus", "paced"):
        assert found.heart_rate_bpm == pytest.approx(70, rel=0.04)
        assert np.diff(found.r_s).max() < 1.25 * np.median(np.diff(found.r_s))
    assert np.diff(found.r_s).min() > 0.25
    assert not np.array_equal(next(EndlessEcg(rhythm, 70, 9)).signal_mv, pieces[0].signal_mv)


def test_an_outline_follows_the_cavity() -> None:
    rows, columns = np.indices((128, 128))
    mask = ((rows - 60) ** 2 / 30**2 + (columns - 70) ** 2 / 15**2 < 1).astype(np.uint8)
    edge = outlines(np.stack([mask, 0 * mask]))
    assert np.isnan(edge[1]).all()
    distance = np.hypot((edge[0, :, 0] - 70) / 15, (edge[0, :, 1] - 60) / 30)
    np.testing.assert_allclose(distance, 1.0, atol=0.08)


def test_a_rate_limit_refills_and_forgets() -> None:
    now = [0.0]
    limit = RateLimit(60, 2, lambda: now[0])
    for _ in range(2):
        limit.check("a")
    limit.check("b")
    with pytest.raises(Refused) as refused:
        limit.check("a")
    assert refused.value.retry_after_s == 1 or refused.value.retry_after_s == 2
    now[0] = 1.1
    limit.check("a")


def test_a_listener_that_falls_behind_is_told() -> None:
    feed = Feed(250.0, ("II",))
    feed.add(np.zeros(500, "<f4").tobytes())
    listener = feed.listen()
    assert next(listener).end_s == 2.0
    for _ in range(20):
        feed.add(np.zeros(500, "<f4").tobytes())
    with pytest.raises(InputError, match="lost its thread"):
        next(listener)
    feeds = Feeds(2)
    feeds.open("a", 250.0, ("II",))
    with pytest.raises(InputError, match="already"):
        feeds.open("a", 250.0, ("II",))

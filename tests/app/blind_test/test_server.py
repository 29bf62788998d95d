"""The calls of the blind test's page, and the page itself in a browser."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from echogen.app.blind_test.clips import encoded_clips, set_up
from echogen.app.blind_test.session import BlindTest, Plan, answers_path, read_answers, showings
from echogen.errors import InputError

pytest.importorskip("fastapi", reason="the extra serve is not installed")
testclient = pytest.importorskip("fastapi.testclient", reason="httpx2 is not installed")

from echogen.app.blind_test.server import MOST_BODY_BYTES, Desk, create_app  # noqa: E402
from echogen.app.page import listen  # noqa: E402

Prepared = tuple[BlindTest, tuple[bytes, ...]]
GOOD = {"answer": "real", "confidence": 4, "quality": 2, "seconds": 1.5}


def nothing(done: float, total: float) -> None:
    pass


@pytest.fixture(scope="module")
def prepared(folders: tuple[Path, Path]) -> Prepared:
    test, _ = set_up(Plan(str(folders[0]), str(folders[1]), 4, 0, 1.0), nothing)
    return test, encoded_clips(test, nothing)


def client_of(prepared: Prepared, folder: Path, *, show_result: bool = False, **settings: Any) -> Any:
    return testclient.TestClient(create_app(Desk(*prepared, folder, show_result=show_result), **settings))


def begin(client: Any, reader: str = "Ada") -> dict[str, Any]:
    response = client.post("/api/next", json={"reader": reader})
    assert response.status_code == 200, response.text
    return dict(response.json())


def test_a_reader_answers_all_clips_and_may_stop_in_between(prepared: Prepared, tmp_path: Path) -> None:
    test, videos = prepared
    state = begin(client_of(prepared, tmp_path))
    for done, (index, _) in enumerate(showings(test, "ada")):
        # As if the page had been closed and the server started anew.
        client = client_of(prepared, tmp_path)
        state = begin(client, " ADA")
        assert (state["reader"], state["done"], state["total"]) == ("ada", done, 4)
        assert client.get(f"/api/clips/{state['clip']}").content == videos[index]
        state = client.post("/api/answers", json=GOOD | {"clip": state["clip"]}).json()
    assert state == {"reader": "ada", "done": 4, "total": 4}
    stored = read_answers(answers_path(tmp_path, "ada"))
    assert [answer.position for answer in stored] == [0, 1, 2, 3]
    assert [answer.real for answer in stored] == [test.clips[index].real for index, _ in showings(test, "ada")]
    assert {answer.clip for answer in stored} == {f"{'real' if c.real else 'generated'}/{c.name}" for c in test.clips}
    assert {(answer.said_real, answer.confidence, answer.quality, answer.seconds) for answer in stored} == {(True, 4, 2, 1.5)}


def test_the_result_is_told_only_if_asked_for(prepared: Prepared, tmp_path: Path) -> None:
    client = client_of(prepared, tmp_path, show_result=True)
    state = begin(client)
    while "clip" in state:
        assert "result" not in state
        state = client.post("/api/answers", json=GOOD | {"clip": state["clip"]}).json()
    assert state["result"] == {"right": 2, "of": 4}
    assert begin(client)["result"] == {"right": 2, "of": 4}
    assert "result" not in begin(client_of(prepared, tmp_path))


def test_nothing_that_the_page_gets_tells_the_kind(prepared: Prepared, tmp_path: Path) -> None:
    client = client_of(prepared, tmp_path)
    lengths, headers = set(), set()
    for reader in ("a", "b", "c", "d"):
        state = begin(client, reader)
        assert set(state) == {"reader", "done", "total", "clip"}
        response = client.get(f"/api/clips/{state['clip']}")
        lengths.add(len(response.content))
        headers.add(tuple(sorted(response.headers.items())))
    assert len(lengths) == len(headers) == 1
    assert dict(headers.pop())["cache-control"] == "no-store"


def test_the_first_answer_to_a_clip_stays(prepared: Prepared, tmp_path: Path) -> None:
    client = client_of(prepared, tmp_path)
    clip = begin(client)["clip"]
    states = [client.post("/api/answers", json=GOOD | {"clip": clip, "answer": said}).json() for said in ("real", "generated")]
    assert states[0] == states[1]
    assert [answer.said_real for answer in read_answers(answers_path(tmp_path, "ada"))] == [True]


@pytest.mark.parametrize(
    ("path", "body", "status", "sentence"),
    [
        ("/api/next", {"reader": " ./ "}, 400, "at least one letter or digit"),
        ("/api/next", {"reader": "a" * 300}, 422, "not complete"),
        ("/api/next", {}, 422, "not complete"),
        ("/api/next", {"reader": "a" * MOST_BODY_BYTES}, 413, "Too Large"),
        ("/api/answers", GOOD | {"clip": "0" * 24}, 400, "not part of your test"),
        ("/api/answers", GOOD | {"clip": "x", "confidence": 6}, 422, "not complete"),
        ("/api/answers", GOOD | {"clip": "x", "quality": True}, 422, "not complete"),
        ("/api/answers", GOOD | {"clip": "x", "answer": "fake"}, 422, "not complete"),
        ("/api/answers", GOOD | {"clip": "x", "seconds": -1}, 422, "not complete"),
        ("/api/elsewhere", {}, 405, "takes no such request"),
    ],
)
def test_a_request_that_is_wrong_gets_one_sentence(
    path: str, body: dict[str, Any], status: int, sentence: str, prepared: Prepared, tmp_path: Path
) -> None:
    response = client_of(prepared, tmp_path).post(path, json=body)
    assert response.status_code == status
    assert sentence in response.text
    assert list(tmp_path.iterdir()) == []


def test_unknown_addresses_are_answered_in_one_sentence(prepared: Prepared, tmp_path: Path) -> None:
    client = client_of(prepared, tmp_path)
    assert client.get("/api/clips/nonsense").status_code == 400
    assert "open the page anew" in client.get("/elsewhere").json()["error"]
    for address in ("/../blind_server.py", "/%2e%2e/%2e%2e/blind_server.py", "/docs", "/openapi.json"):
        assert client.get(address).status_code == 404


def test_a_token_keeps_strangers_out(prepared: Prepared, tmp_path: Path) -> None:
    client = client_of(prepared, tmp_path, token="letmein42")
    for headers in ({}, {"X-Token": "letmein43"}):
        assert client.post("/api/next", json={"reader": "ada"}, headers=headers).status_code == 401
        assert client.get("/api/clips/x", headers=headers).status_code == 401
        assert client.post("/api/answers", json=GOOD | {"clip": "x"}, headers=headers).status_code == 401
    assert client.post("/api/next", json={"reader": "ada"}, headers={"X-Token": "letmein42"}).status_code == 200


def test_only_the_own_names_of_the_machine_are_answered(prepared: Prepared, tmp_path: Path) -> None:
    client = client_of(prepared, tmp_path, allowed_hosts=("127.0.0.1",))
    assert client.get("/", headers={"Host": "elsewhere.example"}).status_code == 400
    assert client.get("/", headers={"Host": "127.0.0.1:8000"}).status_code == 200


def test_there_is_a_most_of_readers(prepared: Prepared, tmp_path: Path) -> None:
    for index in range(100):
        answers_path(tmp_path, f"reader-{index}").touch()
    client = client_of(prepared, tmp_path)
    assert begin(client, "reader 5")["done"] == 0
    response = client.post("/api/next", json={"reader": "one more"})
    assert (response.status_code, "100 readers take part already" in response.json()["error"]) == (400, True)


def test_an_answer_that_cannot_be_stored_is_not_lost_silently(prepared: Prepared, tmp_path: Path) -> None:
    folder = tmp_path / "answers"
    folder.mkdir()
    client = client_of(prepared, folder)
    clip = begin(client)["clip"]
    folder.rmdir()
    response = client.post("/api/answers", json=GOOD | {"clip": clip})
    assert (response.status_code, "could not be stored" in response.json()["error"]) == (507, True)
    folder.mkdir()
    assert client.post("/api/answers", json=GOOD | {"clip": clip}).json()["done"] == 1


def test_a_port_that_is_taken_is_one_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(InputError, match=r"cannot be put at 127\.0\.0\.1, port \d+ .*--port"):
            listen("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(InputError, match="--host"):
        listen("no-such-host.invalid", 0)


@pytest.fixture
def address(prepared: Prepared, tmp_path: Path, serving: Any) -> Iterator[str]:
    """A running server whose readers learn their result; it keeps answers in tmp_path."""
    app = create_app(Desk(*prepared, tmp_path, show_result=True), token="letmein42")
    with serving(app) as running:
        yield f"{running}#letmein42"


def wait_until(page: Any, condition: str) -> None:
    """Playwright's own waiting evaluates text in the page, which the page's security policy forbids."""
    for _ in range(600):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"the page never came to {condition}")


@pytest.mark.parametrize("size", [(1280, 800), (390, 844), (360, 640)])
def test_a_test_is_taken_by_keyboard(
    size: tuple[int, int], browser: Any, address: str, prepared: Prepared, tmp_path: Path
) -> None:
    page = browser.new_page(viewport={"width": size[0], "height": size[1]})
    faults: list[str] = []
    page.on("console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(address)
    wait_until(page, "document.activeElement.id === 'reader'")  # keys before that go nowhere
    page.keyboard.type("Ada L.")
    page.keyboard.press("Enter")
    given = [("r", 5, 1), ("g", 4, 2), ("r", 3, 3), ("g", 1, 5)]
    for number, (kind, confidence, quality) in enumerate(given, start=1):
        page.get_by_text(f"Clip {number} of 4").wait_for()
        wait_until(page, "video.currentTime > 0.1 && !busy")
        assert page.evaluate("[video.videoWidth, video.videoHeight]") == [128, 128]
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.locator("#next").is_disabled()
        page.keyboard.press("Enter")  # too early, so it does nothing
        page.keyboard.press("g")
        page.keyboard.press("2")
        page.keyboard.press("Backspace")
        page.keyboard.press(kind)  # changes the mind
        page.keyboard.press(str(confidence))
        page.keyboard.press(str(quality))
        assert page.locator("#next").is_enabled()
        if number == 2:
            page.keyboard.press(" ")
            box = page.locator("#next").bounding_box()
            assert box["y"] + box["height"] <= size[1], "the whole form fits the window"
            page.screenshot(path=tmp_path / "clip.png")
        page.keyboard.press("Enter")
    page.get_by_text("Thank you").wait_for()
    page.screenshot(path=tmp_path / "thanks.png")
    stored = read_answers(answers_path(tmp_path, "ada-l"))
    assert len(stored) == 4
    right = sum(answer.right for answer in stored)
    assert f"You were right about {right} of 4 clips." in page.locator("#thanks-text").inner_text()
    assert [("r" if a.said_real else "g", a.confidence, a.quality) for a in stored] == given
    assert all(0 < answer.seconds < 120 for answer in stored)
    assert faults == []
    page.close()


def test_a_page_without_its_token_says_so(browser: Any, address: str) -> None:
    page = browser.new_page()
    page.goto(address.split("#")[0])
    page.fill("#reader", "Ada")
    page.click("text=Start")
    page.get_by_text("open it with the word that you were given").wait_for()
    page.close()


def test_a_test_is_taken_by_mouse_and_gone_on_with(browser: Any, address: str, tmp_path: Path) -> None:
    for number in (1, 2):
        page = browser.new_page()
        page.goto(address)
        page.fill("#reader", "bob")
        page.click("text=Start")
        page.get_by_text(f"Clip {number} of 4").wait_for()
        wait_until(page, "video.currentTime > 0.1 && !busy")
        page.check("#kind input[value=generated]")
        page.check("#confidence input[value='4']")
        page.check("#quality input[value='3']")
        page.click("#next")
        page.get_by_text(f"Clip {number + 1} of 4").wait_for()
        page.close()
    lines = answers_path(tmp_path, "bob").read_text().splitlines()
    assert [json.loads(line)["answer"] for line in lines] == ["generated", "generated"]
